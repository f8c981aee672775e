"""Confidence intervals of the scores, by bootstrap over images or over scenes.

The images of a test are drawn anew, with replacement, and scored as the test itself was; the
middle 95 % of such scores are the interval (Efron and Tibshirani, An Introduction to the Bootstrap,
1993, section 13.3). It tells how far a score depends on which images were taken, not how far
another training would change it.

All that is needed of an image are a few counts, not its pixels or its matrix: three for each class
are 7 MB for 2,000 images of 150 classes, where matrices would take 360 MB. Resamples are drawn in
blocks of ``BLOCK`` numbers.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.measures import Counts, summary
from fcn_plugin.evaluation.scores import Absent

BY = ("image", "scene")
LEVEL = 95  # percent
RESAMPLES = 2000
SEED = 0
# With fewer images or scenes, intervals are too narrow: in simulations they hold the true score in
# 92 of 100 tests of 20 images, 85 of 5 images and 50 of 2.
FEW = 20
BLOCK = 1 << 22  # numbers at a time: 32 MB
LOW, HIGH = "_low", "_high"  # endings of the keys of a metric

Bounds = tuple[float, float]  # low and high
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Drawn:
    """What was drawn: images or scenes.

    Attributes:
        by: 'image' or 'scene'.
        drawn: number of images or scenes.
        images: number of images.
        resamples: number of resamples.
    """

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


@dataclass(frozen=True)
class Intervals(Drawn):
    """Intervals of scores, as fractions in [0, 1]; NaN for what no resample has a score of.

    Attributes:
        scores: (low, high) by the score's name in ``measures.summary``.
        arrays: (low, high) of each class or width, by the array's name there.
    """

    scores: dict[str, Bounds]
    arrays: dict[str, list[Bounds]]


def intervals(
    counts: Counts,
    paths: Sequence[str],
    by: str = "image",
    absent: Absent = "skip",
    seed: int = SEED,
    resamples: int = RESAMPLES,
    beta: float = 1,
) -> Intervals:
    """The percentile intervals of all scores.

    A class that is absent from a resample does to its means what it does to the test's; its own
    interval is over the resamples that have it.

    Args:
        counts: those of ``measures`` by image, int64 [N, ...]; an image that is all void counts 0.
        paths: the images' paths, for their scenes.
        by: 'image', or 'scene' to draw all images of a scene together.
        absent, beta: as in ``scores``.

    Raises:
        UserError: there are not two images or scenes, or the names do not tell the scene.
    """
    groups = grouped(paths, by)
    found = [summary(pooled, absent, beta) for pooled in resampled(counts, groups, seed, resamples)]
    numbers, arrays = columns(found)
    return Intervals(
        *(by, int(groups.max()) + 1, len(groups), resamples),
        scores={name: bounds(column) for name, column in numbers.items()},
        arrays={name: [bounds(column) for column in rows] for name, rows in arrays.items()},
    )


def columns(summaries: Sequence[Mapping[str, Any]]) -> tuple[Columns, Columns]:
    """Of each number in summaries the values [R], and of each array those of its entries [n, R]."""
    values = {name: np.array([each[name] for each in summaries]).T for name in summaries[0]}
    numbers = {name: each for name, each in values.items() if each.ndim == 1}
    return numbers, {name: each for name, each in values.items() if each.ndim == 2}


def bounds(values: np.ndarray) -> Bounds:
    """The middle 95 % of the resamples' values; those without a score, NaN, do not count."""
    judged, tail = values[~np.isnan(values)], (100 - LEVEL) / 2
    if not len(judged):
        return math.nan, math.nan
    low, high = np.percentile(judged, [tail, 100 - tail])
    return float(low), float(high)


def resampled(
    counts: Counts, groups: np.ndarray, seed: int = SEED, resamples: int = RESAMPLES
) -> Iterator[Counts]:
    """The counts of each resample: of as many groups as there are, drawn anew.

    The same seed draws the same groups from whatever counts.

    Args:
        counts: int64 [N, ...] by name.
        groups: the group of each image, as from ``grouped``, int64 [N].
    """
    shapes = {name: each.shape[1:] for name, each in counts.items()}
    flat = np.concatenate([each.reshape(len(groups), -1) for each in counts.values()], 1)
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1]
    number = int(groups.max()) + 1
    by_group = np.zeros((number, flat.shape[1]), np.int64)
    np.add.at(by_group, groups, flat)
    # Products of floats are fast, and exact for whole numbers below 2^53: no test has such pixels.
    # Only summed confidences, of 2^30 a pixel, are rounded beyond it.
    pixels, chance = by_group.astype(np.float64), np.random.default_rng(seed)
    block = max(1, BLOCK // max(pixels.shape))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        times = chance.multinomial(number, np.full(number, 1 / number), size)
        for pooled in (times @ pixels).astype(np.int64):
            parts = np.split(pooled, ends)
            named = zip(shapes.items(), parts, strict=True)
            yield {name: part.reshape(shape) for (name, shape), part in named}


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
