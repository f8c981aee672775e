"""Find the largest batch that fits into memory by real training steps, and fit a config to it."""

import gc
import time
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from torch.nn.modules.batchnorm import _BatchNorm

from fcn_plugin.engine.train_loop import POSITION
from fcn_plugin.errors import UserError
from fcn_plugin.system.configs import one_or_many
from fcn_plugin.system.memory import free_memory, peak_resident, resident
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.files import check_checkpoint

SHARE = 0.85  # of the free memory; later steps differ a little, and checkpoints need some
# Settings of a schedule that count iterations.
COUNTED = ("begin", "end", "T_max", "step_size", "milestones", "total_steps")


class Trial(NamedTuple):
    """A measured step.

    Attributes:
        batch: images of the step.
        seconds: that a step takes, with the loading of its images.
        memory: most bytes so far: of the process, or of the GPU's that it has reserved.
    """

    batch: int
    seconds: float
    memory: int


class Room(NamedTuple):
    """The memory of the device to train on."""

    device: torch.device

    def used(self) -> int:
        return torch.cuda.memory_reserved(self.device) if self.on_gpu else resident()

    def peak(self) -> int:
        if self.on_gpu:
            return torch.cuda.max_memory_reserved(self.device)
        return peak_resident() or resident()

    def most(self) -> float:
        """Bytes that the process may use in all."""
        free = torch.cuda.mem_get_info(self.device)[0] if self.on_gpu else free_memory()
        return self.used() + SHARE * free

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


def largest_batch(
    sizes: list[int], step: Callable[[int], Trial], used: int, most: Callable[[], float]
) -> Trial | None:
    """The trial of the largest batch that fits; None if none does.

    Args:
        sizes: batches to try, ascending. Memory grows in proportion to them at most.
        step: makes a step of a batch; raises ``torch.OutOfMemoryError`` or ``MemoryError``.
        used: bytes that the process uses before the first.
        most: bytes that the process may use in all.
    """
    best: Trial | None = None
    before = Trial(0, 0.0, used)
    for size in sizes:
        if best is not None:
            slope = (best.memory - before.memory) / (best.batch - before.batch)
            if best.memory + slope * (size - best.batch) > most():
                break
        try:
            trial = step(size)
        except (torch.OutOfMemoryError, MemoryError):
            break
        if trial.memory > most():
            break
        before, best = best or before, trial
    return best


class Trials:
    """Training steps of a config's network on its images, with random weights.

    Builds a network and an optimizer of its own; the run that follows is not changed by it.
    """

    def __init__(self, cfg: Config) -> None:
        init_default_scope(cfg.get("default_scope", "mmseg"))
        if (cfg.get("env_cfg") or {}).get("cudnn_benchmark"):
            torch.backends.cudnn.benchmark = True
        self.cfg, self.room = cfg, Room(torch.device(get_device()))
        self.images = DATASETS.build(cfg.train_dataloader.dataset)
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        self.model: Any = model.to(self.room.device)
        # A group of its own for each bias changes neither time nor memory, but is logged.
        left_out = ("paramwise_cfg", "constructor")
        wrapper = {key: cfg.optim_wrapper[key] for key in cfg.optim_wrapper if key not in left_out}
        self.optimizer = build_optim_wrapper(self.model, wrapper)
        self.used = self.room.used()
        self.workers = cfg.train_dataloader.get("num_workers", 0)

    @property
    def least(self) -> int:
        """The smallest batch that is tried: BatchNorm may fail on a single image."""
        return 2 if any(isinstance(layer, _BatchNorm) for layer in self.model.modules()) else 1

    def step(self, batch: int) -> Trial:
        """Load images and make a step of them."""
        begun = time.perf_counter()
        images = pseudo_collate([self.images[i % len(self.images)] for i in range(batch)])
        loading = (time.perf_counter() - begun) / max(self.workers, 1)
        self.model.train()
        seconds = self._timed(lambda: self.model.train_step(images, self.optimizer))
        # A GPU works while workers load; a CPU's cores do one or the other.
        aside = self.room.on_gpu and self.workers
        seconds = max(seconds, loading) if aside else seconds + loading
        return Trial(batch, seconds, self.room.peak())

    def scoring(self) -> float:
        """Seconds of one scoring of the validation images; 0 without any. From one image."""
        if self.cfg.get("val_dataloader") is None:
            return 0.0
        images = DATASETS.build(self.cfg.val_dataloader.dataset)
        self.model.eval()
        with torch.no_grad():
            one = self._timed(lambda: self.model.test_step(pseudo_collate([images[0]])))
        return one * len(images)

    def _timed(self, call: Callable[[], object]) -> float:
        """Seconds of a call, on a GPU of the second one: the first chooses algorithms."""
        for _ in range(1 + self.room.on_gpu):
            begun = time.perf_counter()
            call()
            if self.room.on_gpu:
                torch.cuda.synchronize(self.room.device)
        return time.perf_counter() - begun


def fit_batch(cfg: Config, progress: Progress = silent) -> list[str]:
    """Set ``cfg`` to the largest batch up to its own that fits into memory.

    Returns:
        Lines for the user: the batch, seconds and memory of a step; what was changed for it; and
        how long the training will take.

    Raises:
        UserError: not even the smallest batch fits.
    """
    most = int(cfg.train_dataloader.batch_size)
    best, scoring, memory = _measured(cfg, most, progress)
    gc.collect()
    torch.cuda.empty_cache()  # it had none but the trials' memory
    lines = [
        f"--batch auto: {best.batch} of the config's {most} images in a batch; {best.seconds:.2g} "
        f"s a step, {best.memory / 1e9:.1f} GB of {memory / 1e9:.1f} GB"
    ]
    if best.batch < most:
        lines.append(set_batch(cfg, best.batch))
    if length := cfg.train_cfg.get("max_iters"):
        scorings = ceil(length / cfg.train_cfg.get("val_interval", length))
        seconds = length * best.seconds + scorings * scoring
        lines.append(f"--batch auto: {length:,} iterations will take about {duration(seconds)}")
    return lines


def _measured(cfg: Config, most: int, progress: Progress) -> tuple[Trial, float, float]:
    """The largest batch that fits, seconds of a scoring, and the bytes there are in all."""
    trials = Trials(cfg)
    halves = [most >> times for times in range(most.bit_length())]
    sizes = sorted(size for size in halves if size >= min(trials.least, most))

    def step(batch: int) -> Trial:
        progress(f"--batch auto: trying a batch of {batch}", sizes.index(batch), len(sizes))
        return trials.step(batch)

    best = largest_batch(sizes, step, trials.used, trials.room.most)
    memory = trials.room.most()
    if best is None:
        raise UserError(
            f"--batch auto: a batch of {sizes[0]} does not fit into the memory that is free "
            f"({memory / 1e9:.1f} GB in all); free some, or train on smaller crops (crop_size and "
            "data_preprocessor.size in the config)"
        )
    return best, trials.scoring(), memory


def batch_of(checkpoint: Path) -> int | None:
    """Images in a batch of the run that wrote the checkpoint; None if it does not tell."""
    infos = check_checkpoint(checkpoint)["message_hub"]["runtime_info"]
    return (infos.get(POSITION) or {}).get("batch_size")


def set_batch(cfg: Config, batch: int) -> str:
    """Set the batch, and iterations and learning rate in proportion; the line that says so.

    The linear rule: a batch half as large makes steps half as long, and twice as many of them.
    Intervals, and schedules by iterations, are stretched with the training.
    """
    ratio = cfg.train_dataloader.batch_size / batch
    cfg.train_dataloader.batch_size = batch
    rates = [each.lr for each in [cfg.optim_wrapper.get("optimizer")] if each and "lr" in each]
    if rates:
        cfg.optim_wrapper.optimizer.lr = rates[0] / ratio
    checkpoint = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    average = (cfg.get("default_hooks") or {}).get("ema") or {}
    _stretch(cfg.train_cfg, ("max_iters", "val_interval", "val_begin"), ratio)
    if not checkpoint.get("by_epoch", True):
        _stretch(checkpoint, ("interval",), ratio)
    _stretch(average, ("begin_iter",), ratio)
    if "momentum" in average:
        average["momentum"] /= ratio
    for schedule in one_or_many(cfg.get("param_scheduler")):
        if not schedule.get("by_epoch", True):
            _stretch(schedule, COUNTED, ratio)
    changes = [f"train_dataloader.batch_size={batch}"]
    if length := cfg.train_cfg.get("max_iters"):
        changes.append(f"train_cfg.max_iters={length}")
    if rates:
        changes.append(f"optim_wrapper.optimizer.lr={cfg.optim_wrapper.optimizer.lr:g}")
    return (
        f"--batch auto: with {1 / ratio:.3g} times the batch, {ratio:.3g} times the iterations and "
        f"{1 / ratio:.3g} times the learning rate (linear rule): {' '.join(changes)}"
    )


def _stretch(settings: dict, keys: tuple[str, ...], ratio: float) -> None:
    """Multiply the numbers of iterations among ``settings``."""
    for key in keys:
        value = settings.get(key)
        if isinstance(value, list | tuple):
            settings[key] = [round(each * ratio) for each in value]
        elif value:
            settings[key] = round(value * ratio)


def duration(seconds: float) -> str:
    """
    >>> duration(45), duration(1500), duration(90_000)
    ('45 s', '25 min', '25.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
