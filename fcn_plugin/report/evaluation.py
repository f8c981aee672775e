"""A checkpoint's evaluation on a data set: what was counted, in all and of each image."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fcn_plugin.evaluation.intervals import Intervals, intervals
from fcn_plugin.evaluation.measures import Counts, summary
from fcn_plugin.evaluation.scores import Absent, scores_of
from fcn_plugin.system.download import file_digests
from fcn_plugin.system.files import replacing

FILE = "evaluation.json"
PANELS = "images"  # folder beside FILE
FORMAT = 4  # of FILE; an evaluation in another format is not read but made again
COUNTS = ("total", "by_image")  # in FILE as lists by name


@dataclass(frozen=True)
class ScoredImage:
    """The scores of one image in [0, 1]; None if all its pixels are void.

    ``mean_iu`` averages the classes in its truth or prediction; ``note`` describes its picture.
    """

    path: str
    mean_iu: float | None
    pixel_accuracy: float | None
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The content of ``evaluation.json``.

    Attributes:
        dataset: data set and split, in words.
        classes, palette, numbers: name, RGB colour in 0-255, and number in the data set's label
            files, of each class.
        absent: what a class without any pixel does to the means, as in ``scores``.
        total, by_image: counts of all images together, and of each, by their names in
            ``measures``; the total has ``matrix``, too: C x C pixels by truth and prediction.
        ratio: width of boundary regions, as a fraction of the image's diagonal.
        images: scores of each image, in the order of the data set.
        sha256: hash of the checkpoint.
        facts: checkpoint, command and versions, in words.
        folder: the folder of ``evaluation.json`` and the pictures.
    """

    dataset: str
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    numbers: Sequence[int]
    absent: Absent
    total: Counts
    by_image: Counts
    ratio: float
    images: Sequence[ScoredImage]
    sha256: str
    facts: dict[str, str]
    folder: Path

    @property
    def matrix(self) -> np.ndarray:
        return self.total["matrix"]

    @cached_property
    def scores(self) -> dict[str, Any]:
        """All scores by their names in ``measures.summary``."""
        return summary(self.total, self.absent)

    def intervals(self, by: str) -> Intervals:
        """Of the scores; ``by`` 'image' or 'scene'."""
        paths = [image.path for image in self.images]
        return intervals(self.by_image, paths, by, self.absent)

    @property
    def panels(self) -> Path:
        return self.folder / PANELS

    def has_panels(self, index: int) -> bool:
        return all((self.panels / f"{index}{suffix}").is_file() for suffix in (".png", ".jpg"))


def scored_image(path: str, regions: np.ndarray, note: str = "") -> ScoredImage:
    """The scores of an image from its ``class_counts``, 3 x C."""
    result = scores_of(regions)
    mean_iu, accuracy = (
        None if math.isnan(score) else score for score in (result.mean_iu, result.pixel_accuracy)
    )
    return ScoredImage(path, mean_iu, accuracy, note)


def save(evaluation: Evaluation) -> None:
    content = {**asdict(evaluation), "format": FORMAT}
    for name in COUNTS:
        content[name] = {key: each.tolist() for key, each in content[name].items()}
    del content["folder"]  # may be moved later
    with replacing(evaluation.folder / FILE) as part:
        part.write_text(json.dumps(content, allow_nan=False) + "\n")


def load(folder: Path) -> Evaluation | None:
    """The evaluation in ``folder``; None if it is missing or unreadable."""
    try:
        content = json.loads((folder / FILE).read_text())
        if content.pop("format") != FORMAT:
            return None
        for name in COUNTS:
            arrays = content[name].items()
            content[name] = {key: np.array(each, np.int64) for key, each in arrays}
        content["images"] = [ScoredImage(**image) for image in content["images"]]
        return Evaluation(**content, folder=folder)
    # Any damaged file can simply be made again.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def sha256(path: Path) -> str:
    return file_digests(path, ["sha256"])["sha256"]
