"""Exponents of growth, by least squares of logarithms."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import linregress

LINEAR = 1.1  # larger exponents are called faster than linear
FEWEST = 3  # points of a fit


class Law(NamedTuple):
    """Exponents over the whole range, and over its upper half, from ``start`` to ``end``.

    ``error`` is the standard error of ``upper``.
    """

    whole: float
    upper: float
    error: float
    start: float
    end: float

    @property
    def is_faster_than_linear(self) -> bool:
        return self.upper > LINEAR

    def at(self, x: np.ndarray, last: float) -> np.ndarray:
        """The upper half's power law through ``last``, the value at the end."""
        return last * (x / self.end) ** self.upper


def law(sizes: Sequence[float], values: Sequence[float]) -> Law | None:
    """The exponents of ``values``, all positive; None of fewer than three.

    The upper half is that of the logarithms, with at least three points: from 1 to 10,000 it begins
    at 100.
    """
    if len(sizes) < FEWEST:
        return None
    x, y = np.log(sizes), np.log(values)
    middle = (x[0] + x[-1]) / 2 - 1e-9  # less what is rounded
    upper = min(int(np.searchsorted(x, middle)), len(x) - FEWEST)
    whole, half = linregress(x, y), linregress(x[upper:], y[upper:])
    error = np.nan_to_num(half.stderr)  # NaN of equal values
    return Law(*map(float, (whole.slope, half.slope, error)), sizes[upper], sizes[-1])
