"""A temperature that is known is found again, from pixels drawn alike from all images."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation import temperature
from fcn_plugin.evaluation.calibration import calibration_error
from fcn_plugin.evaluation.temperature import (
    HIGHEST,
    LOWEST,
    PixelSample,
    counts_at,
    fit_temperature,
    negative_log_likelihood,
)

CLASSES = 5


def drawn(known: float, pixels: int = 60_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores, and labels drawn with their probabilities at a temperature."""
    generator = torch.Generator().manual_seed(0)
    scores = 4 * torch.randn(pixels, CLASSES, generator=generator, dtype=torch.float64)
    labels = (scores / known).softmax(1).multinomial(1, generator=generator)
    return scores, labels[:, 0]


@pytest.mark.parametrize("known", [0.5, 1.0, 2.5, 8.0])
def test_a_known_temperature_is_found(known, monkeypatch):
    monkeypatch.setattr(temperature, "BLOCK", 7001)
    scores, labels = drawn(known)
    found = fit_temperature(scores, labels)
    assert found == pytest.approx(known, rel=0.02)
    assert fit_temperature(scores + torch.rand(len(scores), 1), labels) == pytest.approx(found)

    def plain(log: float) -> float:
        return -(scores / np.exp(log)).log_softmax(1)[range(len(labels)), labels].mean().item()

    least = minimize_scalar(plain, bounds=(-3, 3), method="bounded", options=dict(xatol=1e-7))
    assert found == pytest.approx(np.exp(least.x), rel=1e-5)
    assert negative_log_likelihood(scores, labels, found) == pytest.approx(least.fun, rel=1e-12)
    before, after = (calibration_error(counts_at(scores, labels, t)) for t in (1.0, found))
    assert after < 0.01 and (known == 1 or before > 5 * after)


def test_networks_without_a_best_temperature():
    scores, labels = drawn(1.0, pixels=500)
    assert fit_temperature(scores, scores.argmax(1)) == LOWEST
    assert fit_temperature(scores, scores.argmin(1)) == HIGHEST
    one_class = fit_temperature(scores[:1], scores[:1].argmax(1))
    assert one_class == LOWEST
    for bad, message in {
        "void": "void",
        "nan": "NaN or inf",
        "inf": "NaN or inf",
        "same": "the same score",
    }.items():
        values = scores.clone()
        if bad == "same":
            values = values[:, :1].expand(-1, CLASSES)
        else:
            values[3, 2] = float(bad) if bad != "void" else 0
        kept = 0 if bad == "void" else len(values)
        with pytest.raises(UserError, match=message):
            fit_temperature(values[:kept], labels[:kept])


def sample(images: list[torch.Tensor], order: list[int], budget: int) -> PixelSample:
    """Of images whose scores are their number, row and column."""
    pixels = PixelSample(3, budget)
    for number in order:

        def scores_at(rows: torch.Tensor, cols: torch.Tensor, number: int = number):
            return torch.stack((torch.full_like(rows, number), rows, cols), 1).float()

        pixels.add(number, images[number], 255, scores_at)
    return pixels


def taken(pixels: PixelSample) -> list[list[float]]:
    scores, labels = pixels.drawn()
    return sorted(
        [*row, label] for row, label in zip(scores.tolist(), labels.tolist(), strict=True)
    )


def test_pixels_are_drawn_alike_from_all_images():
    """Of any size, in any order, but not the void ones; all of them if they are few."""
    chance = np.random.default_rng(0)
    sizes = [(30, 40), (60, 40), (1, 1), (30, 80), (20, 30)]
    images = [torch.from_numpy(chance.integers(0, 3, size)) for size in sizes]
    images[3][:, :40] = 255
    images[4][:] = 255
    found = taken(sample(images, [0, 1, 2, 3, 4], 3 * 1500))
    assert found == taken(sample(images, [4, 2, 3, 0, 1], 3 * 1500))
    assert len(found) == len({tuple(row) for row in found}) == 1500
    for number, row, col, label in found:
        assert images[int(number)][int(row), int(col)] == label != 255
    by_image = np.bincount([int(row[0]) for row in found], minlength=5) / 1500
    np.testing.assert_allclose(by_image, [0.25, 0.5, 0, 0.25, 0], atol=0.04)
    alike = [torch.zeros(30, 40, dtype=torch.long)] * 2
    halves = taken(sample(alike, [0, 1], 3 * 1200))
    first, second = ({tuple(row[1:3]) for row in halves if row[0] == i} for i in range(2))
    assert first != second  # each image has random numbers of its own
    everything = taken(sample(images, [0, 1, 2, 3, 4], 3 * 5000))
    assert len(everything) == 1200 + 2400 + 1 + 1200
    nothing, none = PixelSample(3).drawn()
    assert nothing.shape == (0, 3) and none.shape == (0,)
