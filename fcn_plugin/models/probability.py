"""The probability of each pixel's label, and the scores of single pixels, without all fine scores.

Shapes as in ``coarse``.
"""

from math import e, log2

import torch
from torch import Tensor

from fcn_plugin.models.coarse import (
    ELEMENTS,
    ELEMENTS_ON_GPU,
    Axis,
    blocks,
    class_rows,
    in_single,
    parts,
)


@torch.no_grad()
def label_probability(scores: Tensor, rows: Axis, cols: Axis) -> Tensor:
    """The probability (softmax) of the class of the highest score at each fine pixel.

    Scores N x C x h x w; returns N x H x W in at least single precision. NaN where a score is NaN.
    """
    images, channels = scores.shape[:2]
    with torch.autocast(scores.device.type, enabled=False):
        bits = class_rows(in_single(scores) * log2(e))
        probability = bits.new_empty(images, len(rows), len(cols))
        for block in blocks(images, channels, rows, cols):
            block.put(highest_probability(block.fine_scores(bits)), probability)
    return probability


@torch.no_grad()
def probability_of_fine(scores: Tensor) -> Tensor:
    """As ``label_probability``, of fine scores C x H x W: a few rows at a time."""
    channels, height, width = scores.shape
    elements = ELEMENTS if scores.device.type == "cpu" else ELEMENTS_ON_GPU
    probability = scores.new_empty(height, width)
    for rows in parts(height, max(elements // (channels * max(width, 1)), 1)):
        bits = scores[None, :, rows].flatten(2) * log2(e)
        probability[rows] = highest_probability(bits).view(-1, width)
    return probability


def highest_probability(bits: Tensor) -> Tensor:
    """The probability, A x 1 x B, of the highest of scores A x C x B, which are overwritten.

    Scores are in bits (times log2 e): on CPUs 2 ** x is several times faster than e ** x.
    """
    bits -= bits.amax(1, keepdim=True)
    return bits.exp2_().sum(1, keepdim=True).reciprocal_()


@torch.no_grad()
def scores_at(scores: Tensor, rows: Axis, cols: Axis, at_rows: Tensor, at_cols: Tensor) -> Tensor:
    """The fine scores P x C of the first image's pixels in P given rows and columns, int64."""
    image = in_single(scores[0])
    found = image.new_empty(len(at_rows), len(image))
    taps = rows.weights.shape[1] * cols.weights.shape[1]
    for part in parts(len(at_rows), max(ELEMENTS // (len(image) * taps), 1)):
        down, across = at_rows[part], at_cols[part]
        # A fine pixel's taps beyond the last coarse pixel have weight 0.
        below = rows.pixels[down].clamp(max=image.shape[1] - 1)[:, :, None]
        beside = cols.pixels[across].clamp(max=image.shape[2] - 1)[:, None]
        weights = rows.weights[down][:, :, None] * cols.weights[across][:, None]
        found[part] = (image[:, below, beside] * weights).sum((2, 3)).t()
    return found
