"""Losses and gradients that are not finite: what is said, what is undone, and what goes on."""

import copy
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from engine.processes import FUSION, VGG
from engine.runs import NO_SCORES, Noise, runner, same
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from fcn_plugin.engine import BadNumbersHook, BFloat16OptimWrapper, CompileHook
from fcn_plugin.engine.bad_numbers import REMEDIES
from fcn_plugin.engine.bad_origin import Batch, Origin, find_origin, nonfinite_kind
from fcn_plugin.errors import UserError

NAN, INF = float("nan"), float("inf")

# --- whole runs ----------------------------------------------------------------------------------


class Spoil(Hook):
    """Makes the third batch, or gradients from there on, NaN; keeps what was before each."""

    priority = "VERY_HIGH"

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.states: list[dict] = []
        self.chances: list[torch.Tensor] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.states.append(state(runner))
        self.chances.append(torch.get_rng_state())
        if self.fault == "image" and runner.iter == 2:
            data_batch["inputs"][1, 0] = NAN
        if self.fault == "gradient" and runner.iter == 2:
            runner.model.weight.register_hook(lambda gradient: gradient * NAN)


def state(runner) -> dict:
    """Weights, buffers and what the optimizer keeps."""
    return copy.deepcopy(
        dict(model=runner.model.state_dict(), optimizer=runner.optim_wrapper.state_dict())
    )


def train(folder, loop, fault="", action="stop", **settings):
    """Four iterations; gives the runner, also of a run that was stopped, and the spoiler."""
    dataset, spoil = Noise(), Spoil(fault)
    settings |= dict(dataset=dataset, train_cfg=dict(type=loop), **NO_SCORES)
    run, spoil.reads = runner(folder, 4, **settings), dataset.reads
    run.register_hook(spoil)
    if action:
        run.register_hook(dict(type="BadNumbersHook", action=action))
    run.said = ""
    try:
        run.train()
    except UserError as error:
        run.said = str(error)
    return run, spoil


@pytest.mark.parametrize("loop", ["IterBasedTrainLoop", "ExactTrainLoop"])
def test_a_run_stops_and_meets_the_same_batch_when_resumed(tmp_path, loop):
    """Its checkpoint is of before the step, with the statistics that a bad image has spoilt."""
    run, spoil = train(tmp_path / "first", loop, "image")
    file, before = tmp_path / "first/bad_numbers_iter_3.pth", spoil.states[2]
    assert run.iter == 2
    assert run.said.startswith("iteration 3: the gradient is not finite (loss nan); the image its")
    assert run.said.endswith(f"the weights before iteration 3 are in {file}; {REMEDIES['image']}")
    stored = torch.load(file, weights_only=True)
    assert same(stored["state_dict"], before["model"]) and same(state(run), before)
    assert same(stored["optimizer"], before["optimizer"])
    assert (tmp_path / "first/last_checkpoint").read_text().endswith("iter_2.pth")
    again, spoilt = train(tmp_path / "again", loop, "image", resume=True, load_from=str(file))
    assert spoilt.reads[-2:] == spoil.reads[-2:]
    assert again.said.split("; the weights")[0] == run.said.split("; the weights")[0]


def test_the_hook_leaves_no_trace(tmp_path):
    """Bit for bit without a fault; with one, the random numbers to come are the same."""
    loop = "IterBasedTrainLoop"  # which draws one stream of random numbers
    without, alone = train(tmp_path / "without", loop, action=None)
    with_hook, watched = train(tmp_path / "with", loop, action="skip")
    assert same(watched.states, alone.states) and same(state(with_hook), state(without))
    _, skipped = train(tmp_path / "skipped", loop, "gradient", action="skip")
    assert same(skipped.chances, alone.chances)


# --- the smallest of models, in what the hook sees of a run --------------------------------------


class Line(BaseModel):
    """y = a + b; its loss and gradients are what the test gives as ``inputs``."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(1, 1)
        self.b = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        y = self.a(inputs) + self.b(inputs)
        return dict(loss=y.sum()) if mode == "loss" else y


class Run:
    """What the hook sees of a run of ``Line``."""

    def __init__(self, folder, wrapper: Callable | None = None, **settings) -> None:
        self.model = Line().train()
        self.optim_wrapper = (wrapper or sgd)(self.model)
        self.iter, self.work_dir = 0, str(folder)
        self.message_hub = SimpleNamespace(runtime_info={})
        self.said: list[str] = []
        self.saved: list[tuple] = []
        self.logger = SimpleNamespace(warning=self.said.append)
        self.hook = BadNumbersHook(**settings)
        self.hook.before_train(self)

    def save_checkpoint(self, folder, name, meta, **_) -> None:
        self.saved.append((name, meta["iter"]))

    def iterate(self, *batches: torch.Tensor) -> None:
        for inputs in batches:
            samples = [SimpleNamespace(metainfo=dict(img_path=f"{self.iter + 1}.jpg"))]
            batch = dict(inputs=inputs, data_samples=samples)
            self.hook.before_train_iter(self, self.iter, batch)
            outputs = self.model.train_step(batch, self.optim_wrapper)
            self.hook.after_train_iter(self, self.iter, batch, outputs)
            self.iter += 1

    def stop(self, inputs: torch.Tensor) -> str:
        """What is said when this batch stops it."""
        with pytest.raises(UserError) as error:
            self.iterate(inputs)
        return str(error.value)

    def spoil(self) -> Any:
        """NaN in the gradient of one parameter from here on."""
        return self.model.b[1].weight.register_hook(lambda gradient: gradient * NAN)


FINE = torch.arange(1.0, 5.0)[:, None]
BAD = FINE * NAN


def sgd(model, **settings) -> OptimWrapper:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    return OptimWrapper(optimizer, **settings)


@pytest.mark.parametrize("clip", [None, dict(max_norm=1.0)], ids=str)
def test_a_skipped_step_changes_nothing(tmp_path, clip):
    """Weights, momenta and BatchNorm's statistics stay, with weight decay too."""
    run = Run(tmp_path, partial(sgd, clip_grad=clip), action="skip")
    run.iterate(FINE)
    before = state(run)
    run.iterate(BAD)
    assert same(state(run), before)
    run.iterate(FINE, BAD)
    after = state(run)
    assert not same(after["model"], before["model"])
    assert not any(map(nonfinite_kind, after["model"].values()))
    assert run.saved == [("bad_numbers_iter_2.pth", 1)]
    assert run.said[1].startswith("iteration 4: ")
    assert run.said[1].endswith("step skipped (2 of at most 10)")


def test_a_resumed_run_goes_on_counting_skipped_steps(tmp_path):
    run = Run(tmp_path, action="skip", max_skipped=2)
    run.iterate(BAD, FINE)
    resumed = Run(tmp_path, action="skip", max_skipped=2)
    resumed.message_hub = run.message_hub  # a part of every checkpoint
    resumed.hook.before_train(resumed)
    resumed.iterate(BAD)
    assert resumed.said[0].endswith("step skipped (2 of at most 2)")
    assert "more than max_skipped=2 steps" in resumed.stop(BAD)


def test_a_step_whose_gradient_is_finite_is_made(tmp_path):
    """Of a loss that overflows, and of gradients whose norm does."""
    run = Run(tmp_path, action="skip", max_skipped=1)
    for layer in (run.model.a, run.model.b[1]):
        layer.bias.data.fill_(3e38)
        layer.weight.register_hook(lambda gradient: torch.full_like(gradient, 3e38))
    before = state(run)
    run.iterate(FINE)
    assert not same(state(run)["model"], before["model"])
    assert run.saved == [("bad_numbers_iter_1.pth", 1)]
    (said,) = run.said
    assert "the loss is not finite (loss inf); the outputs of all layers are finite" in said
    assert "weights after iteration 1" in said and "step made" in said


def test_gradients_accumulate_until_the_step(tmp_path):
    """A bad batch takes those with it that were to make the same step."""
    run = Run(tmp_path, partial(sgd, accumulative_counts=2), action="skip", max_skipped=1)
    states = []
    for inputs in (FINE, FINE, BAD, FINE):
        run.iterate(inputs)
        states.append(state(run)["optimizer"])
    assert [same(one, two) for one, two in pairwise(states)] == [False, True, False]
    assert not any(map(nonfinite_kind, run.model.state_dict().values()))
    spoilt = run.spoil()
    run.iterate(FINE)
    spoilt.remove()
    said = run.stop(FINE)
    assert "iteration 6: the gradient is not finite (loss" in said
    gradient_of = "of the last batch, but in the gradient of b.1.weight; images 5.jpg, 6.jpg; the"
    assert f"not found again in a second pass {gradient_of}" in said


class Scaled(AmpOptimWrapper):
    """mmengine's, which asks for a GPU where it is made and nowhere else."""

    def __init__(self, model, **settings) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, **settings)
        OptimWrapper.__init__(self, optimizer)
        self._scale_update_param, self.cast_dtype = None, torch.bfloat16
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)


@pytest.mark.parametrize("fused", [False, True])
def test_overflows_are_no_fault_unless_they_never_end(tmp_path, fused):
    """The scaler leaves out the step, or a fused optimizer that unscales its gradients itself."""
    run = Run(tmp_path, partial(Scaled, fused=fused))
    before = copy.deepcopy(dict(run.model.named_parameters()))
    run.iterate(torch.full((2, 1), 1e34))
    assert same(dict(run.model.named_parameters()), before)
    assert run.optim_wrapper.loss_scaler.get_scale() == 2.0**15
    run.iterate(*[FINE] * 102)
    assert not same(dict(run.model.named_parameters()), before)
    assert not any(map(nonfinite_kind, run.model.parameters()))
    run.spoil()
    run.iterate(*[FINE] * 100)
    assert run.said == []
    assert re.search(r"iteration 204: the gradient is .*, however .*: b.1 ", run.stop(FINE))
    assert "the loss is not finite (loss nan)" in Run(tmp_path, Scaled).stop(BAD)


# --- the search for the origin -------------------------------------------------------------------


def network(**backbone) -> nn.Module:
    """A tiny FCN-8s with an auxiliary head of mmseg's, ready to train."""
    fcn = dict(type="FCNHead", in_channels=8, in_index=0, channels=4, num_classes=5)
    return MODELS.build(
        dict(
            type="FCNSegmentor",
            data_preprocessor=dict(type="SegDataPreProcessor"),
            backbone=dict(VGG, norm_cfg=dict(type="BN")) | backbone,
            decode_head=FUSION,
            auxiliary_head=fcn,
        )
    ).train()


def origin_of(model, inputs=None, precision=None) -> Origin:
    images = torch.rand(2, 3, 32, 32) * 255 - 115 if inputs is None else inputs
    truth = PixelData(data=torch.randint(0, 5, (1, 32, 32)))
    meta = dict(img_shape=(32, 32), ori_shape=(32, 32))
    samples = [SegDataSample(gt_sem_seg=truth, metainfo=meta) for _ in images]
    batch = Batch.of(dict(inputs=images, data_samples=samples))
    return find_origin(model, batch, precision or nullcontext())


def test_every_layer_is_named():
    """Each weight of each layer in turn is not finite, then each gradient."""
    model = network()
    clean, tried = copy.deepcopy(model.state_dict()), 0
    for name, layer in model.named_modules():
        title = f"{name} ({type(layer).__name__})"
        for parameter in layer.parameters(recurse=False):
            parameter.data[-1] = NAN
            assert origin_of(model) == Origin("weight", title, "nan")
            model.load_state_dict(clean)
            handle = parameter.register_hook(lambda gradient: gradient * NAN)
            assert origin_of(model) == Origin("gradient", title, "nan")
            handle.remove()
            assert parameter.grad is None
            tried += 1
    assert tried == len(list(model.parameters())) > 40
    assert origin_of(model) == Origin()


@pytest.mark.parametrize("name", ["recomputed", pytest.param("compiled", marks=pytest.mark.slow)])
def test_the_layer_is_found_in(name):
    model = network(**dict(with_cp=True, padding="reference") if name == "recomputed" else {})
    if name == "compiled":
        run = SimpleNamespace(model=model, logger=SimpleNamespace(info=print))
        CompileHook(backend="eager").before_train(run)
    layer = model.backbone.stages[2].conv3_1
    layer.weight.register_hook(lambda gradient: gradient * NAN)
    wrapper = BFloat16OptimWrapper(sgd(model).optimizer)
    title = "backbone.stages.2.conv3_1 (PlainGradientConv)"
    for precision in (nullcontext(), wrapper.optim_context(model)):
        assert origin_of(model, precision=precision) == Origin("gradient", title, "nan")


def test_a_loss_is_named():
    """Of scores so far apart that the loss is inf and its gradient is not."""
    model = network()
    bias = model.decode_head.score[-1].bias.data
    bias[::2], bias[1::2] = 1.5e38, -1.5e38
    title = "decode_head.loss_decode (CrossEntropyLoss)"
    assert origin_of(model) == Origin("output", title, "inf")


def test_only_the_images_concerned_are_named():
    images = torch.rand(4, 3, 32, 32) - 0.5
    images[[1, 3]] = images[[1, 3]].sign() * 3e38
    origin = origin_of(network(), images)
    layer = "backbone.stages.0.conv1_1 (PlainGradientConv)"
    assert origin == Origin("output", layer, "inf", [1, 3])
    assert origin.of(list("abcd")) == ["b", "d"]
