"""Worked examples of counts and scores; any of them are in property/test_any_metric.py."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from fcn_plugin.evaluation.scores import confusion_matrix, scores


def test_worked_example():
    truth = torch.tensor([[0] * 4, [1] * 4, [2] * 4, [3] * 4])
    prediction = torch.tensor([[1, 0, 0, 0], [1, 3, 0, 1], [2, 2, 2, 3], [3, 1, 0, 0]])
    found = scores(confusion_matrix(truth, prediction, 4, 255)[:-1, :-1].numpy())
    np.testing.assert_allclose(found.class_iu, [3 / 7, 2 / 6, 3 / 4, 1 / 6], rtol=1e-15)
    assert found.mean_iu == pytest.approx((3 / 7 + 2 / 6 + 3 / 4 + 1 / 6) / 4, rel=1e-15)
    assert found.pixel_accuracy == found.mean_accuracy == 9 / 16
    # Four pixels of each class, so weighting by frequency changes nothing.
    assert found.frequency_weighted_iu == pytest.approx(found.mean_iu, rel=1e-15)


def test_labels_of_any_shape_and_layout():
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (2, 12, 14)))
    truth, prediction = labels[0].T, labels[1].reshape(14, 12)
    plain = confusion_matrix(truth[::2, 1:].clone(), prediction[::2, 1:].clone(), 5, 2)
    assert torch.equal(confusion_matrix(truth[::2, 1:], prediction[::2, 1:], 5, 2), plain)
    for shape, pixels in (((0,), 0), ((0, 7), 0), ((), 1)):
        one = torch.zeros(shape, dtype=torch.uint8)
        matrix = confusion_matrix(one, one, 3, 255)
        assert matrix[0, 0] == matrix.sum() == pixels
        assert not confusion_matrix(one, one, 3, 0).any()


def test_absent_classes():
    """Class 1 neither occurs nor is predicted, class 2 is predicted only: it scores 0."""
    matrix = np.array([[8, 0, 2], [0, 0, 0], [0, 0, 0]], dtype=np.int64)
    voc, mit = scores(matrix, "skip"), scores(matrix, "zero")
    assert voc.mean_iu == pytest.approx((0.8 + 0) / 2)
    assert mit.mean_iu == pytest.approx(0.8 / 3)
    assert voc.mean_accuracy == voc.frequency_weighted_iu == pytest.approx(0.8)
    assert np.isnan(voc.class_iu[1])
    # MIT's demonstration: 15 of 150 classes occur and every pixel is right.
    matrix = np.diag([1000] * 15 + [0] * 135)
    assert scores(matrix, "zero").mean_iu == pytest.approx(0.1, rel=1e-15)
    assert scores(matrix, "zero").pixel_accuracy == 1
    nothing = scores(np.zeros((3, 3), np.int64))
    assert math.isnan(nothing.mean_iu) and math.isnan(nothing.pixel_accuracy)


def test_what_is_no_matrix_and_no_rule():
    with pytest.raises(ValueError, match="absent must be one of"):
        scores(np.eye(2, dtype=np.int64), "ignore")
    with pytest.raises(TypeError, match="int64"):
        scores(np.eye(2, dtype=np.float32))


def test_predictions_of_no_class_are_wrong_and_in_no_union_but_the_truths():
    """Two classes and a third column; by hand."""
    found = scores(np.array([[6, 1, 3], [2, 7, 0]], dtype=np.int64))
    np.testing.assert_allclose(found.class_accuracy, [6 / 10, 7 / 9], rtol=1e-15)
    np.testing.assert_allclose(found.class_iu, [6 / 12, 7 / 10], rtol=1e-15)
    weighted = (10 * 6 / 12 + 9 * 7 / 10) / 19
    three = found.pixel_accuracy, found.frequency_weighted_iu, found.final
    assert three == pytest.approx((13 / 19, weighted, (13 / 19 + 0.6) / 2), rel=1e-15)


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
    matrix = np.array([[2**40 + 1, 1], [0, 2**40]], dtype=np.int64)
    assert scores(matrix).pixel_accuracy == (2**41 + 1) / (2**41 + 2)
