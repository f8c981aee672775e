"""Charts, drawn by matplotlib; here those of learning curves."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fcn_plugin.report.logs import Curve
from fcn_plugin.report.panels import data_uri

SIZE = 3.6, 2.3  # inches; letters of 8 points are 11 pixels high on a phone
POINTS = 200  # most points of a curve; longer curves are averaged
MARKS = 8  # approximate number of markers on a curve
# Styles of the first and the second run, which differ in more than colour.
STYLES: tuple[dict[str, Any], ...] = (
    dict(color="#1f5fa8", marker="o"),
    dict(color="#a33c00", marker="s", linestyle="--", markerfacecolor="white"),
)
# Text as paths looks the same on every device; a fixed salt makes the file reproducible.
SETTINGS: Any = {
    "font.size": 8,
    "svg.fonttype": "path",
    "svg.hashsalt": "fcn_plugin",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#dcdcdc",
}


def chart(title: str, curves: Sequence[tuple[str, Curve]], last: int) -> dict[str, str] | None:
    """The chart of (run, curve) pairs up to iteration ``last``; NaN and inf are left out.

    Returns:
        ``title``, ``uri`` (the picture as a data URI) and ``summary`` in words; None if all curves
        are empty.
    """
    finite = [(name, [p for p in curve if math.isfinite(p[1])]) for name, curve in curves]
    if not any(curve for _, curve in finite):
        return None
    summary = "; ".join(_in_words(name, curve) for name, curve in finite if curve)
    uri = _drawn([curve for _, curve in finite], last)
    return dict(title=title, uri=uri, summary=summary)


def _drawn(curves: Sequence[Curve], last: int) -> str:
    from matplotlib.ticker import StrMethodFormatter

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, (curve, style) in enumerate(zip(curves, STYLES, strict=False)):
            if curve:
                points = _thinned(curve)
                every = math.ceil(len(points) / MARKS)
                marked = ((len(points) - 1) % every, every)  # always marks the last point
                (line,) = axes.plot(
                    *points.T, markersize=4, markevery=marked, clip_on=False, **style
                )
                line.set_gid(f"run-{number}")
        axes.set_xlim(0, max(last, 1))
        axes.set_ylim(bottom=min(0, axes.dataLim.y0))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.4g}"))
        axes.locator_params(nbins=5)

    return svg_uri(draw)


def svg_uri(draw: Callable[[Any], None], size: tuple[float, float] = SIZE) -> str:
    """A picture as a data URI, without Date: the same content gives the same bytes.

    Args:
        draw: draws into a matplotlib figure of ``size`` inches.
    """
    # Importing matplotlib takes a second, so only when a page is written.
    import matplotlib
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(size, layout="constrained")
        draw(figure)
        figure.savefig(file, format="svg", metadata={"Date": None})
    return data_uri(file.getvalue(), "svg+xml")


def _thinned(curve: Curve) -> np.ndarray:
    """(iteration, value) [n, 2]: means of consecutive points, at most ``POINTS`` of them."""
    group = math.ceil(len(curve) / POINTS)
    return np.array([np.mean(curve[i : i + group], axis=0) for i in range(0, len(curve), group)])


def _in_words(name: str, curve: Curve) -> str:
    (first, start), (last, end) = curve[0], curve[-1]
    low, high = min(value for _, value in curve), max(value for _, value in curve)
    return (
        f"{name}: {start:.4g} at iteration {first:,}, {end:.4g} at {last:,}, "
        f"between {low:.4g} and {high:.4g}"
    )
