"""The table and the plots of a record, without measuring."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.ticker import LogFormatter

from fcn_plugin.report.charts import SETTINGS, STYLES
from fcn_plugin.system.files import replacing
from figures.framework import MIB
from figures.growth.curve import Curve
from figures.growth.laws import Law, law
from figures.table import number

SIZE = 7.2, 3.2  # inches
NARROW = 20  # below this ratio of the last size to the first, ticks are powers of two
MORE = ({"color": "#2e7d32", "marker": "^", "linestyle": ":"},)
# Key of a point -> its title, its unit, how many of its own units that is, and the least that
# counts: less than a MiB is by chance.
QUANTITIES = {"seconds": ("time", "s", 1, 0), "memory": ("memory", "MiB", MIB, 1)}
FASTER = "grows faster than linear"
Record = dict[str, Any]


class PlainFormatter(LogFormatter):
    """Numbers without exponents, as few of them as the base class shows."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:,g}" if super().__call__(x, pos) else ""


def series(curve: Curve, record: Record, key: str) -> tuple[list[Any], np.ndarray]:
    """The points on record and the medians of their values, in the quantity's unit."""
    points = record["points"].get(curve.name, {})
    medians = {
        at: median(values)
        for at in curve.points
        if None not in (values := points.get(str(at), {}).get(key, [None]))
    }
    *_, factor, least = QUANTITIES[key]
    return [*medians], np.maximum(np.array([*medians.values()]) / factor, least)


def law_of(curve: Curve, record: Record, key: str) -> Law | None:
    sizes, values = series(curve, record, key)
    return None if isinstance(curve.points[0], str) else law(sizes, values)


def section(curve: Curve, record: Record) -> str:
    """The lines of one curve: what it takes at its end, and the exponents."""
    lines = [curve.name]
    for key, (title, unit, *_) in QUANTITIES.items():
        sizes, values = series(curve, record, key)
        if not sizes:
            continue
        if isinstance(sizes[0], str):
            lines += [
                f"  {title:<8}{number(value, unit):>12}{value / values[0]:7.1f} x  {at}"
                for at, value in zip(sizes, values, strict=True)
            ]
        else:
            line = f"  {title:<8}{number(values[-1], unit):>12} at {sizes[-1]:,} {curve.unit}"
            lines.append(line + _exponents(law_of(curve, record, key), sizes[0]))
    for at, point in record["points"].get(curve.name, {}).items():
        if "failed" in point:
            lines.append(f"  not at {at} {curve.unit}: {point['failed']}")
    return "\n".join(lines)


def _exponents(fit: Law | None, first: float) -> str:
    if fit is None:
        return ""
    faster = f"; {FASTER}" * fit.is_faster_than_linear
    upper = f"{fit.upper:.2f} ± {fit.error:.2f} from {fit.start:,}"
    return f"; exponent {fit.whole:.2f} from {first:,}, {upper}{faster}"


def plot(group: str, curves: Sequence[Curve], record: Record, file: Path) -> None:
    """Write a group's plot as SVG: time and memory, with the fits of the upper halves."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS | {"svg.fonttype": "none"}):
        figure = Figure(SIZE, layout="constrained")
        figure.suptitle(group)
        for axes, (key, (title, unit, *_)) in zip(
            figure.subplots(1, 2), QUANTITIES.items(), strict=True
        ):
            axes.set_title(f"{title}, {unit}", loc="left")
            for curve, style in zip(curves, (*STYLES, *MORE), strict=False):
                sizes, values = series(curve, record, key)
                if sizes and isinstance(sizes[0], str):
                    axes.barh(sizes[::-1], values[::-1], color=style["color"])
                elif sizes:
                    _draw(axes, curve, sizes, values, law_of(curve, record, key), style)
        with replacing(file) as part:
            figure.savefig(part, format="svg", metadata={"Date": None})


def _draw(
    axes: Any, curve: Curve, sizes: list[float], values: np.ndarray, fit: Law | None, style: dict
) -> None:
    """A curve on axes of logarithms, and below it the fit of its upper half."""
    label = f"{curve.name}: {fit.upper:.2f}" if fit else curve.name
    axes.plot(sizes, values, label=label, markersize=4, **style)
    if fit:
        ends = np.array([fit.start, sizes[-1]])
        axes.plot(ends, fit.factor * ends**fit.upper, color=style["color"], linewidth=4, alpha=0.2)
    axes.set(yscale="log", xlabel=curve.unit)
    axes.set_xscale("log", base=10 if sizes[-1] > NARROW * sizes[0] else 2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter(PlainFormatter())
    axes.legend(frameon=False, title="exponent of the upper half")
