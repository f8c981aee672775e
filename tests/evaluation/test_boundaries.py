"""Boundary counts and trimaps against plain code: erosions class by class, all pairs of pixels."""

import math
import warnings

import numpy as np
import pytest
from evaluation.label_maps import Pair, pairs
from scipy import ndimage

from fcn_plugin.evaluation.boundaries import (
    FAR,
    WIDTHS,
    boundary_counts,
    boundary_distance,
    trimap_accuracy,
    trimap_counts,
)
from fcn_plugin.evaluation.scores import scores_of

PAIRS = pairs()
SQUARE, CROSS = np.ones((3, 3), bool), ndimage.generate_binary_structure(2, 1)
RATIOS = (0.02, 0.2, 3.0)  # the last reaches farther than the image
NORMS = {
    "chessboard": lambda away: np.abs(away).max(-1),
    "city block": lambda away: np.abs(away).sum(-1),
    "Euclidean": lambda away: np.floor(np.hypot(away[..., 0], away[..., 1])),
}


def eroded(mask: np.ndarray, d: int, structure: np.ndarray, outside: bool) -> np.ndarray:
    padded = np.pad(mask, d, constant_values=outside)
    left = ndimage.binary_erosion(padded, structure, iterations=d, border_value=outside)
    return left[d : d + mask.shape[0], d : d + mask.shape[1]]


def plain_boundaries(pair: Pair, ratio, structure=SQUARE, outside=False, void=False) -> np.ndarray:
    """As published; the other arguments make the mistakes."""
    truth, prediction, classes = pair
    d = max(1, round(ratio * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2)))
    counted = np.isin(truth, range(classes)) | void
    counts = np.zeros((3, classes), np.int64)
    for c in range(classes):
        masks = truth == c, prediction == c
        true, said = (mask & ~eroded(mask, d, structure, outside) & counted for mask in masks)
        counts[:, c] = (true & said).sum(), true.sum(), said.sum()
    return counts


def plain_distance(labels: np.ndarray, norm: str = "chessboard") -> np.ndarray:
    distance = np.full(labels.shape, FAR)
    for at in np.ndindex(labels.shape):
        others = np.argwhere(labels != labels[at])
        if len(others):
            distance[at] = NORMS[norm](others - at).min()
    return distance


def plain_trimaps(pair: Pair, norm="chessboard", edge=False, void=False) -> np.ndarray:
    truth, prediction, classes = pair
    padded = np.pad(truth.astype(np.int64), int(edge), constant_values=-9)
    distance = plain_distance(padded, norm)
    counts = np.zeros((2, WIDTHS), np.int64)
    for (row, column), true in np.ndenumerate(truth):
        steps = distance[row + edge, column + edge]
        if steps <= WIDTHS and (0 <= true < classes or void):
            counts[:, steps - 1] += 1, true == prediction[row, column]
    return counts


@pytest.mark.parametrize("name", PAIRS)
def test_counts_are_those_of_plain_code(name):
    pair = PAIRS[name]
    for labels in pair[:2]:
        distance = boundary_distance(labels)
        assert distance.dtype == np.uint16 and np.array_equal(distance, plain_distance(labels))
    for ratio in RATIOS:
        counts = boundary_counts(*pair, ratio)
        assert counts.dtype == np.int64
        assert np.array_equal(counts, plain_boundaries(pair, ratio))
    counts = trimap_counts(*pair)
    assert counts.dtype == np.int64 and np.array_equal(counts, plain_trimaps(pair))
    assert np.array_equal(counts, trimap_counts(*pair, distance=boundary_distance(pair.truth)))


@pytest.mark.parametrize("mistake", [dict(structure=CROSS), dict(outside=True), dict(void=True)])
def test_mistaken_boundaries_have_other_counts(mistake):
    assert any(
        (plain_boundaries(pair, 0.2, **mistake) != boundary_counts(*pair, 0.2)).any()
        for pair in PAIRS.values()
    )


@pytest.mark.parametrize(
    "mistake", [dict(norm="city block"), dict(norm="Euclidean"), dict(edge=True), dict(void=True)]
)
def test_mistaken_trimaps_have_other_counts(mistake):
    assert any(
        (plain_trimaps(pair, **mistake) != trimap_counts(*pair)).any() for pair in PAIRS.values()
    )


def test_half_a_pixel_rounds_to_even_as_published():
    """The diagonal of 75 x 100 is 125, and 2 % of it 2.5: d is 2."""
    labels = np.zeros((75, 100), np.uint8)
    assert boundary_counts(labels, labels, 1)[1] == 75 * 100 - 71 * 96


def test_boundary_iu_of_a_shifted_square():
    """A square of 10 x 10 moved by a pixel, d = 1: outlines of 36 pixels share 2 rows of 9."""
    truth = np.zeros((30, 30), np.uint8)
    truth[10:20, 10:20] = 1
    counts = boundary_counts(truth, np.roll(truth, 1, 1), 2)
    assert counts[:, 1].tolist() == [18, 36, 36]
    assert scores_of(counts).class_iu[1] == 18 / (36 + 36 - 18)


def test_trimap_accuracy_is_that_of_all_pixels_within():
    pair = PAIRS["random 1"]
    distance, right = plain_distance(pair.truth), pair.truth == pair.prediction
    within = [(distance <= w) & (pair.truth < pair.num_classes) for w in range(1, WIDTHS + 1)]
    expected = [right[pixels].mean() for pixels in within]
    np.testing.assert_allclose(trimap_accuracy(trimap_counts(*pair)), expected, rtol=1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(trimap_accuracy(np.zeros((2, WIDTHS), np.int64))).all()


def test_distances_longer_than_can_be_measured():
    labels = np.zeros((1, 9000), np.uint8)
    labels[0, 0] = 1
    assert np.array_equal(boundary_distance(labels)[0, 1:], np.arange(1, 9000).clip(max=FAR))
