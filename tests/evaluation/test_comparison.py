"""A against B: the same images are drawn for both; how often chance is taken for a difference."""

import numpy as np
import pytest

from fcn_plugin.evaluation import intervals as intervals_module
from fcn_plugin.evaluation.comparison import changes_by_image, comparison
from fcn_plugin.evaluation.intervals import intervals
from fcn_plugin.evaluation.measures import Counts, summary, summed_images
from fcn_plugin.evaluation.scores import class_counts, scores


def drawn(chance: np.random.Generator, number: int, *shares: float) -> list[np.ndarray]:
    """Matrices [N, 3, 3] of networks with such shares right; images are as hard for all of them."""
    pixels = chance.multinomial(400, chance.dirichlet([2, 1, 0.5], number))
    easy = chance.beta(6, 2, (number, 1, 1))
    wrong = np.array([[0, 0.7, 0.3], [0.6, 0, 0.4], [0.5, 0.5, 0]])
    rates = [easy * share for share in shares]
    return [chance.multinomial(pixels, rate * np.eye(3) + (1 - rate) * wrong) for rate in rates]


def regions(matrices: np.ndarray) -> Counts:
    return {"regions": np.stack([class_counts(matrix) for matrix in matrices])}


@pytest.mark.parametrize("by", intervals_module.BY)
def test_differences_are_those_of_scores_of_the_same_images(by):
    sides = [regions(side) for side in drawn(np.random.default_rng(0), 30, 1.0, 0.9)]
    paths = [f"{number % 7}_{number}.png" for number in range(30)]
    found = comparison(*sides, paths, by, resamples=200)
    groups = intervals_module.grouped(paths, by)
    chance, changes = np.random.default_rng(intervals_module.SEED), []
    number = groups.max() + 1
    for _ in range(200):
        times = chance.multinomial(number, np.full(number, 1 / number))[groups]
        pooled = [(side["regions"] * times[:, None, None]).sum(0) for side in sides]
        before, after = (summary({"regions": counts}) for counts in pooled)
        changes.append(after["class_iu"] - before["class_iu"])
    for change, column in zip(found.arrays["class_iu"], np.transpose(changes), strict=True):
        assert change.bounds == pytest.approx(np.percentile(column, [2.5, 97.5]), abs=1e-12)
        assert change.wins == (column > 0).mean()
    before, after = (summary(summed_images(side)) for side in sides)
    for name, change in found.scores.items():
        assert change.value == after[name] - before[name]
    by_image = [
        [scores(m).mean_iu for m in side] for side in drawn(np.random.default_rng(0), 30, 1, 0.9)
    ]
    np.testing.assert_allclose(changes_by_image(*sides), np.subtract(*by_image[::-1]), atol=1e-15)


def test_95_percent_hold_the_true_difference_and_are_narrow():
    """Of 200 tests of 60 images; unpaired intervals are several times as wide."""
    many = [scores(side.sum(0)) for side in drawn(np.random.default_rng(9), 200_000, 1.0, 0.97)]
    true = many[1].mean_iu - many[0].mean_iu
    held, won = [], []
    for test in range(200):
        sides = drawn(np.random.default_rng([2, test]), 60, 1.0, 0.97)
        counts = [regions(side) for side in sides]
        change = comparison(*counts, ["x"] * 60, seed=test, resamples=150).scores["mean_iu"]
        held.append(change.bounds[0] <= true <= change.bounds[1])
        won.append(change.wins)
    assert 0.90 < np.mean(held) < 0.98
    assert np.mean(won) < 0.1
    low, high = intervals(counts[0], ["x"] * 60, resamples=150).scores["mean_iu"]
    assert high - low > 2 * (change.bounds[1] - change.bounds[0])


def test_less_is_better_of_errors_and_ties_are_half():
    side = regions(drawn(np.random.default_rng(0), 5, 1.0)[0])
    more, fewer = ({**side, "kinds": np.full((5, 4), n)} for n in (9, 3))
    paths = [f"{number}.png" for number in range(5)]
    found = comparison(more, fewer, paths, resamples=50)
    assert found.scores["errors_missed"].wins == 1 and found.scores["errors_missed"].value < 0
    assert found.scores["mean_iu"].wins == 0.5 and found.scores["mean_iu"].bounds == (0, 0)
    assert comparison(more, side, paths, resamples=50).scores.keys() < found.scores.keys()
