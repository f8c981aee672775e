"""Bootstrap intervals against plain loops, and how often they hold a score that is known.

Several processes are in reporting/test_hook.py.
"""

from collections.abc import Iterable
from math import fsum, isnan, nan

import numpy as np
import pytest

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation import intervals as module
from fcn_plugin.evaluation.calibration import BINS, BITS
from fcn_plugin.evaluation.intervals import Intervals, grouped, intervals
from fcn_plugin.evaluation.measures import Counts, summary, summed_images
from fcn_plugin.evaluation.scores import ABSENT, class_counts

CLASSES, VOID, SCENES = 4, 255, ("a", "b", "a", "c", "c", "b", "a", "d")
NAMES = (
    *("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu", "final"),
    *("mean_precision", "mean_dice"),
)
PATHS = [f"{scene}_x_{number}.png" for number, scene in enumerate(SCENES)]


def maps(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth and prediction of each image; two are all void, and the last class is in one only."""
    chance, images = np.random.default_rng(seed), []
    for number in range(len(PATHS)):
        truth, prediction = chance.integers(0, CLASSES - 1, (2, 5, 6))
        prediction = np.where(chance.random((5, 6)) < 0.4, truth, prediction)
        if number == 2:
            truth[:2], prediction[1:3] = CLASSES - 1, CLASSES - 1
        truth[chance.random((5, 6)) < (1.0 if number in (1, 5) else 0.2)] = VOID
        images.append((truth, prediction))
    return images


def plain_matrix(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    for true, said in zip(truth.flat, prediction.flat, strict=True):
        if true != VOID:
            matrix[true, said] += 1
    return matrix


def plain_scores(matrices: list[np.ndarray], absent: str) -> list[float]:
    """The scores in the order of ``NAMES``, and each class's IU, of all pixels of these images."""
    rows = sum(matrices).astype(float).tolist()
    true, said = [sum(row) for row in rows], [sum(column) for column in zip(*rows, strict=True)]
    total, right = sum(true), [rows[label][label] for label in range(CLASSES)]
    ius, accuracies, precisions, dices = [], [], [], []
    for hit, row, column in zip(right, true, said, strict=True):
        judged = row if absent == "exclude" else row + column
        ius.append(hit / (row + column - hit) if judged else nan)
        accuracies.append(hit / row if row else nan)
        precisions.append(hit / column if column and judged else nan)
        dices.append(2 * hit / (row + column) if judged else nan)

    def mean(values: list[float]) -> float:
        judged = [0.0 if isnan(value) else value for value in values]
        if absent != "zero":
            judged = [value for value in values if not isnan(value)]
        return sum(judged) / len(judged) if judged else nan

    weighted = [row * iu for row, iu in zip(true, ius, strict=True) if row]
    accuracy, mean_iu = sum(right) / total if total else nan, mean(ius)
    four = [accuracy, mean(accuracies), mean_iu, fsum(weighted) / total if total else nan]
    return [*four, (accuracy + mean_iu) / 2, mean(precisions), mean(dices), *ius]


def plain_percentile(values: list[float], share: float) -> float:
    """Between the two nearest in order; those without a score do not count."""
    ordered = sorted(value for value in values if not isnan(value))
    if not ordered:
        return nan
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def flat(found: Intervals) -> np.ndarray:
    return np.array([*(found.scores[name] for name in NAMES), *found.arrays["class_iu"]])


def regions(matrices: Iterable[np.ndarray]) -> Counts:
    return {"regions": np.stack([class_counts(matrix) for matrix in matrices])}


def permuted(counts: Counts, order: list[int]) -> Counts:
    return {name: each[order] for name, each in counts.items()}


@pytest.mark.parametrize("by", module.BY)
@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_plain_loops(monkeypatch, by, absent, seed):
    """Whatever the size of blocks; a class is absent from many resamples, or from all images."""
    monkeypatch.setattr(module, "BLOCK", 40)
    matrices = [plain_matrix(*image) for image in maps(seed)]
    if seed == 2:
        for matrix in matrices:
            matrix[-1], matrix[:, -1] = 0, 0
    members = [[i] for i in sorted(range(len(PATHS)), key=PATHS.__getitem__)]
    if by == "scene":
        members = [[i for i, scene in enumerate(SCENES) if scene == one] for one in "abcd"]
    drawn, chance = [], np.random.default_rng(seed)
    for _ in range(100):
        times = chance.multinomial(len(members), [1 / len(members)] * len(members))
        images = [i for group, n in zip(members, times, strict=True) for i in group * n]
        drawn.append(plain_scores([matrices[i] for i in images], absent))
    assert any(isnan(resample[-1]) for resample in drawn)
    columns = [[resample[i] for resample in drawn] for i in range(len(drawn[0]))]
    expected = [[plain_percentile(column, share) for share in (0.025, 0.975)] for column in columns]
    found = intervals(regions(matrices), PATHS, by, absent, seed=seed, resamples=100)
    np.testing.assert_allclose(flat(found), expected, rtol=0, atol=1e-12)
    what = f"{len(members)} images" if by == "image" else "4 scenes of 8 images"
    assert found.text.endswith(f" 100 resamples of {what}; fewer than 20 make them too narrow")


def test_a_seed_draws_the_same_images():
    counts = regions(plain_matrix(*image) for image in maps(0))
    first = intervals(counts, PATHS)
    low, high = flat(first).T
    assert (low[:-1] < high[:-1]).all() and low[-1] == high[-1]  # in one image only
    np.testing.assert_array_equal(flat(first), flat(intervals(counts, PATHS)))
    assert (flat(first) != flat(intervals(counts, PATHS, seed=1))).any()
    order = [5, 0, 7, 2, 1, 6, 4, 3]
    for by in module.BY:  # in any order, and from another folder
        elsewhere = [f"labels/{PATHS[i]}" for i in order]
        same = intervals(permuted(counts, order), elsewhere, by)
        np.testing.assert_array_equal(flat(same), flat(intervals(counts, PATHS, by)))


def drawn_images(chance: np.random.Generator, number: int) -> np.ndarray:
    """Confusion matrices of images that differ in their classes and in how hard they are."""
    pixels = chance.multinomial(400, chance.dirichlet([2, 1, 0.5], number))
    right = chance.beta(6, 2, (number, 1, 1))
    wrong = np.array([[0, 0.7, 0.3], [0.6, 0, 0.4], [0.5, 0.5, 0]])
    return chance.multinomial(pixels, right * np.eye(3) + (1 - right) * wrong)


def drawn_counts(chance: np.random.Generator, number: int) -> Counts:
    """All measures of images that differ in how hard they are; the network is overconfident."""
    matrices, boundaries = drawn_images(chance, number), drawn_images(chance, number)
    easy = chance.beta(20, 3, (number, 1))
    near = chance.integers(10, 40, (number, 32))
    says = np.linspace(0.4, 1, BINS)
    sure = chance.multinomial(400, chance.dirichlet(np.arange(1, BINS + 1), number))
    units = sure * (says * 2**BITS).astype(np.int64)
    wrong = chance.binomial(100, 1 - easy[:, 0])
    return {
        **regions(matrices),
        "boundary": regions(boundaries)["regions"],
        "trimap": np.stack([near, chance.binomial(near, easy * np.linspace(0.6, 1, 32))], 1),
        "confidence": np.stack([sure, chance.binomial(sure, easy * says), units], 1),
        "kinds": chance.multinomial(wrong, [0.5, 0.3, 0.15, 0.05]),
    }


def test_95_percent_hold_the_true_score():
    """Of 250 tests of 60 images; the truth is the score of very many images."""
    true = summary(summed_images(drawn_counts(np.random.default_rng(99), 300_000)))
    held = []
    for test in range(250):
        counts = drawn_counts(np.random.default_rng([1, test]), 60)
        found = intervals(counts, ["x"] * 60, seed=test, resamples=150)
        pairs = [(true[name], found.scores[name]) for name in found.scores]
        for name, bounds in found.arrays.items():
            pairs += zip(true[name], bounds, strict=True)
        held.append([low <= score <= high for score, (low, high) in pairs])
    share = np.mean(held, axis=0)
    assert len(share) > 60 and (share > 0.90).all() and (share < 0.98).all(), share


@pytest.mark.parametrize(
    ("paths", "by", "message"),
    [
        (["a_1.png"], "image", "a_1.png: an interval needs at least two images"),
        (["s_1.png", "x/frame.png"], "scene", "x/frame.png: nothing before a last _"),
        (["a_1_gt.png", "a_2_gt.png"], "scene", "^a_1_gt.png: .* a_1, and so each image"),
        (["s_1.png", "s_2.png"], "scene", "s_1.png: it and all other images are of the scene s,"),
    ],
)
def test_what_has_no_interval(paths, by, message):
    with pytest.raises(UserError, match=message):
        grouped(paths, by)
