"""How much memory the tensors of a prediction take, by the size of the image."""

from collections.abc import Callable
from math import log2, sqrt
from typing import NamedTuple, Protocol

# Memory of the process in multiples of its tensors: kernels also allocate buffers, and allocators
# keep some freed memory. Measured: up to 2.1 times the tensors, and once the largest weight more.
HIDDEN = 2.25
MEASURED = 128  # pixels, side of the smallest square image that is measured
PROPORTIONAL = 4.1  # at most this many times the memory for 4 times the pixels is linear growth
ROUNDED = 32  # pixels to add to a side at least: networks round sizes up to their stride
COUNTABLE = 2**31 - 1  # most elements of a tensor: some kernels count in int32


class Tensors(Protocol):
    """Bytes of all tensors at their peak, and the number of elements of the largest one."""

    peak: int
    largest: int


class Cost(NamedTuple):
    """Bytes of tensors to predict an image of any shape: scale * area ** power.

    Attributes:
        border: pixels that padding and rounding add to each side; ``area`` includes them.
        countable: the largest area whose tensors have at most ``COUNTABLE`` elements.
    """

    border: float
    scale: float
    power: float
    countable: float

    @classmethod
    def measured(cls, run: Callable[[int], Tensors], most: float) -> "Cost":
        """The cost fitted to square images of doubling side, up to about ``most`` bytes.

        In most networks memory is proportional to the pixels, and two squares are enough; if it
        grows faster, as with some attention, larger squares are measured.
        """
        side, tensors = 2 * MEASURED, run(2 * MEASURED)
        growth = tensors.peak / run(MEASURED).peak
        while growth > PROPORTIONAL and tensors.peak * growth <= most:
            side, before, tensors = 2 * side, tensors.peak, run(2 * side)
            growth = tensors.peak / before
        # If bytes are proportional to the area, the square roots of two of them give the border.
        ratio = min(sqrt(growth), 2)
        border = side * (1 - ratio / 2) / max(ratio - 1, 0.1)
        area = (side + border) ** 2
        power = log2(growth) / 2 if growth > PROPORTIONAL else 1
        countable = COUNTABLE * area / tensors.largest
        return cls(max(border, ROUNDED), tensors.peak / area**power, power, countable)

    def area(self, rows: float, cols: float) -> float:
        return (rows + self.border) * (cols + self.border)

    def bytes(self, rows: float, cols: float) -> float:
        return self.scale * self.area(rows, cols) ** self.power

    def area_within(self, most: float) -> float:
        """The largest area whose prediction takes at most ``most`` bytes."""
        return min((max(most, 0) / self.scale) ** (1 / self.power), self.countable)

    def window(self, rows: int, cols: int, area: float) -> tuple[int, int]:
        """(H, W) of a window of at most ``area``: a square, or longer if the image is narrow."""
        side = max(sqrt(area) - self.border, 0)
        high = min(rows, side)
        wide = min(cols, max(area / (high + self.border) - self.border, 0))
        high = min(rows, area / (wide + self.border) - self.border)
        return max(int(high), 0), max(int(wide), 0)
