"""Counts by confidence against a loop in fractions, and the errors of networks of known ones."""

from fractions import Fraction
from math import ceil, isnan, nan

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.calibration import (
    BINS,
    BITS,
    calibration_counts,
    calibration_error,
    confidence_of,
    mean_confidence,
    reliability,
)

CLASSES = 3
EDGES = np.arange(BINS + 1, dtype=np.float32) / np.float32(BINS)
# Beside the edges of the bins, and what is no probability.
HOSTILE = np.concatenate(
    [
        EDGES,
        np.nextafter(EDGES, np.float32(0)),
        np.nextafter(EDGES, np.float32(1)),
        np.float32([nan, -0.5, 1.5, np.inf, -np.inf, 1e-9, 2.0**-30, 1 / 128]),
    ]
)


def made(kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Truth, prediction and confidence."""
    chance = np.random.default_rng(3)
    sure = {
        "random": chance.random(5000).astype(np.float32),
        "hostile": HOSTILE.repeat(20),
        "one pixel": np.float32([0.75]),
        "none": np.float32([]),
        "void": np.float32([0.5, 1.0]),
    }[kind]
    truth, prediction = chance.integers(0, CLASSES, (2, len(sure)))
    truth[chance.random(len(sure)) < 0.1] = 255
    if kind in ("one pixel", "void"):
        truth[:] = 255 if kind == "void" else prediction
    return tuple(map(torch.from_numpy, (truth, prediction, sure)))


def by_hand(truth, prediction, sure) -> list:
    """Pixels, right ones and confidence, as fractions, by class and bin."""
    table = [[[Fraction()] * BINS for _ in range(CLASSES)] for _ in range(3)]
    for true, label, value in zip(truth.tolist(), prediction.tolist(), sure.tolist(), strict=True):
        if true != 255:
            value = 0.0 if isnan(value) else min(max(value, 0.0), 1.0)
            exact = Fraction(round(Fraction(value) * 2**BITS), 2**BITS)
            place = max(ceil(exact * BINS) - 1, 0)
            for row, more in zip(table, (1, true == label, exact), strict=True):
                row[label][place] += more
    return table


@pytest.mark.parametrize("kind", ["random", "hostile", "one pixel", "none", "void"])
def test_counts_and_error_are_those_of_a_loop(kind):
    truth, prediction, sure = made(kind)
    counts = calibration_counts(truth, prediction, sure, CLASSES, 255)
    pixels, right, exact = by_hand(truth, prediction, sure)
    assert counts.dtype == torch.int64
    units = [[value * 2**BITS for value in row] for row in exact]
    assert counts.tolist() == [pixels, right, units]
    # In double precision, from the pixels themselves.
    total = counts.sum(1).numpy()
    kept = (truth != 255).numpy()
    values = np.clip(np.nan_to_num(sure.double().numpy()[kept], posinf=1, neginf=0), 0, 1)
    hits = (truth == prediction).numpy()[kept]
    place = np.digitize(values, np.arange(1, BINS) / BINS, right=True)
    gaps = [abs((hits[place == b] - values[place == b]).sum()) for b in range(BINS)]
    found, diagram = calibration_error(total), reliability(total)
    if not len(values):
        assert isnan(found) and isnan(mean_confidence(total)) and np.isnan(diagram).all()
        return
    # Confidences below 1/16 are rounded to 2 ** -27.
    exactly = 1e-12 if values.min() >= 1 / 16 else 2.0**-28
    assert abs(found - sum(gaps) / len(values)) < exactly
    assert abs(mean_confidence(total) - values.mean()) < exactly
    for b in range(BINS):
        expected = [values[place == b].mean(), hits[place == b].mean()] if b in place else [nan] * 2
        share = (place == b).mean()
        np.testing.assert_allclose([row[b] for row in diagram], [*expected, share], atol=exactly)


def test_parts_add_up_to_the_whole_in_any_order():
    pixels = [values.repeat(3) for values in made("random")]
    whole = calibration_counts(*pixels, CLASSES, 255)
    parts = [
        calibration_counts(*(values[i::7] for values in pixels), CLASSES, 255) for i in range(7)
    ]
    assert torch.equal(sum(parts[::-1]), whole) and whole.sum() > 0


def test_labels_of_any_type_and_layout_and_outside_the_classes():
    truth = torch.tensor([[0, 1], [2, 255]], dtype=torch.uint8)
    prediction = torch.tensor([[0.0, 7.0], [-1.0, 0.0]])  # of a single channel mmseg's are floats
    counts = calibration_counts(truth, prediction, torch.full((2, 2), 0.5), CLASSES, 255)
    assert counts[:, 0, 7].tolist() == [1, 1, 2 ** (BITS - 1)] and counts.count_nonzero() == 3


def test_networks_of_known_errors():
    """Whose labels are drawn with their probabilities; and 9 of 10 sure where 7 of 10 are right."""
    generator = torch.Generator().manual_seed(0)
    sure = torch.rand(200_000, generator=generator)
    right = torch.rand(200_000, generator=generator) < sure
    zeros = torch.zeros(200_000, dtype=torch.long)
    counts = calibration_counts(zeros, (~right).long(), sure, 2, 255).sum(1).numpy()
    assert calibration_error(counts) < 0.005
    assert calibration_error(counts) > 0  # of so many pixels, drawn at random
    worse = calibration_counts(zeros, (~right).long(), sure.sqrt(), 2, 255).sum(1).numpy()
    # The mean of sqrt(p) is 2/3, that of p is 1/2.
    assert calibration_error(worse) == pytest.approx(1 / 6, abs=0.005)
    tenths = (torch.arange(10) >= 7).long()
    boastful = calibration_counts(tenths, tenths * 0, torch.full((10,), 0.9), 2, 255)
    assert calibration_error(boastful.sum(1).numpy()) == pytest.approx(0.2, abs=1e-7)
    assert calibration_error(boastful[:, 0].numpy()) == pytest.approx(0.2, abs=1e-7)
    assert isnan(calibration_error(boastful[:, 1].numpy()))


def test_more_pixels_than_single_precision_can_count():
    counts = np.zeros((3, BINS), np.int64)
    counts[:, -1] = 2**36 - 1, 2**36 - 2, (2**36 - 1) * 2**BITS
    assert calibration_error(counts) == 1 / (2**36 - 1) and mean_confidence(counts) == 1


def sample(scores: torch.Tensor, labels: torch.Tensor, names=("seg_logits", "pred_sem_seg")):
    data = zip(names, (scores, labels), strict=True)
    return SegDataSample(**{name: PixelData(data=value) for name, value in data}).to_dict()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_confidence_from_scores(dtype):
    scores = (9 * torch.randn(CLASSES, 31, 43, dtype=torch.float64)).to(dtype)
    kept = scores.clone()
    exact = scores.double().softmax(0).amax(0)
    names = "geo_seg_logits", "pred_geo_seg"
    found = confidence_of(sample(scores, exact[None], names), "geo")
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    close = 1e-12 if dtype == torch.float64 else 5e-6
    assert found.dtype == wide and torch.equal(scores, kept)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=close)
    scores[1, 2, 3] = nan
    assert confidence_of(sample(scores, exact[None])).isnan().nonzero().tolist() == [[2, 3]]


def test_confidence_from_one_channel_is_that_of_its_label():
    probability = torch.tensor([[[0.1, 0.4, 0.6]]])
    labels = (probability > 0.3).float()  # mmseg's threshold
    found = confidence_of(sample(probability, labels))
    assert found.tolist() == [[pytest.approx(p) for p in (0.9, 0.4, 0.6)]]


def test_without_scores():
    with pytest.raises(UserError, match=r"a\.png: .*--tta"):
        confidence_of(dict(img_path="a.png"))
