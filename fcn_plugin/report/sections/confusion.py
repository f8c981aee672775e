"""The confusion matrix."""

import math
from typing import Any

import numpy as np

from fcn_plugin.evaluation.drawing import percent
from fcn_plugin.report.evaluation import Evaluation
from fcn_plugin.report.panels import shares_uri

PAIRS = 12  # most pairs of confused classes
WHOLE_MATRIX = 40  # most classes of a matrix shown as a table; larger ones are pictures
MATRIX_SIDE = 600  # approximate pixels of a matrix shown as a picture


def confusion(evaluation: Evaluation) -> dict[str, Any]:
    """The confusion matrix in shares of each row, and the most confused pairs."""
    matrix, classes = evaluation.matrix, evaluation.classes
    with np.errstate(invalid="ignore"):
        shares = matrix / matrix.sum(1, keepdims=True)
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    titles = [f"{number} {name}" for number, name in zip(evaluation.numbers, classes, strict=True)]
    pairs = []
    for i, j in zip(*np.unravel_index(order, matrix.shape), strict=True):
        if wrong[i, j]:
            shown = dict(share=percent(shares[i, j]), pixels=f"{wrong[i, j]:,}")
            pairs.append(dict(truth=titles[i], prediction=titles[j], **shown))
    whole = len(classes) <= WHOLE_MATRIX
    rows = [[None if math.isnan(share) else share for share in row] for row in shares.tolist()]
    return dict(
        titles=titles,
        rows=rows if whole else [],
        picture="" if whole else shares_uri(shares, max(1, MATRIX_SIDE // len(classes))),
        pairs=pairs,
    )
