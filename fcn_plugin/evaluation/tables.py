"""Text tables with a row per class, for terminals and logs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from prettytable import PrettyTable

from fcn_plugin.errors import printable
from fcn_plugin.evaluation.intervals import Bounds, Intervals
from fcn_plugin.evaluation.scores import Scores


def class_table(
    classes: Sequence[str], columns: Mapping[str, Sequence[Any]], last: Sequence[Any] = ()
) -> str:
    """A text table with a row per class, its name first.

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
    table = PrettyTable(["class", *columns], align="r")
    table.align["class"] = "l"
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


def score_table(
    classes: Sequence[str], scores: Scores, matrix: np.ndarray, intervals: Intervals | None = None
) -> str:
    """A text table of each class's IU, accuracy and share of pixels, in percent, and the means.

    With ``intervals`` there are those of the IU, and a line below that says what they are.
    """
    columns: dict[str, Any] = {"IU": 100 * scores.class_iu}
    means = ["mean", 100 * scores.mean_iu]
    if intervals:
        columns["interval"] = [in_brackets(bounds) for bounds in intervals.class_iu]
        means.append(in_brackets(intervals.scores["mean_iu"]))
    columns["accuracy"] = 100 * scores.class_accuracy
    columns["pixels"] = 100 * matrix.sum(1) / max(matrix.sum(), 1)
    table = class_table(classes, columns, [*means, 100 * scores.mean_accuracy, ""])
    return f"{table}\n{intervals.text}" if intervals else table


def in_brackets(bounds: Bounds, whole: float = 1) -> str:
    """Bounds in percent of ``whole``, the score of a perfect prediction; a dash if there are none.

    >>> in_brackets((0.6031, 0.639)), in_brackets((60.31, 63.9), whole=100)
    ('[60.31, 63.90]', '[60.31, 63.90]')
    >>> in_brackets((float("nan"), float("nan")))
    '-'
    """
    low, high = (100 / whole * bound for bound in bounds)
    return "-" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"
