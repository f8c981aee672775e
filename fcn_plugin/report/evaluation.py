"""A checkpoint's evaluation on a data set: a confusion matrix, and the scores of each image."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fcn_plugin.evaluation.intervals import Intervals, intervals
from fcn_plugin.evaluation.scores import Scores, scores
from fcn_plugin.system.download import file_digests
from fcn_plugin.system.files import replacing

FILE = "evaluation.json"
PANELS = "images"  # folder beside FILE
FORMAT = 3  # of FILE; an evaluation in another format is not read but made again
COUNTS = ("matrix", "counts")  # in FILE as lists


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
        matrix: C x C, int64, number of pixels by truth and prediction.
        counts: N x 3 x C, int64, ``class_counts`` of each image.
        images: scores of each image, in the order of the data set.
        sha256: hash of the checkpoint.
        facts: checkpoint, command and versions, in words.
        folder: the folder of ``evaluation.json`` and the pictures.
    """

    dataset: str
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    numbers: Sequence[int]
    absent: str
    matrix: np.ndarray
    counts: np.ndarray
    images: Sequence[ScoredImage]
    sha256: str
    facts: dict[str, str]
    folder: Path

    @property
    def scores(self) -> Scores:
        return scores(self.matrix, self.absent)

    def intervals(self, by: str) -> Intervals:
        """Of the scores; ``by`` 'image' or 'scene'."""
        paths = [image.path for image in self.images]
        return intervals(self.counts, paths, by, self.absent)

    @property
    def panels(self) -> Path:
        return self.folder / PANELS

    def has_panels(self, index: int) -> bool:
        return all((self.panels / f"{index}{suffix}").is_file() for suffix in (".png", ".jpg"))


def scored_image(path: str, matrix: np.ndarray, note: str = "") -> ScoredImage:
    """The scores of an image from its confusion matrix, C x C."""
    result = scores(matrix)
    mean_iu, accuracy = (
        None if math.isnan(score) else score for score in (result.mean_iu, result.pixel_accuracy)
    )
    return ScoredImage(path, mean_iu, accuracy, note)


def save(evaluation: Evaluation) -> None:
    content = {**asdict(evaluation), "format": FORMAT}
    content |= {name: getattr(evaluation, name).tolist() for name in COUNTS}
    del content["folder"]  # may be moved later
    with replacing(evaluation.folder / FILE) as part:
        part.write_text(json.dumps(content, allow_nan=False) + "\n")


def load(folder: Path) -> Evaluation | None:
    """The evaluation in ``folder``; None if it is missing or unreadable."""
    try:
        content = json.loads((folder / FILE).read_text())
        if content.pop("format") != FORMAT:
            return None
        content |= {name: np.array(content[name], np.int64) for name in COUNTS}
        content["images"] = [ScoredImage(**image) for image in content["images"]]
        return Evaluation(**content, folder=folder)
    # Any damaged file can simply be made again.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def sha256(path: Path) -> str:
    return file_digests(path, ["sha256"])["sha256"]
