"""Scores of a semantic segmentation from one integer confusion matrix.

``matrix[truth, prediction]`` counts pixels over a whole data set: pixels are pooled, not averaged
by image (Caffe ``score.py``; MIT ``demoEvaluation.m`` with ``absent='zero'``).
"""

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

ABSENT = ("skip", "zero", "exclude")
LARGEST = torch.iinfo(torch.int64).max

Counts = TypeVar("Counts", np.ndarray, Tensor)
Absent = str | float  # what an absent class does to the means, see ``scores``


@dataclass(frozen=True)
class Scores:
    """Fractions in [0, 1]; per-class arrays hold NaN for a class without pixels.

    A class's accuracy is its recall, so that the mean accuracy is the mean recall.
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iu: float
    frequency_weighted_iu: float
    mean_dice: float
    mean_precision: float
    mean_fscore: float
    class_accuracy: np.ndarray
    class_iu: np.ndarray
    class_dice: np.ndarray
    class_precision: np.ndarray
    class_fscore: np.ndarray

    @property
    def final(self) -> float:
        """MIT's ranking score: the mean of pixel accuracy and mean IU."""
        return (self.pixel_accuracy + self.mean_iu) / 2


def confusion_matrix(truth: Tensor, prediction: Tensor, num_classes: int, ignore: int) -> Tensor:
    """Pixel counts by truth and prediction, without waiting for the device.

    Args:
        truth, prediction: integer labels of any dtype, the same shape, on one device.
        num_classes: C; labels are 0 .. C - 1.
        ignore: true label that is not counted.

    Returns:
        int64, (C + 1) x (C + 1) on the labels' device. The last row and column collect illegal
        labels, kept visible so that no score hides them.

    >>> confusion_matrix(torch.tensor([0, 1, 1, 7, 255]), torch.tensor([0, 0, 1, 1, 0]), 2, 255)
    tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 1, 0]])
    """
    side = num_classes + 1
    truth, prediction = truth.long(), prediction.long()
    # Negative labels become -1, which without its sign bit is the largest number, so they count in
    # the last row or column, too. Comparing and masking would be a third slower on the CPU.
    row, column = (
        labels.clamp(min=-1).bitwise_and_(LARGEST).clamp_(max=num_classes)
        for labels in (truth, prediction)
    )
    cell = torch.add(column, row, alpha=side)
    # Ignored pixels get an extra bin; selecting the others would wait for the device.
    cell = cell.masked_fill_(truth == ignore, side * side).flatten()
    # Not bincount, which waits for the device to find the largest value.
    counts = torch.zeros(side * side + 1, dtype=torch.int64, device=cell.device)
    counts.index_add_(0, cell, counts.new_ones(1).expand(len(cell)))
    return counts[:-1].view(side, side)


def scores(matrix: np.ndarray, absent: Absent = "skip", beta: float = 1) -> Scores:
    """The scores of the paper (CVPR section 5) and others from a C x C matrix of counts.

    Columns beyond C count pixels predicted as no class; they are wrong, and part of the union of
    their true class only.

    Args:
        absent: what a class does to the means that neither occurs nor is predicted. It is left out
            if 'skip' (VOC, FCN), counts as 0 if 'zero' (MIT), and as this value if a number.
            'exclude' (SIFT Flow) also leaves out a class that does not occur but is predicted,
            whose IU would be 0. For accuracies it is enough that the class does not occur, for
            precisions that it is not predicted.
        beta: weight of the recall against the precision in the F-score (van Rijsbergen,
            Information Retrieval, 1979, chapter 7); with 1 it is the Dice coefficient.

    >>> worked = np.array([[3, 1, 0, 0], [1, 2, 0, 1], [0, 0, 3, 1], [2, 1, 0, 1]])
    >>> [round(iu * 84) for iu in scores(worked).class_iu]  # 3/7 2/6 3/4 1/6
    [36, 28, 63, 14]
    """
    if matrix.dtype != np.int64:
        raise TypeError(f"the confusion matrix must be int64, not {matrix.dtype}")
    return scores_of(class_counts(matrix), absent, beta)


def class_counts(matrix: Counts) -> Counts:
    """Right, true and predicted pixels of each class: all that the scores need of a matrix.

    Args:
        matrix: as in ``scores``; an array, or a tensor, whose device is not waited for.

    Returns:
        int64 [3, C], of the kind of ``matrix``. Those of several images add up as matrices do.

    >>> class_counts(np.array([[3, 1, 0], [1, 2, 4]])).tolist()
    [[3, 2], [4, 7], [4, 3]]
    """
    counts = matrix.diagonal(), matrix.sum(1), matrix[:, : len(matrix)].sum(0)
    return np.stack(counts) if isinstance(matrix, np.ndarray) else torch.stack(counts)


def scores_of(counts: np.ndarray, absent: Absent = "skip", beta: float = 1) -> Scores:
    """``scores`` from the matrix's ``class_counts``, int64 [3, C]."""
    if isinstance(absent, str) and absent not in ABSENT:
        raise ValueError(f"absent must be one of {ABSENT} or a number, not {absent!r}")
    hit, row, col = counts
    total = row.sum()
    with np.errstate(invalid="ignore"):
        by_class = {
            "accuracy": hit / row,
            "iu": hit / (row + col - hit),
            "dice": 2 * hit / (row + col),
            "precision": hit / col,
            "fscore": (1 + beta**2) * hit / (beta**2 * row + col),
        }
        if absent == "exclude":
            by_class = {name: np.where(row > 0, v, np.nan) for name, v in by_class.items()}
        pixel_accuracy = float(hit.sum() / total)
        weighted = np.nan_to_num(row * by_class["iu"])
        frequency_weighted = float(math.fsum(weighted) / total)
    named: dict[str, Any] = {f"class_{name}": values for name, values in by_class.items()}
    named |= {f"mean_{name}": mean_of_classes(values, absent) for name, values in by_class.items()}
    return Scores(pixel_accuracy=pixel_accuracy, frequency_weighted_iu=frequency_weighted, **named)


def mean_of_classes(values: np.ndarray, absent: Absent) -> float:
    """The mean by the rule for ``absent`` classes, which are NaN; NaN if no class counts."""
    if absent in ("skip", "exclude"):
        judged = values[~np.isnan(values)]
    else:
        judged = np.nan_to_num(values, nan=0.0 if absent == "zero" else float(absent))
    # fsum is exact before one rounding, so the order of the classes does not matter.
    return math.fsum(judged) / len(judged) if len(judged) else math.nan
