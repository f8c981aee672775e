"""The published recipes: what a config makes of an image is what Caffe's solver made of it.

Training steps of the shipped configs, of which only the widths are reduced and dropout is taken
out, against updates worked out from the solver's rule with the independent network of
tests/reference.py. In float64; 1e-6 relative is what remains of an update of 1e-9 to a weight of
one.
"""

from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "configs"
MEAN = torch.tensor([104.00699, 116.66877, 122.67892], dtype=torch.float64)[:, None, None]
VOID = 255
TOLERANCE = 1e-6


def config(name: str, **options) -> Config:
    cfg = Config.fromfile(FOLDER / f"{name}.py")
    cfg.merge_from_dict(options)
    return cfg


# --- training steps ---------------------------------------------------------------------------

AT_ONCE = "fcn8s-atonce_vgg16_voc2011-heavy"
ALEXNET, SIFTFLOW = "fcn32s_alexnet_voc2011", "fcn32s_vgg16_siftflow-heavy"
SIFTFLOW_MEAN = torch.tensor([114.578, 115.294, 108.353], dtype=torch.float64)[:, None, None]
# What makes the networks small, and leaves out dropout; nothing else of the configs is changed.
NARROW = {
    "model.backbone.base_channels": 2,
    "model.backbone.fc_channels": 8,
    "model.backbone.dropout_ratio": 0.0,
    "model.backbone.init_cfg": None,
}
SCORED = {AT_ONCE: (8, 16, 8), ALEXNET: (8,), SIFTFLOW: (8,)}
SCORES = {
    "fcn8s-atonce": ("score_pool3", "score_pool4", "score_fr"),
    "fcn-alexnet": ("score_fr",),
    "siftflow-fcn32s": ("score_fr",),
}
# config: Caffe's network, images in an update, updates, rate, momentum, whether the loss is a
# mean, and the layers whose biases learn at twice the rate without decay.
SOLVERS = {
    AT_ONCE: ("fcn8s-atonce", 1, 3, 1e-10, 0.99, False, ""),
    # Caffe voc-fcn-alexnet/net.py says so of the score layer only; the others have 1 for both.
    ALEXNET: ("fcn-alexnet", 20, 2, 1e-4, 0.9, True, "score_fr"),
    SIFTFLOW: ("siftflow-fcn32s", 1, 3, 1e-10, 0.99, False, ""),
}


def built(name: str, **mistake):
    """Model, with weights that leave no gradient zero, and optimizer of a config."""
    cfg = config(name, **NARROW, **{"model.decode_head.in_channels": SCORED[name]})
    for head in cfg.model.get("task_heads", {}).values():
        head.in_channels = SCORED[name]
    cfg.merge_from_dict(mistake)
    torch.manual_seed(1)
    model = MODELS.build(cfg.model).double()
    model.init_weights()
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(parameter)
        elif key.startswith(("decode_head", "task_heads")):
            torch.nn.init.normal_(parameter, std=0.1)
    return model, build_optim_wrapper(model, cfg.optim_wrapper), cfg


def images(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images BGR x H x W, no two of a size, and labels H x W of which a fifth is void."""
    random = np.random.default_rng(0)
    for number in range(count):
        size = (17 + number % 7, 21 + number % 5)
        label = random.integers(0, 21, size)
        label[random.random(size) < 0.2] = VOID
        yield torch.tensor(random.integers(0, 256, (3, *size), np.uint8)), torch.tensor(label)


def geometric(label: Tensor) -> Tensor:
    """A further label of SIFT Flow, which other networks ignore; void where the first is odd."""
    return torch.where(label % 2 == 1, VOID, label % 3)


def sample(label: Tensor) -> SegDataSample:
    main, further = (PixelData(data=each[None]) for each in (label, geometric(label)))
    return SegDataSample(gt_sem_seg=main, gt_geo_seg=further)


def trained(name: str, steps: int, **mistake) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights before and after ``steps`` iterations of the config, by our names."""
    model, optimizer, cfg = built(name, **mistake)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer.initialize_count_status(model, 0, cfg.train_cfg.max_iters)
    model.train()
    for image, label in images(steps):
        model.train_step(dict(inputs=[image], data_samples=[sample(label)]), optimizer)
    return before, {key: value.detach() for key, value in model.named_parameters()}


@cache
def by_caffe(name: str) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """The weights that both begin with, and those after each update of Caffe's SGD solver.

    Each is V = momentum V + rate (gradient + decay w), w = w - V, with the gradient averaged over
    the images of an update and the rate and decay multiplied as ``net.py`` has it for each.
    """
    net, images_each, updates, lr, momentum, is_mean, doubled = SOLVERS[name]
    start = {key: value.detach() for key, value in built(name)[0].named_parameters()}
    names = {}  # backbone.stages.0.conv1_1.bias: conv1_1.bias, decode_head.score.0.bias: ...
    for key in start:
        *head, _, number, rest = key.removeprefix("task_heads.").split(".", 3)
        names[key] = rest if head == ["backbone"] else f"{SCORES[net][int(number)]}.{rest}"
        if net.startswith("siftflow") and head != ["backbone"]:
            ending = "_sem" if head == ["decode_head"] else "_geo"
            names[key] = names[key].replace(".", f"{ending}.")
    weights = {names[key]: value.clone().requires_grad_() for key, value in start.items()}
    history = {name: torch.zeros_like(value) for name, value in weights.items()}
    stream = images(updates * images_each)
    after = []
    for _ in range(updates):
        for image, label in islice(stream, images_each):
            mean = SIFTFLOW_MEAN if net.startswith("siftflow") else MEAN
            layers = reference.run(net, (image - mean)[None], weights)
            truths = dict(score=label, score_sem=label, score_geo=geometric(label))
            loss = torch.zeros((), dtype=torch.float64)
            for name in truths.keys() & layers.keys():
                valid = truths[name] != VOID
                chosen = layers[name][0][:, valid]  # -log softmax of the true class
                true = chosen.gather(0, truths[name][valid][None])[0]
                losses = chosen.logsumexp(dim=0) - true
                loss = loss + (losses.mean() if is_mean else losses.sum())
            (loss / images_each).backward()
        with torch.no_grad():
            for name, weight in weights.items():
                twice = name.endswith("bias") and name.startswith(doubled)
                rate, decay = (2, 0) if twice else (1, 1)
                step = weight.grad + 5e-4 * decay * weight
                history[name] = momentum * history[name] + lr * rate * step
                weight -= history[name]
                weight.grad = None
        after.append({key: weights[name].detach().clone() for key, name in names.items()})
    return start, after


def worst(start, found, expected) -> float:
    """The largest error of an update, relative to the largest update of that parameter."""
    assert start.keys() == found.keys() == expected.keys()
    errors = {
        key: ((found[key] - expected[key]).abs().max() / (expected[key] - start[key]).abs().max())
        for key in start
    }
    assert all((expected[key] != start[key]).any() for key in start)
    return float(max(errors.values()))


@pytest.mark.parametrize("name", SOLVERS)
def test_a_config_learns_as_in_caffe(name):
    start, expected = by_caffe(name)
    before, after = trained(name, steps=SOLVERS[name][1] * len(expected))
    assert all(torch.equal(before[key], start[key]) for key in start)
    assert worst(start, after, expected[-1]) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "updates", "mistake"),
    [
        (AT_ONCE, 2, {"optim_wrapper.optimizer.weight_decay": 0.0}),
        (AT_ONCE, 2, {"optim_wrapper.paramwise_cfg.bias_lr_mult": 1.0}),
        (ALEXNET, 1, {"model.decode_head.loss_decode.avg_non_ignore": False}),
        (ALEXNET, 1, {"optim_wrapper.accumulative_counts": 40}),
        (SIFTFLOW, 1, {"model.task_heads.geo.loss_decode.loss_weight": 0.5}),
        (SIFTFLOW, 1, {"model.data_preprocessor.mean": MEAN.flatten().tolist()}),
    ],
    ids=str,
)
def test_any_other_recipe_learns_something_else(name, updates, mistake):
    start, expected = by_caffe(name)
    _, after = trained(name, steps=SOLVERS[name][1] * updates, **mistake)
    assert worst(start, after, expected[updates - 1]) > 50 * TOLERANCE


# --- numbers ----------------------------------------------------------------------------------

# config: (levels, images in an update, rate, momentum, updates, initial weights)
RECIPES = {
    "fcn32s_vgg16_voc2011-heavy": (1, 1, 1e-10, 0.99, 100_000, "caffe://vgg16"),
    "fcn16s_vgg16_voc2011-heavy": (2, 1, 1e-12, 0.99, 100_000, None),
    "fcn8s_vgg16_voc2011-heavy": (3, 1, 1e-14, 0.99, 100_000, None),
    "fcn8s-atonce_vgg16_voc2011-heavy": (3, 1, 1e-10, 0.99, 300_000, "caffe://vgg16"),
    "fcn32s_alexnet_voc2011": (1, 20, 1e-4, 0.9, 100_000, "caffe://caffenet"),
    "fcn32s_googlenet_voc2011": (1, 20, 5e-5, 0.9, 100_000, "caffe://googlenet"),
    "fcn32s_vgg16_pascal-context-heavy": (1, 1, 1e-10, 0.99, 300_000, "caffe://vgg16"),
    "fcn16s_vgg16_pascal-context-heavy": (2, 1, 1e-12, 0.99, 300_000, None),
    "fcn8s_vgg16_pascal-context-heavy": (3, 1, 1e-14, 0.99, 300_000, None),
}


@pytest.mark.parametrize("net", ["32s", "16s", "8s"])
def test_sift_flows_numbers_are_those_published(net):
    """Of both heads; of three stages the last has the rate of the second."""
    cfg = config(f"fcn{net}_vgg16_siftflow-heavy")
    voc = config(f"fcn{net}_vgg16_voc2011-heavy")
    voc.optim_wrapper.optimizer.lr = {"32s": 1e-10, "16s": 1e-12, "8s": 1e-12}[net]
    assert cfg.optim_wrapper == voc.optim_wrapper and cfg.param_scheduler is None
    assert cfg.model.backbone == voc.model.backbone
    for head, classes in ((cfg.model.decode_head, 33), (cfg.model.task_heads.geo, 3)):
        assert head == dict(voc.model.decode_head, num_classes=classes)
    assert cfg.train_cfg.max_iters == 100_000
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == 2_000
    loader = cfg.train_dataloader
    assert loader.batch_size == 1 and loader.sampler == dict(type="ReplacementSampler")
    steps = [step.type for step in loader.dataset.pipeline]
    assert steps == ["LoadImageFromFile", *["LoadCheckedLabel"] * 2, "FastPackSegInputs"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_numbers_are_those_published(name):
    levels, accumulated, lr, momentum, updates, weights = RECIPES[name]
    cfg = config(name)
    assert len(cfg.model.decode_head.in_channels) == len(cfg.model.backbone.out_indices) == levels
    assert cfg.optim_wrapper.get("accumulative_counts", 1) == accumulated
    assert cfg.optim_wrapper.optimizer == dict(
        type="SGD", lr=lr, momentum=momentum, weight_decay=5e-4
    )
    assert cfg.param_scheduler is None
    assert cfg.train_cfg.max_iters == updates * accumulated
    pretrained = dict(type="Pretrained", checkpoint=weights)
    assert cfg.model.backbone.init_cfg == (pretrained if weights else None)
    if name != ALEXNET:
        assert cfg.optim_wrapper.paramwise_cfg == dict(bias_lr_mult=2.0, bias_decay_mult=0.0)
    assert cfg.load_from is None
    assert not cfg.env_cfg.cudnn_benchmark
    # Whole images one by one, as they are drawn with replacement.
    loader = cfg.train_dataloader
    assert loader.batch_size == 1 and loader.sampler == dict(type="ReplacementSampler")
    steps = [step.type for step in loader.dataset.pipeline]
    assert steps == ["LoadImageFromFile", "LoadCheckedLabel", "PackSegInputs"]
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    image, label = next(images(1))
    data = preprocessor(dict(inputs=[image], data_samples=[sample(label)]), training=True)
    assert torch.allclose(data["inputs"][0].double(), image - MEAN, atol=2e-3)
    # Every 4,000 updates a snapshot is scored, and the best is kept.
    every = 4_000 * accumulated
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == every
    assert cfg.default_hooks.checkpoint.save_best == "mIoU"
    assert cfg.default_hooks.score_resumed.type == "ScoreResumedHook"
    # Scores start at zero, and nothing else of the head is trained.
    head = MODELS.build(cfg.model.decode_head)
    head.init_weights()
    assert all(key.startswith("score.") for key, _ in head.named_parameters())
    assert not any(value.any() for value in head.parameters())
