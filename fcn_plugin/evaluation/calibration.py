"""How sure a network is, and how often it is right: calibration, from counts by confidence.

A pixel's confidence is the probability (softmax) of its predicted label. Of the pixels with a
confidence of 80 %, a calibrated network has 80 % right. The expected calibration error is the mean
distance of the two over ``BINS`` equal bins of confidence, weighted by their pixels (Guo et al., On
Calibration of Modern Neural Networks, ICML 2017, section 2).

All that is kept are whole numbers for each predicted class and bin, so the sum over images and
processes is exact, in whatever order.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fcn_plugin.data.tasks import fields
from fcn_plugin.errors import UserError
from fcn_plugin.models.coarse import in_single
from fcn_plugin.models.probability import label_probability, probability_of_fine

BINS = 15  # as in Guo et al.
# Confidences are counted in units of 2 ** -BITS: each of 1/16 or more in single precision is a
# whole number of them, and int64 holds the sum of 2 ** 36 pixels.
BITS = 27


class Reliability(NamedTuple):
    """The reliability diagram and the confidence histogram; fractions, float64 [BINS] each.

    Attributes:
        confidence, accuracy: mean confidence and share of right pixels in each bin; NaN in a bin
            without pixels.
        share: of all pixels that are in the bin; NaN if there are none at all.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray


def confidence_of(sample: Mapping[str, Any], task: str | None = None) -> Tensor:
    """The probability of the predicted label at each pixel, H x W in at least single precision.

    On the device of the scores, without making all fine scores where the segmentor has coarse ones.
    A single channel is the probability of class 1 of 2 (mmseg has applied the sigmoid).

    Args:
        sample: a predicted ``SegDataSample`` as a dict, as metrics get it.
        task: one of a segmentor's ``task_heads``; default: the main task.

    Raises:
        UserError: the sample has no scores.
    """
    names = fields(task)
    scores = sample.get(names.scores)
    if scores is None:
        raise UserError(
            f"{sample.get('img_path', 'a sample')}: predicted without scores ({names.scores}), so "
            "it is unknown how sure the network is; leave out --tta, which keeps none"
        )
    if coarse := getattr(scores, "coarse", None):
        return label_probability(*coarse)[0]
    data = in_single(scores["data"])
    if len(data) == 1:
        return torch.where(sample[names.prediction]["data"][0] > 0, data[0], 1 - data[0])
    return probability_of_fine(data)


def calibration_counts(
    truth: Tensor, prediction: Tensor, confidence: Tensor, num_classes: int, ignore: int
) -> Tensor:
    """Pixels, right pixels and confidence by predicted class and bin, without waiting for the
    device.

    Bin b of ``BINS`` holds the confidences in (b / BINS, (b + 1) / BINS]; the first one has 0, too.
    NaN counts as 0, a number beyond 0 and 1 as the nearest of them.

    Args:
        truth, prediction: integer labels of any dtype, the same shape, on one device.
        confidence: of each prediction, floats of the same shape.
        num_classes: C; a pixel predicted as none of 0 .. C - 1 is not counted.
        ignore: true label that is not counted.

    Returns:
        int64 [3, C, BINS] on the labels' device: the number of pixels, of right ones, and the sum
        of their confidences in units of 2 ** -BITS. The sum over the classes is of all pixels.

    >>> truth, prediction = torch.tensor([0, 1, 255]), torch.tensor([1, 1, 1])
    >>> counts = calibration_counts(truth, prediction, torch.tensor([0.5, 0.75, 1.0]), 2, 255)
    >>> counts[:2, 1].nonzero().tolist()  # in class 1, bins 7 and 11; right in bin 11
    [[0, 7], [0, 11], [1, 11]]
    >>> counts[2, 1, [7, 11]].tolist() == [0.5 * 2**BITS, 0.75 * 2**BITS]
    True
    """
    truth, prediction = truth.long().flatten(), prediction.long().flatten()
    units = confidence.detach().flatten().nan_to_num(0).clamp(0, 1)
    units = units.mul(2**BITS).round_().long()
    # In whole numbers no rounding moves a pixel to another bin.
    bins = (units * BINS).sub_(1).bitwise_right_shift_(BITS).clamp_(min=0)
    cell = torch.add(bins, prediction, alpha=BINS)
    counted = (truth != ignore) & (prediction >= 0) & (prediction < num_classes)
    cells = num_classes * BINS
    # Others get an extra cell; selecting the counted ones would wait for the device.
    cell = cell.where(counted, cells)
    counts = torch.zeros(3, cells + 1, dtype=torch.int64, device=cell.device)
    one = counts.new_ones(1).expand(len(cell))
    for row, values in zip(counts, (one, (truth == prediction).long(), units), strict=True):
        row.index_add_(0, cell, values)
    return counts[:, :-1].view(3, num_classes, BINS)


def calibration_error(counts: np.ndarray) -> float:
    """The expected calibration error in [0, 1] of counts [3, BINS]; NaN without pixels.

    Of ``calibration_counts``, summed over the classes or of one.
    """
    pixels, right, units = counts.astype(object)  # Python's numbers: exact until the division
    gaps = sum(abs(hits * 2**BITS - unit) for hits, unit in zip(right, units, strict=True))
    return _ratio(gaps, pixels.sum())


def mean_confidence(counts: np.ndarray) -> float:
    """The mean confidence in [0, 1] of counts [3, BINS]; NaN without pixels."""
    return _ratio(*(int(counts[row].astype(object).sum()) for row in (2, 0)))


def reliability(counts: np.ndarray) -> Reliability:
    """Mean confidence, accuracy and share of the pixels in each bin, of counts [3, BINS]."""
    pixels, right, units = counts.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return Reliability(units / 2**BITS / pixels, right / pixels, pixels / pixels.sum())


def _ratio(units: int, pixels: int) -> float:
    return float(Fraction(int(units), int(pixels) << BITS)) if pixels else math.nan
