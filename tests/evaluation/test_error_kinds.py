"""Components and kinds of errors against plain code: SciPy's labels of each class, pixel loops."""

import numpy as np
import pytest
from evaluation.label_maps import VOID, Pair, pairs
from scipy import ndimage

from fcn_plugin.evaluation.boundaries import boundary_distance
from fcn_plugin.evaluation.components import SIDES, SIZES, component_counts, components
from fcn_plugin.evaluation.error_kinds import (
    BORDER,
    INSIDE,
    INVENTED,
    KINDS,
    MISSED,
    RIGHT,
    error_kinds,
    kind_counts,
)

PAIRS = pairs()
SQUARE, CROSS = np.ones((3, 3), bool), ndimage.generate_binary_structure(2, 1)


def plain_components(labels: np.ndarray, structure: np.ndarray = SQUARE) -> list[np.ndarray]:
    """The masks of the components."""
    masks = []
    for label in np.unique(labels):
        numbered, number = ndimage.label(labels == label, structure)
        masks += [numbered == i + 1 for i in range(number)]
    return masks


def is_class(pair: Pair) -> np.ndarray:
    return np.isin(pair.truth, range(pair.num_classes))


def plain_kinds(pair: Pair, structure=SQUARE, void=False, edge=False, order=1) -> np.ndarray:
    """The last arguments make mistakes."""
    truth, prediction, classes = pair
    right, counted = truth == prediction, is_class(pair)
    missed, near, invented = (np.zeros(truth.shape, bool) for _ in range(3))
    for mask in plain_components(truth, structure):
        missed |= mask & (right[mask].sum() * 10 < mask.sum())
    for mask in plain_components(prediction, structure):
        judged = mask if void else mask & counted
        of_class = 0 <= prediction[mask][0] < classes
        invented |= mask & (of_class and right[judged].sum() * 10 < judged.sum())
    padded = np.pad(truth.astype(np.int64), 3, constant_values=-9)
    for row, column in np.ndindex(truth.shape):
        around = padded[row : row + 7, column : column + 7]
        near[row, column] = np.any((around != truth[row, column]) & (edge | (around != -9)))
    kinds = np.zeros(truth.shape, np.uint8)
    for at in zip(*np.nonzero(counted & ~right), strict=True):
        rules = [(missed[at], MISSED), (near[at], BORDER), (invented[at], INVENTED)]
        kinds[at] = next((kind for applies, kind in rules[::order] if applies), INSIDE)
    return kinds


def plain_component_counts(pair: Pair, structure=SQUARE, void=False) -> np.ndarray:
    counts = np.zeros((4, SIZES), np.int64)
    for mask in plain_components(pair.truth, structure):
        if is_class(pair)[mask].all() or void:
            size, right = mask.sum(), (pair.truth == pair.prediction)[mask].sum()
            row = sum(size > side**2 for side in SIDES)
            counts[:, row] += 1, right / size >= 0.1, size, right
    return counts


@pytest.mark.parametrize("name", PAIRS)
def test_components_are_those_of_scipy(name):
    for labels in PAIRS[name][:2]:
        parts = components(labels)
        assert np.array_equal(parts.painted(parts.labels), labels)
        numbers = parts.painted(np.arange(len(parts.labels)))
        masks = [numbers == i for i in range(len(parts.labels))]
        assert parts.sizes.tolist() == parts.count(numbers >= 0).tolist() == [*map(np.sum, masks)]
        expected = plain_components(labels)
        assert sorted(map(np.ndarray.tobytes, masks)) == sorted(map(np.ndarray.tobytes, expected))


@pytest.mark.parametrize("name", PAIRS)
def test_counts_are_those_of_plain_code(name):
    pair = PAIRS[name]
    kinds, counts = error_kinds(*pair), component_counts(*pair)
    assert kinds.dtype == np.uint8 and np.array_equal(kinds, plain_kinds(pair))
    assert counts.dtype == np.int64 and np.array_equal(counts, plain_component_counts(pair))
    true = components(pair.truth)
    assert np.array_equal(counts, component_counts(*pair, true))
    assert np.array_equal(kinds, error_kinds(*pair, boundary_distance(pair.truth), true))
    wrong = is_class(pair) & (pair.truth != pair.prediction)
    assert kind_counts(kinds).sum() == wrong.sum() and kind_counts(kinds).dtype == np.int64


@pytest.mark.parametrize(
    "mistake", [dict(structure=CROSS), dict(void=True), dict(edge=True), dict(order=-1)]
)
def test_mistaken_kinds_are_others(mistake):
    assert any(
        (plain_kinds(pair, **mistake) != error_kinds(*pair)).any() for pair in PAIRS.values()
    )


@pytest.mark.parametrize("mistake", [dict(structure=CROSS), dict(void=True)])
def test_mistaken_components_have_other_counts(mistake):
    assert any(
        (plain_component_counts(pair, **mistake) != component_counts(*pair)).any()
        for pair in PAIRS.values()
    )


def test_every_kind_in_a_picture():
    truth = np.zeros((40, 60), np.uint8)
    truth[5:15, 5:15] = 1
    truth[:, 30:] = 2
    truth[:2] = VOID
    prediction = np.where(truth == VOID, 0, truth)
    prediction[5:15, 5:15] = 0  # the object of class 1
    prediction[20:30, 28:30] = 2  # two columns over the border
    prediction[25:30, 5:10] = 1  # an object where none is
    prediction[20:40, 50:] = 0  # a part of class 2 as class 0
    prediction[10:12, 40:42] = 9  # no class
    kinds = error_kinds(truth, prediction, 3)
    expected = np.full(truth.shape, RIGHT)
    expected[5:15, 5:15] = MISSED
    expected[20:30, 28:30] = BORDER
    expected[25:30, 5:10] = INVENTED
    expected[20:40, 50:] = INVENTED  # class 0 in a place of its own
    expected[10:12, 40:42] = INSIDE
    assert np.array_equal(kinds, expected)
    prediction[20, 30:50] = 0  # and now joined with what is right
    expected[20, 30:33], expected[20, 33:50], expected[20:40, 50:] = BORDER, INSIDE, INSIDE
    assert np.array_equal(error_kinds(truth, prediction, 3), expected)
    assert kind_counts(expected).tolist() == [(expected == kind).sum() for kind in KINDS]


@pytest.mark.parametrize("right", [9, 10])
def test_a_component_is_found_if_a_tenth_is_right(right):
    truth = np.zeros((10, 30), np.uint8)
    truth[:, 10:20] = 1
    prediction = np.zeros_like(truth)
    prediction.reshape(-1)[np.flatnonzero(truth)[:right]] = 1
    found = component_counts(truth, prediction, 2)
    # 100 pixels each, of which two components are right.
    assert found[:, 1].tolist() == [3, 2 + (right == 10), 300, 200 + right]
    assert (error_kinds(truth, prediction, 2) == MISSED).sum() == (91 if right == 9 else 0)


def test_sizes_reach_up_to_squares():
    """Rows of one class each, as long as an upper limit, or a pixel longer."""
    truth = np.full((2 * len(SIDES), 128**2 + 1), VOID)
    for i, side in enumerate(SIDES):
        truth[2 * i, : side**2] = 2 * i
        truth[2 * i + 1, : side**2 + 1] = 2 * i + 1
    assert component_counts(truth, truth, 2 * len(SIDES))[0].tolist() == [1, 2, 2, 2, 2, 1]
