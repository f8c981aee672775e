"""How good the predictions are near the borders of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcn_plugin.evaluation.boundaries import WIDTHS
from fcn_plugin.evaluation.measures import TRIMAPS
from fcn_plugin.report.charts import STYLES, svg_uri
from fcn_plugin.report.sections.scored import Scored


def borders(scored: Sequence[Scored]) -> dict[str, Any] | None:
    """Boundary IU, and pixel accuracy in trimaps as a chart and in numbers."""
    scored = [one for one in scored if one.measured("boundary_iu")]
    if not scored:
        return None
    return dict(
        scored=scored,
        ratio=f"{100 * scored[0].evaluation.ratio:g} %",
        chart=svg_uri(lambda figure: _draw(figure, scored)),
        summary="; ".join(f"{one.start}{_in_words(one)}" for one in scored),
        rows=[
            dict(width=width, numbers=[one.score(f"trimap_{width}") for one in scored])
            for width in TRIMAPS
        ],
    )


def _draw(figure: Any, scored: Sequence[Scored]) -> None:
    axes = figure.subplots()
    widths = np.arange(1, WIDTHS + 1)
    for one in scored:
        style, scores = STYLES[one.place], one.evaluation.scores
        marked = [width - 1 for width in TRIMAPS]
        trimap = 100 * scores["trimap"]
        (line,) = axes.plot(widths, trimap, markersize=4, markevery=marked, clip_on=False, **style)
        line.set_gid(f"trimap-{one.place}")
        whole = 100 * scores["pixel_accuracy"]
        axes.axhline(whole, color=style["color"], linestyle=":", linewidth=1)
    axes.annotate("all pixels", (1, whole), (5, 2), textcoords="offset points", va="bottom")
    axes.set_xscale("log", base=2)
    axes.set_xlim(1, WIDTHS)
    axes.set_xticks(TRIMAPS, map(str, TRIMAPS))
    axes.set_ylim(top=100)
    axes.set_xlabel("pixels from a true border")
    axes.set_ylabel("right (%)")


def _in_words(one: Scored) -> str:
    values = [f"{one.score(f'trimap_{width}').text} % within {width}" for width in TRIMAPS]
    return f"{', '.join(values)}, {one.score('pixel_accuracy').text} % of all pixels"
