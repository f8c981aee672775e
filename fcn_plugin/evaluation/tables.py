"""Text tables with a row per class, for terminals and logs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from prettytable import PrettyTable

from fcn_plugin.errors import printable
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


def score_table(classes: Sequence[str], scores: Scores, matrix: np.ndarray) -> str:
    """A text table of each class's IU, accuracy and share of pixels, in percent, and the means."""
    columns = {
        "IU": 100 * scores.class_iu,
        "accuracy": 100 * scores.class_accuracy,
        "pixels": 100 * matrix.sum(1) / max(matrix.sum(), 1),
    }
    means = ["mean", 100 * scores.mean_iu, 100 * scores.mean_accuracy, ""]
    return class_table(classes, columns, means)
