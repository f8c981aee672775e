"""How large a training a data set is worth on a machine: crops, batches and iterations.

Each rule is a small function of what it depends on; ``Plan`` puts them together with their reasons.
"""

from math import ceil
from typing import NamedTuple

import torch

from fcn_plugin.prepare.own.source import Size
from fcn_plugin.system.machine import available_cores
from fcn_plugin.system.memory import free_memory

STRIDE = 32  # pixels between two pixels of fc7: no multiple of it would be padded to one
BATCH = 8  # the learning rates in the table of trainings are for batches of this size
EPOCHS = 100  # passes over the training images
CLASSES = 20  # a data set of fewer classes is trained on as long as one of this many
MOST = 40_000  # iterations
SHARE = 0.8  # of the free memory; others need some, and kernels allocate buffers
# Training takes this many iterations at least to be worth an early end.
MANY = 10_000


class Machine(NamedTuple):
    """The machine to train on: whether it has a GPU, and the free bytes there, else of the CPU."""

    gpu: bool
    memory: int
    cores: int

    @classmethod
    def here(cls) -> "Machine":
        gpu = torch.cuda.is_available()
        return cls(gpu, torch.cuda.mem_get_info()[0] if gpu else free_memory(), available_cores())

    @property
    def largest_crop(self) -> int:
        return 512 if self.gpu else 256

    @property
    def validations(self) -> int:
        """Scorings during the training; on a CPU those of large pictures take as long as it."""
        return 10 if self.gpu else 5


class Cost(NamedTuple):
    """What training a network takes.

    Measured at crops of 256 x 256 on one core of a server, with float32.

    Attributes:
        fixed: bytes of weights, gradients, the optimizer's state, and of the process.
        per_pixel: bytes of activations for each pixel of a batch.
        seconds: of one core, for each million pixels of a batch.
        per_class: least number of iterations for each class.
        cpu_hours: of one core, at most for the whole training without a GPU.
    """

    fixed: int
    per_pixel: int
    seconds: float
    per_class: int
    cpu_hours: float


def crop_size(size: Size, largest: int) -> Size:
    """Height and width of a crop of pictures of the median ``size``.

    At most ``largest`` on each side, and a multiple of 32 unless the picture is smaller than that.
    """
    height, width = (
        side if side < STRIDE else min(side, largest) // STRIDE * STRIDE for side in size
    )
    return height, width


def batch_size(crop: Size, memory: float, cost: Cost) -> int:
    """Crops in a batch: 8, or as often halved as ``memory`` in bytes demands; at least 1."""
    batch = BATCH
    while batch > 1 and step_memory(batch, crop, cost) > SHARE * memory:
        batch //= 2
    return batch


def step_memory(batch: int, crop: Size, cost: Cost) -> int:
    """Bytes that a training step takes."""
    return cost.fixed + cost.per_pixel * batch * crop[0] * crop[1]


def core_seconds(iterations: int, batch: int, crop: Size, cost: Cost) -> float:
    """Seconds that the training takes one core of a CPU."""
    return iterations * batch * crop[0] * crop[1] * cost.seconds / 1e6


def most_iterations(batch: int, crop: Size, gpu: bool, cost: Cost) -> int:
    if gpu:
        return MOST
    return min(MOST, int(cost.cpu_hours * 3600 / core_seconds(1, batch, crop, cost)))


def iterations(images: int, classes: int, batch: int, most: int, cost: Cost) -> int:
    """Passes over all images, but enough for each class and at most ``most``; in hundreds."""
    least = cost.per_class * max(classes, CLASSES)
    return max(min(max(EPOCHS * images // batch, least), most) // 100, 1) * 100


class Plan(NamedTuple):
    """The size of a training, and the reasons as the config says them, a line each."""

    crop: Size
    batch: int
    iterations: int
    validations: int
    batch_reason: str
    iterations_reason: str

    @classmethod
    def of(cls, size: Size, images: int, classes: int, cost: Cost, machine: Machine) -> "Plan":
        """The plan for ``images`` training pictures of the median ``size``."""
        crop = crop_size(size, machine.largest_crop)
        batch = batch_size(crop, machine.memory, cost)
        most = most_iterations(batch, crop, machine.gpu, cost)
        length = iterations(images, classes, batch, most, cost)
        memory, free = step_memory(batch, crop, cost) / 1e9, machine.memory / 1e9
        where = "of the GPU" if machine.gpu else "(no GPU)"
        rows, cols = crop
        batch_reason = (
            f"{batch} crops of {cols} x {rows} take about {memory:.1f} GB; {free:.1f} GB {where} "
            "were free. fcn-plugin train --batch auto measures it."
        )
        epochs = length * batch / images
        passes = (
            f"{epochs:,.{epochs < 10:d}f} passes over {images:,} pictures in batches of {batch}"
        )
        least = cost.per_class * max(classes, CLASSES)
        if length + 100 > most:
            limit = (
                "the most" if machine.gpu else f"the most for {cost.cpu_hours:g} hours of a core"
            )
            passes = f"{limit}, {passes}"
        elif length < least + 100:
            of_classes = f"each of {classes} classes" if classes > CLASSES else "few pictures"
            passes = f"the least for {of_classes}, {passes}"
        if not machine.gpu:
            minutes = ceil(core_seconds(length, batch, crop, cost) / machine.cores / 60)
            passes += f"; about {minutes} min on {machine.cores} cores of a CPU"
        return cls(
            crop,
            batch,
            length,
            machine.validations,
            batch_reason,
            f"{length:,} iterations: {passes}.",
        )
