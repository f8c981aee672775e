"""The evaluation of a checkpoint on a data set: one confusion matrix, and scores of each image."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fcn_plugin.evaluation.scores import Scores, scores
from fcn_plugin.system.download import file_digests
from fcn_plugin.system.files import replacing

FILE = "evaluation.json"
PANELS = "images"  # folder beside it
FORMAT = 2  # of that file; another is scored anew


@dataclass(frozen=True)
class ScoredImage:
    """An image and its own scores in [0, 1]; None if all of it is void.

    ``mean_iu`` is over the classes in its truth or its prediction; ``note`` belongs to its picture.
    """

    path: str
    mean_iu: float | None
    pixel_accuracy: float | None
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluation.json`` holds.

    Attributes:
        dataset: data set and split, in words.
        classes, palette, numbers: name, RGB colour in 0-255, and the data set's own number of each
            class.
        absent: what a class without any pixel does to the means, 'skip' or 'zero'.
        matrix: int64, C x C, pixels by truth and prediction.
        images: in the order of the data set.
        sha256: of the checkpoint.
        facts: checkpoint, command and versions, in words.
        folder: where it is kept, beside its pictures.
    """

    dataset: str
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    numbers: Sequence[int]
    absent: str
    matrix: np.ndarray
    images: Sequence[ScoredImage]
    sha256: str
    facts: dict[str, str]
    folder: Path

    @property
    def scores(self) -> Scores:
        return scores(self.matrix, self.absent)

    @property
    def panels(self) -> Path:
        return self.folder / PANELS

    def has_panels(self, index: int) -> bool:
        return all((self.panels / f"{index}{suffix}").is_file() for suffix in (".png", ".jpg"))


def scored_image(path: str, matrix: np.ndarray, note: str = "") -> ScoredImage:
    """From the image's own matrix, C x C."""
    own = scores(matrix)
    mean_iu, accuracy = (
        None if math.isnan(score) else score for score in (own.mean_iu, own.pixel_accuracy)
    )
    return ScoredImage(path, mean_iu, accuracy, note)


def save(evaluation: Evaluation) -> None:
    content = {**asdict(evaluation), "format": FORMAT, "matrix": evaluation.matrix.tolist()}
    del content["folder"]  # which may be moved
    with replacing(evaluation.folder / FILE) as part:
        part.write_text(json.dumps(content, allow_nan=False) + "\n")


def load(folder: Path) -> Evaluation | None:
    """The evaluation kept in ``folder``; None if there is none that can be read."""
    try:
        content = json.loads((folder / FILE).read_text())
        if content.pop("format") != FORMAT:
            return None
        content["matrix"] = np.array(content["matrix"], np.int64)
        content["images"] = [ScoredImage(**image) for image in content["images"]]
        return Evaluation(**content, folder=folder)
    # Whatever is wrong with it, it can be made again.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def sha256(path: Path) -> str:
    return file_digests(path, ["sha256"])["sha256"]
