"""How much memory a prediction takes, and how much it may take."""

from collections.abc import Callable
from math import log2, sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fcn_plugin.system.memory import Memory

# Of the free memory: the system does not give back all that is freed, and others want some too.
SHARE = 0.8
# Kernels have memory of their own beside the tensors (copies in other layouts, sums in parts), and
# an allocator keeps some of what was freed: a process grew by up to 2.1 times the tensors, and once
# by the largest weight besides.
HIDDEN = 2.25
MEASURED = 128  # side of the smallest square that is measured
PROPORTIONAL = 4.1  # times the memory for 4 times the pixels
ROUNDED = 32  # pixels by which a side grows at least in the network, which rounds up to its stride
COUNTABLE = 2**31 - 1  # elements of a tensor that every kernel can count


def memory_of(device: torch.device) -> Memory:
    if device.type != "cuda":
        return Memory.of_process()
    free, used = torch.cuda.mem_get_info(device)[0], torch.cuda.memory_allocated(device)
    return Memory(used, free + torch.cuda.memory_reserved(device) - used)


class TensorBytes(TorchDispatchMode):
    """While entered, counts the bytes of the tensors that are made and not yet dropped.

    Attributes:
        peak: the most bytes there were at a time, on any device.
        largest: the elements of the largest tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.largest = 0
        self._bytes: dict[StorageWeakRef, int] = {}  # 0 of what was there before, as weights

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            self._bytes.setdefault(StorageWeakRef(tensor.untyped_storage()), 0)
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if self._bytes.setdefault(StorageWeakRef(storage), storage.nbytes()):
                self.largest = max(self.largest, tensor.numel())
        self._bytes = {ref: size for ref, size in self._bytes.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self._bytes.values()))
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


class Cost(NamedTuple):
    """What predicting an image of any shape takes: scale * area ** power bytes of tensors.

    Attributes:
        border: pixels by which a side is longer in the network, from padding and rounding; they
            count in the area.
        countable: the largest area of which every kernel can count the elements.
    """

    border: float
    scale: float
    power: float
    countable: float

    @classmethod
    def measured(cls, run: Callable[[int], TensorBytes], most: float) -> "Cost":
        """From squares whose sides double, none of which takes more than ``most`` bytes.

        In most networks bytes grow with the pixels, and two squares tell all; where they grow
        faster, as in some attention, larger squares are measured.
        """
        side, tensors = 2 * MEASURED, run(2 * MEASURED)
        growth = tensors.peak / run(MEASURED).peak
        while growth > PROPORTIONAL and tensors.peak * growth <= most:
            side, before, tensors = 2 * side, tensors.peak, run(2 * side)
            growth = tensors.peak / before
        # Where bytes grow with the area, the roots of two of them tell the border.
        ratio = min(sqrt(growth), 2)
        border = side * (1 - ratio / 2) / max(ratio - 1, 0.1)
        area = (side + border) ** 2
        power = log2(growth) / 2 if growth > PROPORTIONAL else 1
        countable = COUNTABLE * area / tensors.largest
        return cls(max(border, ROUNDED), tensors.peak / area**power, power, countable)

    def area(self, rows: float, cols: float) -> float:
        """With the border."""
        return (rows + self.border) * (cols + self.border)

    def bytes(self, rows: float, cols: float) -> float:
        return self.scale * self.area(rows, cols) ** self.power

    def area_within(self, most: float) -> float:
        """The largest area whose prediction takes at most ``most`` bytes."""
        return min((max(most, 0) / self.scale) ** (1 / self.power), self.countable)

    def window(self, rows: int, cols: int, area: float) -> tuple[int, int]:
        """Rows and columns of a window within ``area``: a square, or longer in a narrow image."""
        side = max(sqrt(area) - self.border, 0)
        high = min(rows, side)
        wide = min(cols, max(area / (high + self.border) - self.border, 0))
        high = min(rows, area / (wide + self.border) - self.border)
        return max(int(high), 0), max(int(wide), 0)


class Budget:
    """What a network's predictions take, and what they may take.

    Args:
        run: predicts a square of a side, and reads its scores if the flag is set.
        limit: bytes that the process may have on ``device``; None: a share of what is free.
    """

    def __init__(
        self,
        network: nn.Module,
        run: Callable[[int, bool], None],
        device: torch.device,
        limit: int | None,
    ) -> None:
        self.run, self.device, self.limit = run, device, limit
        self.largest_weight = max((p.nbytes for p in network.parameters()), default=0)
        self._costs: dict[bool, Cost] = {}

    def cost(self, scored: bool) -> Cost:
        """Of labels, or of labels and scores; measured at the first call."""
        if scored not in self._costs:
            self._costs[scored] = Cost.measured(lambda side: self._run(side, scored), self.left())
        return self._costs[scored]

    def _run(self, side: int, scored: bool) -> TensorBytes:
        with TensorBytes() as tensors:
            self.run(side, scored)
        return tensors

    def left(self, held: int = 0) -> float:
        """Bytes for tensors, where ``held`` bytes are taken otherwise."""
        left = SHARE * (memory_of(self.device).left(self.limit) - held)
        return (left - self.largest_weight) / HIDDEN

    def need(self, side: int, scored: bool = False) -> int:
        """Bytes that have to be free for the prediction of a square."""
        tensors = self.cost(scored).bytes(side, side)
        return int((HIDDEN * tensors + self.largest_weight) / SHARE) + 1
