"""The confusion matrix and the scores; any of them are in property/test_any_metric.py."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from fcn_plugin.evaluation.scores import confusion_matrix, scores


def test_worked_example():
    truth = torch.tensor([[0] * 4, [1] * 4, [2] * 4, [3] * 4])
    prediction = torch.tensor([[1, 0, 0, 0], [1, 3, 0, 1], [2, 2, 2, 3], [3, 1, 0, 0]])
    matrix = confusion_matrix(truth, prediction, 4, 255)
    found = scores(matrix[:-1, :-1].numpy())
    np.testing.assert_allclose(found.class_iu, [3 / 7, 2 / 6, 3 / 4, 1 / 6], rtol=1e-15)
    assert found.mean_iu == pytest.approx((3 / 7 + 2 / 6 + 3 / 4 + 1 / 6) / 4, rel=1e-15)
    assert round(found.mean_iu, 3) == 0.420
    assert found.pixel_accuracy == found.mean_accuracy == 9 / 16
    # Four pixels of each class, so weighting by frequency changes nothing.
    assert found.frequency_weighted_iu == pytest.approx(found.mean_iu, rel=1e-15)


# --- counts --------------------------------------------------------------------------------------


def plain_count(truth, prediction, classes: int, ignore: int) -> np.ndarray:
    """One pixel after the other, with Python's unbounded integers."""
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for t, p in zip(truth.flatten().tolist(), prediction.flatten().tolist(), strict=True):
        if t != ignore:
            matrix[t if 0 <= t < classes else -1, p if 0 <= p < classes else -1] += 1
    return matrix


DTYPES = [torch.uint8, torch.int8, torch.uint16, torch.int16, torch.int32, torch.int64]


def any_labels(generator, dtype: torch.dtype, classes: int) -> torch.Tensor:
    """Most within the classes, as far as the dtype goes; the others up to the dtype's ends."""
    limits, shape = torch.iinfo(dtype), (9, 11)
    within = generator.integers(0, min(classes, limits.max) + 1, shape)
    ends = [limits.min, limits.min + 1, -1, classes, 255, 256, limits.max - 1, limits.max]
    outside = generator.choice([end for end in ends if limits.min <= end <= limits.max], shape)
    labels = np.where(generator.random(shape) < 0.8, within, outside)
    return torch.from_numpy(labels).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).split(".")[1])
def test_any_labels_against_a_plain_count(dtype):
    generator = np.random.default_rng(0)
    for classes in (1, 3, 150, 255, 300):
        for ignore in (255, 0, 2, -1, 1000):
            truth = any_labels(generator, dtype, classes)
            prediction = any_labels(generator, DTYPES[generator.integers(len(DTYPES))], classes)
            before = truth.clone(), prediction.clone()
            matrix = confusion_matrix(truth, prediction, classes, ignore)
            assert matrix.dtype == torch.int64
            np.testing.assert_array_equal(matrix, plain_count(truth, prediction, classes, ignore))
            assert torch.equal(truth, before[0]) and torch.equal(prediction, before[1])


def test_labels_that_are_not_contiguous():
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (2, 12, 14)))
    truth, prediction = labels[0].T, labels[1].reshape(14, 12)
    for given in (
        (truth, prediction),
        (truth[::2, 1:], prediction[::2, 1:]),
        (truth, torch.tensor(3).expand(truth.shape)),
    ):
        expected = plain_count(*given, 5, 2)
        np.testing.assert_array_equal(confusion_matrix(*given, 5, 2), expected)


@pytest.mark.parametrize("shape", [(0,), (0, 7), ()], ids=str)
def test_no_pixels_and_a_single_one(shape):
    labels = torch.zeros(shape, dtype=torch.uint8)
    expected = np.zeros((4, 4), np.int64)
    expected[0, 0] = labels.numel()
    np.testing.assert_array_equal(confusion_matrix(labels, labels, 3, 255), expected)
    np.testing.assert_array_equal(confusion_matrix(labels, labels, 3, 0), np.zeros((4, 4)))


# --- scores --------------------------------------------------------------------------------------


def test_absent_classes():
    """Class 1 neither occurs nor is predicted, class 2 is predicted only: it scores 0."""
    matrix = np.array([[8, 0, 2], [0, 0, 0], [0, 0, 0]], dtype=np.int64)
    voc, mit = scores(matrix, "skip"), scores(matrix, "zero")
    assert voc.mean_iu == pytest.approx((0.8 + 0) / 2)
    assert mit.mean_iu == pytest.approx(0.8 / 3)
    assert voc.mean_accuracy == pytest.approx(0.8)
    assert np.isnan(voc.class_iu[1])
    assert voc.frequency_weighted_iu == pytest.approx(0.8)


def test_mits_demonstration():
    """15 of 150 classes occur and every pixel is right: mean IoU 0.1, pixel accuracy 100 %."""
    matrix = np.zeros((150, 150), np.int64)
    np.fill_diagonal(matrix[:15, :15], 1000)
    assert scores(matrix, "zero").mean_iu == pytest.approx(0.1, rel=1e-15)
    assert scores(matrix, "zero").pixel_accuracy == 1


def test_an_empty_matrix_has_no_score():
    found = scores(np.zeros((3, 3), np.int64))
    assert math.isnan(found.mean_iu) and math.isnan(found.pixel_accuracy)


def test_what_is_no_matrix_and_no_rule():
    with pytest.raises(ValueError, match="absent must be one of"):
        scores(np.eye(2, dtype=np.int64), "ignore")
    with pytest.raises(TypeError, match="int64"):
        scores(np.eye(2, dtype=np.float32))


def test_predictions_of_no_class_are_wrong_and_in_no_union_but_the_truths():
    """Two classes and a third column; by hand."""
    matrix = np.array([[6, 1, 3], [2, 7, 0]], dtype=np.int64)
    found = scores(matrix)
    assert found.pixel_accuracy == pytest.approx(13 / 19, rel=1e-15)
    np.testing.assert_allclose(found.class_accuracy, [6 / 10, 7 / 9], rtol=1e-15)
    np.testing.assert_allclose(found.class_iu, [6 / 12, 7 / 10], rtol=1e-15)
    weighted = (10 * 6 / 12 + 9 * 7 / 10) / 19
    assert found.frequency_weighted_iu == pytest.approx(weighted, rel=1e-15)
    assert found.final == pytest.approx((13 / 19 + 0.6) / 2, rel=1e-15)


def test_more_pixels_than_int32_and_float32_can_count():
    """Seven odd pixels in each of 33 images of 2^26, against exact fractions."""
    image = np.array([[2**26 - 11, 4, 1], [3, 2, 1]], dtype=np.int64)
    found = scores(33 * image)
    assert (33 * image)[0, 0] > 2**31
    hits, total = Fraction(int(image[0, 0] + 2)), Fraction(int(image.sum()))
    ius = [Fraction(int(image[0, 0]), int(image[0, 0]) + 8), Fraction(2, 6 + 4)]
    assert found.pixel_accuracy == pytest.approx(float(hits / total), rel=1e-15)
    np.testing.assert_allclose(found.class_iu, [float(iu) for iu in ius], rtol=1e-15)
    assert found.mean_iu == pytest.approx(float(sum(ius) / 2), rel=1e-15)
    big = 2**40
    matrix = np.array([[big + 1, 1], [0, big]], dtype=np.int64)
    assert scores(matrix).pixel_accuracy == (2 * big + 1) / (2 * big + 2)
