"""Train in several gloo processes on the same four images.

The processes are forked from one that has already imported mmseg, which takes seconds.
"""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import distributed, nn

from fcn_plugin.engine.processes import SameBuffersHook

CLASSES, STEPS, LIMIT = 5, 3, 120  # LIMIT in seconds
VGG = dict(type="ConvolutionalizedVGG", depth=11, base_channels=2, fc_channels=8)
FUSION = dict(
    type="SkipFusionHead", in_channels=(8, 16, 8), in_index=(0, 1, 2), num_classes=CLASSES
)
UNPOOLING = dict(type="UnpoolingHead", depth=11, in_channels=16, num_classes=CLASSES)
# Height and width of each image, and the share of its pixels that are void.
IMAGES = (((40, 52), 0.1), ((48, 64), 0.95), ((33, 41), 0.0), ((48, 50), 1.0))
VALID = dict(avg_non_ignore=True)
WEIGHTS = [0.5, 2.0, 1.0, 3.0, 0.1]
HARD = dict(type="OHEMPixelSampler", thresh=0.2, min_kept=2)
GEO = dict(FUSION, num_classes=3)
# Name -> (settings of the loss, settings of the head, further heads).
CASES: dict[str, tuple] = {
    "mean over valid": (VALID, {}),
    "mean over all": ({}, {}),
    "mean by class": (dict(VALID, class_weight=WEIGHTS), {}),
    "mean by class, unpooled": (dict(VALID, class_weight=WEIGHTS), UNPOOLING),
    "a third": (dict(VALID, loss_weight=1 / 3), {}),
    "improbable pixels": (VALID, dict(sampler=HARD)),
    "sum": (dict(reduction="sum"), {}),
    "mmseg's loss": (VALID, dict(blockwise=False)),
    "two tasks": (VALID, {}, dict(geo=GEO)),
}


def results(processes: int, folder: Path, work: Callable, *arguments: Any) -> list:
    """The result of ``work(*arguments)`` in each process; its errors are raised here."""
    folder.mkdir(parents=True)
    multiprocessing.set_forkserver_preload(["mmengine.runner", "fcn_plugin"])
    running = torch.multiprocessing.start_processes(
        _joined, (processes, folder, work, arguments), processes, False, start_method="forkserver"
    )
    end = time.monotonic() + LIMIT
    try:
        while not running.join(timeout=1):
            assert time.monotonic() < end, f"{work.__name__} hangs in {processes} processes"
    finally:
        for process in running.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(processes)]


def _joined(rank: int, processes: int, folder: Path, work: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    init_default_scope("mmseg")
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes
    )
    torch.save(work(*arguments), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def relative(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The length of the difference, relative to that of what is expected."""
    one, other = (torch.cat([t.flatten() for t in tensors]) for tensors in (found, expected))
    return float((one - other).norm() / other.norm())


def segmentor(loss: dict, head: dict, tasks: dict | None = None) -> nn.Module:
    """A tiny network with the same random weights at each call; pads images to 48 x 64."""
    torch.manual_seed(3)
    backbone = dict(out_indices=(4,), switches=True) if head is UNPOOLING else {}
    head = head if head is UNPOOLING else FUSION | head
    model = MODELS.build(
        dict(
            type="FCNSegmentor",
            data_preprocessor=dict(
                type="SegDataPreProcessor", mean=[120.0] * 3, std=[60.0] * 3, size=(48, 64)
            ),
            backbone=dict(VGG, padding="same", dropout_ratio=0.0, **backbone),
            decode_head=dict(head, loss_decode=dict(type="CrossEntropyLoss", **loss)),
            task_heads=tasks,
        )
    )
    for parameter in model.parameters():
        shape = parameter.shape
        # Keeps the activations of all layers at the same scale.
        std = (2 / parameter[0].numel()) ** 0.5 if len(shape) > 1 else 0.1
        nn.init.normal_(parameter, std=std)
    return model


def batch() -> dict:
    """The batch of one step, as from a data loader."""
    generator = torch.Generator().manual_seed(5)
    inputs, samples = [], []
    for size, void in IMAGES:
        inputs.append(torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8))
        label = torch.randint(0, CLASSES, (1, *size), generator=generator)
        label[torch.rand(label.shape, generator=generator) < void] = 255
        geo = torch.where(label == 0, 255, label % 3)  # void in other places than the main label
        data = dict(gt_sem_seg=PixelData(data=label), gt_geo_seg=PixelData(data=geo))
        samples.append(SegDataSample(metainfo=dict(), **data))
    return dict(inputs=inputs, data_samples=samples)


def trained(name: str, dtype: torch.dtype) -> dict:
    """Losses and gradients of each step, and the final weights."""
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    model = segmentor(*CASES[name]).to(dtype)
    if processes > 1:
        model = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    gradients: list[list] = []
    optimizer.register_step_pre_hook(
        lambda *_: gradients.append([p.grad.clone() for p in model.parameters()])
    )
    wrapper, losses = OptimWrapper(optimizer), []
    for _ in range(STEPS):
        part = {key: values[rank::processes] for key, values in batch().items()}
        losses.append(float(model.train().train_step(part, wrapper)["loss"]))
    weights = [p.detach() for p in model.parameters()]
    return dict(losses=losses, gradients=gradients, weights=weights)


def all_trained() -> dict:
    """(case, dtype) -> results of ``trained``."""
    precisions = torch.float64, torch.float32
    return {(name, dtype): trained(name, dtype) for name in CASES for dtype in precisions}


def same_buffers() -> tuple[dict, dict]:
    """The buffers of a network before and after the hook; before, they differ by process."""
    torch.manual_seed(distributed.get_rank())
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model(torch.randn(2, 3, 8, 8))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    SameBuffersHook().before_val(SimpleNamespace(model=model))
    return before, dict(model.named_buffers())


def judged_by_the_first() -> list[float]:
    """Losses that the first process computes alone: no gradient, eval mode, or not together."""
    alone = [(False, True, True), (True, False, True), (True, True, False)]
    losses: list[float] = []
    for gradient, training, together in alone if distributed.get_rank() == 0 else ():
        model = segmentor(*CASES["mean over valid"]).train(training)
        model.decode_head.together = together
        data = model.data_preprocessor(batch(), True)
        with torch.set_grad_enabled(gradient):
            losses.append(float(model(**data, mode="loss")["decode.loss_ce"].detach()))
    return losses
