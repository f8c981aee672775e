"""Exponents of growth, by least squares of logarithms."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import linregress

LINEAR = 1.1  # larger exponents are called faster than linear
FEWEST = 3  # points of a fit


class Law(NamedTuple):
    """Exponents over the whole range, and over its upper half, which begins at ``start``.

    ``error`` is the standard error of ``upper``, and ``factor`` the value of its law at 1.
    """

    whole: float
    upper: float
    error: float
    factor: float
    start: float

    @property
    def is_faster_than_linear(self) -> bool:
        return self.upper > LINEAR


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
    error, factor = np.nan_to_num(half.stderr), np.exp(half.intercept)  # NaN of equal values
    return Law(*map(float, (whole.slope, half.slope, error, factor)), sizes[upper])
