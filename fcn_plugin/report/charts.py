"""Learning curves as coordinates of a small SVG; the template draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean as mean

from fcn_plugin.report.logs import Curve

# In units of the drawing, which are pixels on a phone.
WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 40
TICKS = 5
POINTS = 200  # of a curve, at most; more are averaged
MARKS = 8  # on a curve, at most


@dataclass(frozen=True)
class Line:
    """One run's curve: a path, and some of its points to be marked."""

    name: str
    points: str  # x,y x,y ...
    marks: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Attributes:
    lines: one of each run that has the curve, None for another, so that styles go by place.
    x_ticks, y_ticks: coordinate and label.
    summary: the curves in words.
    """

    title: str
    lines: Sequence[Line | None]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    summary: str


def chart(title: str, curves: Sequence[tuple[str, Curve]], last: int) -> Chart | None:
    """Of (run, curve) pairs up to iteration ``last``; None if all are empty.

    What is not finite is left out.
    """
    finite = [(name, [p for p in curve if math.isfinite(p[1])]) for name, curve in curves]
    values = [value for _, curve in finite for _, value in curve]
    if not values:
        return None
    x_ticks, y_ticks = _ticks(0, last), _ticks(min(0, *values), max(values))

    def x(step: float) -> float:
        span = x_ticks[-1] - x_ticks[0]
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (step - x_ticks[0]) / span, 1)

    def y(value: float) -> float:
        span = y_ticks[-1] - y_ticks[0]
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y_ticks[0]) / span, 1)

    lines: list[Line | None] = []
    for name, curve in finite:
        drawn = [(x(step), y(value)) for step, value in _thinned(curve)]
        every = -(-len(drawn) // MARKS) or 1
        points = " ".join(f"{left},{top}" for left, top in drawn)
        lines.append(Line(name, points, drawn[::-1][::every]) if drawn else None)
    return Chart(
        title,
        lines,
        [(x(tick), f"{tick:,.0f}") for tick in x_ticks],
        [(y(tick), f"{tick:.4g}") for tick in y_ticks],
        "; ".join(_in_words(name, curve) for name, curve in finite if curve),
    )


def _in_words(name: str, curve: Curve) -> str:
    (first, start), (last, end) = curve[0], curve[-1]
    low, high = min(value for _, value in curve), max(value for _, value in curve)
    return (
        f"{name}: {start:.4g} at iteration {first:,}, {end:.4g} at {last:,}, "
        f"between {low:.4g} and {high:.4g}"
    )


def _thinned(curve: Curve) -> list[tuple[float, float]]:
    """Means of as many points as leave at most ``POINTS``."""
    each = max(1, -(-len(curve) // POINTS))
    groups = [curve[i : i + each] for i in range(0, len(curve), each)]
    return [(mean(step for step, _ in group), mean(v for _, v in group)) for group in groups]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` or below to ``high`` or above, about ``TICKS`` of them.

    >>> _ticks(0, 1400)
    [0.0, 500.0, 1000.0, 1500.0]
    """
    rough = (high - low or abs(high) or 1.0) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
