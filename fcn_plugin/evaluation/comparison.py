"""Whether B is better than A: differences of their scores on the same images, by paired bootstrap.

Each resample draws the same images, or scenes, for both (Efron and Tibshirani, An Introduction to
the Bootstrap, 1993, chapter 13). What makes an image hard for both cancels, so that the interval
of a difference is much narrower than those of the two scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fcn_plugin.evaluation.intervals import (
    FEW,
    RESAMPLES,
    SEED,
    Bounds,
    Drawn,
    bounds,
    columns,
    grouped,
    resampled,
)
from fcn_plugin.evaluation.measures import LOWER_IS_BETTER, Counts, summary, summed_images
from fcn_plugin.evaluation.scores import Absent, scores_of


class Change(NamedTuple):
    """B's score less A's as a fraction, and its interval; NaN if one of them has no score.

    ``wins`` is the share of resamples in which B is better, a tie being half of one.
    """

    value: float
    bounds: Bounds
    wins: float


@dataclass(frozen=True)
class Comparison(Drawn):
    """Changes from A to B.

    Attributes:
        scores: by the score's name in ``measures.summary``.
        arrays: of each class or width, by the array's name there.
    """

    scores: dict[str, Change]
    arrays: dict[str, list[Change]]

    @property
    def better(self) -> bool | None:
        """Whether B's mean IU is higher beyond the chance of the images.

        None if it cannot be told: the interval has 0, or is of few images or scenes, where of two
        networks that are equally good one is often found better.
        """
        low, high = self.scores["mean_iu"].bounds
        if self.drawn < FEW or not (low > 0 or high < 0):
            return None
        return low > 0


def comparison(
    first: Counts,
    second: Counts,
    paths: Sequence[str],
    by: str = "image",
    absent: Absent = "skip",
    seed: int = SEED,
    resamples: int = RESAMPLES,
) -> Comparison:
    """How the scores change from ``first`` to ``second``.

    Args:
        first, second: counts of the same images in the same order, int64 [N, ...] by name; what
            only one of them has is left out.
        paths, by, absent: as in ``intervals``.

    Raises:
        UserError: as in ``intervals``.
    """
    groups = grouped(paths, by)
    both = first.keys() & second.keys()
    sides = [{name: side[name] for name in first if name in both} for side in (first, second)]
    numbers, arrays = [], []
    for side in sides:
        # The same seed draws the same images for both.
        drawn = resampled(side, groups, seed, resamples)
        found = columns([summary(pooled, absent) for pooled in drawn])
        numbers.append(found[0])
        arrays.append(found[1])
    whole = [summary(summed_images(side), absent) for side in sides]
    return Comparison(
        *(by, int(groups.max()) + 1, len(groups), resamples),
        scores={
            name: _change(name, *(w[name] for w in whole), *(side[name] for side in numbers))
            for name in numbers[0]
        },
        arrays={
            name: [
                _change(name, *ends)
                for ends in zip(*(w[name] for w in whole), *(s[name] for s in arrays), strict=True)
            ]
            for name in arrays[0]
        },
    )


def changes_by_image(first: Counts, second: Counts) -> np.ndarray:
    """Of each image the change of its mean IU, over the classes that are in its own truth or
    prediction; NaN if it is all void.

    Args:
        first, second: as for ``comparison``.
    """
    sides = ([scores_of(counts).mean_iu for counts in each["regions"]] for each in (first, second))
    before, after = map(np.array, sides)
    return after - before


def _change(
    name: str, first: float, second: float, firsts: np.ndarray, seconds: np.ndarray
) -> Change:
    changes = seconds - firsts
    judged = changes[~np.isnan(changes)] * (-1 if name in LOWER_IS_BETTER else 1)
    wins = ((judged > 0) + 0.5 * (judged == 0)).mean() if len(judged) else np.nan
    return Change(float(second - first), bounds(changes), float(wins))
