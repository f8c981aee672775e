"""How much memory a prediction takes, and how much it may."""

from collections.abc import Callable, Iterator
from math import log2, sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fcn_plugin.system.memory import Memory

# Of what is free. What is freed is not all given back, and others want some too.
SHARE = 0.8
# Kernels have memory of their own beside the tensors (copies in other layouts, sums in parts), and
# an allocator keeps some of what was freed: a process grew by up to 2.1 times the tensors, and once
# by the largest weight besides.
HIDDEN = 2.25
# Sides of the squares that are measured first.
MEASURED = 128
PROPORTIONAL = 4.1  # times the memory for 4 times the pixels
# Pixels that a side has at least more in the network: sizes are rounded up to its stride.
ROUNDED = 32
# Elements of a tensor that every kernel can count.
COUNTABLE = 2**31 - 1


def memory_of(device: torch.device) -> Memory:
    """Of this process, on ``device``."""
    if device.type != "cuda":
        return Memory.of_process()
    free, used = torch.cuda.mem_get_info(device)[0], torch.cuda.memory_allocated(device)
    return Memory(used, free + torch.cuda.memory_reserved(device) - used)


class TensorBytes(TorchDispatchMode):
    """While it is entered, counts the bytes of the tensors that are made and not yet dropped.

    On any device; ``peak`` is the most there were at a time, ``largest`` the elements of the
    largest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.largest = 0
        self._made: dict[StorageWeakRef, int] = {}
        self._given: set[StorageWeakRef] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # A view of a weight is not made.
        self._given |= {ref for ref, *_ in _storages((args, kwargs)) if ref not in self._made}
        result = func(*args, **kwargs)
        for ref, size, elements in _storages(result):
            if ref not in self._given:
                self._made[ref] = size
                self.largest = max(self.largest, elements)
        self._made = {ref: n for ref, n in self._made.items() if not ref.expired()}
        self._given = {ref for ref in self._given if not ref.expired()}
        self.peak = max(self.peak, sum(self._made.values()))
        return result


def _storages(values: Any) -> Iterator[tuple[StorageWeakRef, int, int]]:
    for value in tree_leaves(values):
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            yield StorageWeakRef(storage), storage.nbytes(), value.numel()


class Cost(NamedTuple):
    """What predicting an image of any shape takes.

    Attributes:
        border: pixels that a side has more in the network, by padding and rounding.
        scale, power: bytes of tensors are scale * area ** power, of the area with the border.
        countable: the largest such area of which every kernel can count the elements.
    """

    border: float
    scale: float
    power: float
    countable: float

    @classmethod
    def measured(cls, run: Callable[[int], TensorBytes], most: float) -> "Cost":
        """From squares of some sides, up to what takes ``most`` bytes.

        Of most networks bytes grow with the pixels, and two measurements tell all; where they grow
        faster, as some attention does, larger squares are measured.
        """
        side, peaks = MEASURED, [run(MEASURED).peak]
        while True:
            side *= 2
            largest = run(side)
            peaks.append(largest.peak)
            growth = peaks[-1] / peaks[-2]
            if growth <= PROPORTIONAL or largest.peak * growth > most:
                break
        # Where bytes grow with the area, the roots of two of them tell the border.
        ratio = min(sqrt(growth), 2)
        border = side * (1 - ratio / 2) / max(ratio - 1, 0.1)
        area = (side + border) ** 2
        power = max(log2(growth) / 2, 1) if growth > PROPORTIONAL else 1
        return cls(
            max(border, ROUNDED),
            largest.peak / area**power,
            power,
            COUNTABLE * area / largest.largest,
        )

    def area(self, rows: float, cols: float) -> float:
        """With the border."""
        return (rows + self.border) * (cols + self.border)

    def bytes(self, rows: float, cols: float) -> float:
        return self.scale * self.area(rows, cols) ** self.power

    def area_within(self, most: float) -> float:
        """The largest area whose prediction takes at most so many bytes."""
        return min((max(most, 0) / self.scale) ** (1 / self.power), self.countable)

    def window(self, rows: int, cols: int, area: float) -> tuple[int, int]:
        """The shape of a window of an image that is within an area: a square, or what suits it."""
        side = max(sqrt(area) - self.border, 0)
        high = min(rows, side)
        wide = min(cols, max(area / (high + self.border) - self.border, 0))
        high = min(rows, area / (wide + self.border) - self.border)
        return max(int(high), 0), max(int(wide), 0)


class Budget:
    """What a network takes, and what it may.

    Args:
        run: predicts a square of a side, and reads its scores if told so.
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
        """Of labels, and of scores that are read as well; measured once."""
        if scored not in self._costs:
            self._costs[scored] = Cost.measured(
                lambda side: self._measured(side, scored), self.left()
            )
        return self._costs[scored]

    def _measured(self, side: int, scored: bool) -> TensorBytes:
        with TensorBytes() as tensors:
            self.run(side, scored)
        return tensors

    def left(self, held: int = 0) -> float:
        """Bytes of tensors that may be made, where ``held`` more are taken otherwise."""
        left = SHARE * (memory_of(self.device).left(self.limit) - held)
        return (left - self.largest_weight) / HIDDEN

    def need(self, side: int, scored: bool = False) -> int:
        """Bytes that have to be left for the prediction of a square."""
        tensors = self.cost(scored).bytes(side, side)
        return int((HIDDEN * tensors + self.largest_weight) / SHARE) + 1

    def refuse(self, name: str, need: int) -> None:
        """A UserError where so many bytes are not left; it names the memory that would do."""
        memory_of(self.device).refuse(name, need, self.limit)
