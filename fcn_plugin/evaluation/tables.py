"""Text tables with a row per class, for terminals and logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from prettytable import PrettyTable

from fcn_plugin.errors import printable

if TYPE_CHECKING:  # without torch, which intervals need
    from fcn_plugin.evaluation.intervals import Bounds, Intervals


def class_table(
    classes: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    last: Sequence[Any] = (),
    heading: str = "class",
) -> str:
    """A text table with a row per class, its name first, under ``heading``.

    Args:
        columns: heading -> a value for each class. Floats get two decimals, NaN a dash, integers
            commas; strings are unchanged.
        last: a row below a line, its name first.

    >>> print(class_table(["sky"], {"images": [1200], "IU": [float("nan")]}))
    +-------+--------+----+
    | class | images | IU |
    +-------+--------+----+
    | sky   |  1,200 |  - |
    +-------+--------+----+
    """
    table = PrettyTable([heading, *columns], align="r")
    table.align[heading] = "l"
    for name, *values in zip(classes, *columns.values(), strict=True):
        table.add_row([printable(name), *map(_cell, values)])
    if last:
        table.add_divider()
        table.add_row([*map(_cell, last)])
    return table.get_string()


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return "-" if np.isnan(value) else f"{value:.2f}"


# Heading -> a class's score and its mean, as named in ``measures.summary``.
COLUMNS = {
    "IU": ("class_iu", "mean_iu"),
    "accuracy": ("class_accuracy", "mean_accuracy"),  # also called recall
    "precision": ("class_precision", "mean_precision"),
    "Dice": ("class_dice", "mean_dice"),
    "boundary IU": ("class_boundary_iu", "boundary_iu"),
}


def score_table(
    classes: Sequence[str],
    scores: Mapping[str, Any],
    matrix: np.ndarray,
    intervals: Intervals | None = None,
) -> str:
    """A text table of each class's scores and share of pixels, in percent, and the means.

    With ``intervals`` there are those of the IU, and a line below that says what they are.

    Args:
        scores: as from ``measures.summary``.
        matrix: C x C or more columns, pixels by truth and prediction.
    """
    columns: dict[str, Any] = {}
    means: list[Any] = ["mean"]
    for heading, (name, mean) in COLUMNS.items():
        if name not in scores:
            continue
        columns[heading] = 100 * scores[name]
        means.append(100 * scores[mean])
        if intervals and heading == "IU":
            columns["interval"] = [in_brackets(bounds) for bounds in intervals.arrays[name]]
            means.append(in_brackets(intervals.scores[mean]))
    columns["pixels"] = 100 * matrix.sum(1) / max(matrix.sum(), 1)
    table = class_table(classes, columns, [*means, ""])
    return f"{table}\n{intervals.text}" if intervals else table


def class_scores(classes: Sequence[str], scores: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Each class's scores in percent by the table's heading and the class; without absent ones."""
    return {
        heading: {
            name: 100 * float(value)
            for name, value in zip(classes, scores[own], strict=True)
            if not np.isnan(value)
        }
        for heading, (own, _) in COLUMNS.items()
        if own in scores
    }


def in_brackets(bounds: Bounds, whole: float = 1) -> str:
    """Bounds in percent of ``whole``, the score of a perfect prediction; a dash if there are none.

    >>> in_brackets((0.6031, 0.639)), in_brackets((60.31, 63.9), whole=100)
    ('[60.31, 63.90]', '[60.31, 63.90]')
    >>> in_brackets((float("nan"), float("nan")))
    '-'
    """
    low, high = (100 / whole * bound for bound in bounds)
    return "-" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"
