"""What kinds of errors there are, and which sizes of objects are found."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcn_plugin.data.numbering import BACKGROUND
from fcn_plugin.evaluation.components import SIDES, SIZES, TENTH
from fcn_plugin.evaluation.error_kinds import BORDER, INSIDE, INVENTED, KINDS, MISSED, NEAR, RIGHT
from fcn_plugin.evaluation.measures import ERRORS
from fcn_plugin.report.panels import MARKED, VOID, look_uri
from fcn_plugin.report.rendering import in_percent
from fcn_plugin.report.sections.scored import Scored

SHARE = {10: "a tenth"}[TENTH]
MEANINGS = {
    MISSED: f"less than {SHARE} of the true object is right",
    BORDER: f"within {NEAR} pixels of a true border",
    INVENTED: f"less than {SHARE} of the predicted object is right",
    INSIDE: "the rest: regions that are partly taken for something else",
}


def errors(scored: Sequence[Scored]) -> dict[str, Any] | None:
    """The kinds of errors, and true objects by size."""
    scored = [one for one in scored if "kinds" in one.evaluation.total]
    if not scored:
        return None
    totals = [one.evaluation.total for one in scored]
    wrong = [max(1, total["kinds"].sum()) for total in totals]
    kinds = []
    for i, (kind, title) in enumerate(KINDS.items()):
        counts = [total["kinds"][i] for total in totals]
        kinds.append(
            dict(
                title=title,
                look=look_uri(kind),
                meaning=MEANINGS[kind],
                pixels=[f"{count:,}" for count in counts],
                of_wrong=[in_percent(c / w) for c, w in zip(counts, wrong, strict=True)],
                of_all=[one.score(f"errors_{ERRORS[i]}") for one in scored],
            )
        )
    return dict(
        scored=scored,
        kinds=kinds,
        share=SHARE,
        background=BACKGROUND in scored[0].evaluation.classes,
        sizes=[_size(i, [total["components"][:, i] for total in totals]) for i in range(SIZES)],
    )


def looks(scored: Sequence[Scored]) -> list[dict[str, str]]:
    """The legend of the pictures of errors."""
    wrong = KINDS if any("kinds" in one.evaluation.total for one in scored) else {MARKED: "wrong"}
    titles = {RIGHT: "right", **wrong, VOID: "void, not counted"}
    return [dict(title=title, uri=look_uri(look)) for look, title in titles.items()]


def _size(index: int, counts: Sequence[np.ndarray]) -> dict[str, Any]:
    """A row of true components of one size: their number, and how many are found."""
    if index < len(SIDES):
        side = SIDES[index]
        title = f"up to {side} x {side}"
    else:
        title = "larger"
    return dict(
        title=title,
        number=list(dict.fromkeys(f"{number:,}" for number, *_ in counts)),
        found=[in_percent(_share(found, number)) for number, found, _, _ in counts],
        right=[in_percent(_share(right, pixels)) for _, _, pixels, right in counts],
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan
