"""Worked examples of counts and scores; any of them are in property/test_any_metric.py."""

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


def test_a_class_that_is_predicted_and_not_labelled():
    """Its IU is 0, and of no interest where the data cannot show it."""
    matrix = np.array([[6, 2, 0], [0, 0, 0], [0, 0, 8]], dtype=np.int64)
    means = [scores(matrix, absent).mean_iu for absent in ("skip", "zero", "exclude")]
    assert means == pytest.approx([1.75 / 3, 1.75 / 3, 1.75 / 2], rel=1e-15)
    excluded = scores(matrix, "exclude")
    assert np.isnan(excluded.class_iu[1]) and excluded.pixel_accuracy == 14 / 16
    assert excluded.mean_accuracy == scores(matrix).mean_accuracy == (0.75 + 1) / 2


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
    matrix = np.array([[2**40 + 1, 1], [0, 2**40]], dtype=np.int64)
    assert scores(matrix).pixel_accuracy == (2**41 + 1) / (2**41 + 2)
