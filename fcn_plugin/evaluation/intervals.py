"""Confidence intervals of the scores, by bootstrap over images or over scenes.

The images of a test are drawn anew, with replacement, and scored as the test itself was; the
middle 95 % of such scores are the interval (Efron and Tibshirani, An Introduction to the Bootstrap,
1993, section 13.3). It tells how far a score depends on which images were taken, not how far
another training would change it.

All that is needed of an image are three counts for each class, not its pixels or its matrix: 7 MB
for 2,000 images of 150 classes, where matrices would take 360 MB. Resamples are drawn in blocks of
``BLOCK`` numbers.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.scores import Scores, scores_of

BY = ("image", "scene")
LEVEL = 95  # percent
RESAMPLES = 2000
SEED = 0
# With fewer images or scenes, intervals are too narrow: in simulations they hold the true score in
# 92 of 100 tests of 20 images, 85 of 5 images and 50 of 2.
FEW = 20
BLOCK = 1 << 22  # numbers at a time: 32 MB
NAMES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu", "final")
LOW, HIGH = "_low", "_high"  # endings of the keys of a metric

Bounds = tuple[float, float]  # low and high


@dataclass(frozen=True)
class Intervals:
    """Intervals of scores, as fractions in [0, 1]; NaN for what no resample has a score of.

    Attributes:
        scores: (low, high) by the score's name in ``Scores``.
        class_iu: (low, high) of each class.
        by: 'image' or 'scene', what was drawn.
        drawn: number of images or scenes.
        images: number of images.
        resamples: number of resamples.
    """

    scores: dict[str, Bounds]
    class_iu: list[Bounds]
    by: str
    drawn: int
    images: int
    resamples: int

    @property
    def text(self) -> str:
        """What the intervals are, in a few words."""
        few = f"; fewer than {FEW} make them too narrow" if self.drawn < FEW else ""
        resamples = f"{self.resamples:,} resamples of {self.drawn:,} {self.by}s"
        together = f" of {self.images:,} images" if self.by != "image" else ""
        return f"{LEVEL} % intervals from {resamples}{together}{few}"


def intervals(
    counts: np.ndarray,
    paths: Sequence[str],
    by: str = "image",
    absent: str = "skip",
    seed: int = SEED,
    resamples: int = RESAMPLES,
) -> Intervals:
    """The percentile intervals of the scores and of each class's IU.

    A class that is absent from a resample does to its means what it does to the test's; its own
    interval is over the resamples that have it.

    Args:
        counts: ``class_counts`` of each image, int64 [N, 3, C]; an image that is all void counts 0.
        paths: the images' paths, for their scenes.
        by: 'image', or 'scene' to draw all images of a scene together.
        absent: as in ``scores``.

    Raises:
        UserError: there are not two images or scenes, or the names do not tell the scene.
    """
    groups = grouped(paths, by)
    drawn = resampled(counts, groups, seed, resamples)
    values = [_values(scores_of(pooled, absent)) for pooled in drawn]
    tail = (100 - LEVEL) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        bounds = np.nanpercentile(values, [tail, 100 - tail], axis=0)
    pairs: list[Bounds] = [(low, high) for low, high in bounds.T.tolist()]
    scores = dict(zip(NAMES, pairs, strict=False))
    return Intervals(
        scores,
        class_iu=pairs[len(NAMES) :],
        by=by,
        drawn=int(groups.max()) + 1,
        images=len(groups),
        resamples=resamples,
    )


def _values(scores: Scores) -> list[float]:
    return [*(getattr(scores, name) for name in NAMES), *scores.class_iu]


def resampled(
    counts: np.ndarray, groups: np.ndarray, seed: int = SEED, resamples: int = RESAMPLES
) -> Iterator[np.ndarray]:
    """The counts of each resample, int64 [3, C]: of as many groups as there are, drawn anew.

    The same seed draws the same groups from whatever counts.

    Args:
        counts: int64 [N, 3, C].
        groups: the group of each image, as from ``grouped``, int64 [N].
    """
    number = int(groups.max()) + 1
    by_group = np.zeros((number, counts[0].size), np.int64)
    np.add.at(by_group, groups, counts.reshape(len(counts), -1))
    # Products of floats are fast, and exact for whole numbers below 2^53: no test has such pixels.
    assert number * int(by_group.max()) < 2**53
    pixels, chance = by_group.astype(np.float64), np.random.default_rng(seed)
    block = max(1, BLOCK // max(pixels.shape))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        times = chance.multinomial(number, np.full(number, 1 / number), size)
        yield from (times @ pixels).astype(np.int64).reshape(size, *counts.shape[1:])


def grouped(paths: Sequence[str], by: str) -> np.ndarray:
    """The number of each image's group, int64 [N]: its own, or its scene's, in order of names.

    The scene is the file's name up to its last "_":

    >>> grouped(["b/0001TP_006690.png", "b/Seq05VD_f00000.png", "b/0001TP_006720.png"], "scene")
    array([0, 1, 0])

    Raises:
        UserError: there are not two groups, a name has no "_", or no two images are of one scene.
    """
    if by not in BY:
        raise ValueError(f"by must be one of {BY}, not {by!r}")
    if by == "image":
        if len(paths) < 2:
            raise UserError(
                f"{', '.join(paths) or 'no image'}: an interval needs at least two images; score "
                "more, or leave the interval out"
            )
        # By name: a list and a folder of predictions have the same images in another order.
        ordered = sorted(range(len(paths)), key=lambda i: (PurePath(paths[i]).stem, paths[i]))
        return np.argsort(ordered)
    scenes = [PurePath(path).stem.rpartition("_")[0] for path in paths]
    for path, scene in zip(paths, scenes, strict=True):
        if not scene:
            raise UserError(
                f"{path}: nothing before a last _ tells its scene, as in Seq05VD_f00000.png; take "
                "the interval over images"
            )
    names, groups = np.unique(scenes, return_inverse=True)
    if len(names) < 2:
        raise UserError(
            f"{paths[0]}: it and all other images are of the scene {names[0]}, and an interval "
            "over scenes needs at least two; take it over images"
        )
    if len(names) == len(paths):
        raise UserError(
            f"{paths[0]}: by its name up to the last _ its scene is {scenes[0]}, and so each "
            "image is a scene of its own; take the interval over images"
        )
    return groups
