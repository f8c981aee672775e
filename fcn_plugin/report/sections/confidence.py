"""How sure the network is, and whether it is right as often."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcn_plugin.evaluation.calibration import (
    BINS,
    Reliability,
    calibration_error,
    mean_confidence,
    reliability,
)
from fcn_plugin.report.charts import STYLES, svg_uri
from fcn_plugin.report.rendering import in_percent, joined
from fcn_plugin.report.sections.scored import Scored
from fcn_plugin.report.sections.words import sureness

SIZE = 3.6, 4.2  # inches
FEW = 0.001  # share of the pixels below which a point of the diagram would be chance
POOR = 0.02  # a calibration error from which calibrating is advised


def confidence(scored: Sequence[Scored]) -> dict[str, Any] | None:
    """The reliability diagram with its histogram, in numbers, and by class."""
    scored = [one for one in scored if one.measured("calibration_error")]
    if not scored:
        return None
    bins = [reliability(one.evaluation.total["confidence"]) for one in scored]
    poor = [one.evaluation.scores["calibration_error"] > POOR for one in scored]
    return dict(
        scored=scored,
        sentences=[f"{one.start}{sureness(one.evaluation.scores)}." for one in scored],
        chart=svg_uri(lambda figure: _draw(figure, scored, bins), SIZE),
        summary="; ".join(
            f"{one.start}{_in_words(each)}" for one, each in zip(scored, bins, strict=True)
        ),
        poor=any(poor),
        limit=f"{100 * POOR:g} %",
        few=f"{100 * FEW:g} %",
        rows=[_class_row(scored, i) for i in range(len(scored[0].evaluation.classes))],
    )


def _class_row(scored: Sequence[Scored], index: int) -> dict[str, Any]:
    counts = [one.evaluation.total["confidence_by_class"][:, index] for one in scored]
    sums = [each.sum(1) for each in counts]
    return dict(
        pixels=[f"{pixels:,}" for pixels, _, _ in sums],
        confidence=[in_percent(mean_confidence(each)) for each in counts],
        accuracy=[in_percent(right / pixels if pixels else np.nan) for pixels, right, _ in sums],
        error=[in_percent(calibration_error(each)) for each in counts],
    )


def _draw(figure: Any, scored: Sequence[Scored], bins: Sequence[Reliability]) -> None:
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 100), (0, 100), color="#777777", linewidth=1)
    edges = np.linspace(0, 100, BINS + 1)
    for one, (sure, right, share) in zip(scored, bins, strict=True):
        style, there = STYLES[one.place], share >= FEW
        (line,) = upper.plot(
            100 * sure[there], 100 * right[there], markersize=4, clip_on=False, **style
        )
        line.set_gid(f"reliability-{one.place}")
        lower.stairs(
            100 * share,
            edges,
            color=style["color"],
            linestyle=style.get("linestyle", "-"),
            fill=len(scored) == 1,
        )
    upper.set_ylabel("right (%)")
    upper.set_xlim(0, 100)
    upper.set_ylim(0, 100)
    lower.set_ylabel("pixels (%)")
    lower.set_xlabel("confidence (%)")


def _in_words(bins: Reliability) -> str:
    parts = [
        f"{100 * right:.0f} % right where {100 * sure:.0f} % sure ({100 * share:.1f} % of pixels)"
        for sure, right, share in zip(*bins, strict=True)
        if share >= FEW
    ]
    return joined(parts)
