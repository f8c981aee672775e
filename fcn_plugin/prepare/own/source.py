"""What a reader of labelled pictures gets (`Job`) and returns (`Source`); see ``readers``."""

import codecs
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from fcn_plugin.errors import UserError, width_by_height
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.system.workers import on_all_cores

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_NOTED = 20

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Size = tuple[int, int]  # height and width


class Job(NamedTuple):
    """The options of ``fcn-plugin prepare_data own``.

    Attributes:
        folder: has the labelled pictures.
        root: folder of the data set to make.
        classes_file: class names, one a line; None: use those in the folder.
        val: share of the training images to score on, unless the folder has a list of them.
        seed: decides which images are in val. Adding images moves only a few of the others.
        scale: factor by which images are resized, in training and in prediction.
        note: called with each line that the user should read.
        class_weight: let rare classes count as much in the loss as frequent ones.
    """

    folder: Path
    root: Path
    classes_file: Path | None = None
    val: float = 0.2
    seed: int = 0
    scale: float = 1.0
    note: Callable[[str], None] = lambda text: None
    progress: Progress = silent
    class_weight: bool = False


class Item(NamedTuple):
    """A picture. ``image`` is None if the annotation file contains the picture; ``annotation`` is
    None if the picture has no label.
    """

    name: str
    image: Path | None
    annotation: Path | None

    @property
    def file(self) -> Path:
        """The file to name in an error."""
        path = self.image or self.annotation
        assert path is not None
        return path


class Source(NamedTuple):
    """The contents of a folder of labelled pictures.

    Attributes:
        items: pictures with a label; ``with_splits`` adds test images without one.
        unlabelled: images without a label.
        classes, palette: the names of the classes, and their RGB colours in 0-255.
        read: gives the label [H, W] uint8 of an item whose image has the given size: class indices,
            and 255 for pixels to leave out. Can be pickled, for other processes.
        settings: other files that the labels depend on.
    """

    items: list[Item]
    unlabelled: list[Path]
    classes: list[str]
    palette: list[list[int]]
    read: Callable[[Item, Size], np.ndarray]
    settings: list[Path]


def each(
    step: str, function: Callable[[Argument], Result], items: Sequence[Argument], job: Job
) -> list[Result]:
    """The results of ``function`` for all items, computed on all cores.

    Raises:
        UserError: an item has a fault; if several have one, the first faults are noted before.
    """
    results: list[Result] = []
    faults: list[UserError] = []
    outcomes = on_all_cores(partial(_attempt, function), items)
    for done, outcome in enumerate(outcomes, start=1):
        if isinstance(outcome, UserError):
            faults.append(outcome)
        else:
            results.append(outcome)
        job.progress(step, done, len(items))
    if len(faults) > 1:
        for fault in faults[:MAX_NOTED]:
            job.note(str(fault))
        raise UserError(
            f"{step}: {len(faults):,} files have faults, such as those above; put them right and "
            "run this again"
        )
    if faults:
        raise faults[0]
    return results


def _attempt(function: Callable[[Argument], Result], item: Argument) -> Result | UserError:
    try:
        return function(item)
    except UserError as error:
        return error


def pictures(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The picture files directly in a folder, by name without suffix; empty without a folder.

    Raises:
        UserError: two files have the same name.
    """
    by_name: dict[str, Path] = {}
    for file in sorted(os.listdir(folder)) if folder.is_dir() else ():
        path = folder / file
        if path.suffix.lower() not in suffixes or file.startswith(".") or not path.is_file():
            continue
        if path.stem in by_name:
            other = by_name[path.stem].name
            raise UserError(f"{path}: {other} has the same name; rename one with its label")
        by_name[path.stem] = path
    return by_name


def text_of(path: Path) -> str:
    """The text of a file: UTF-8, or UTF-16 with a byte order mark, as Windows' shell writes it."""
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def refuse_size(annotation: Path, label: Size, image: Size) -> None:
    """Raise a `UserError` if a label's size differs from its image's, seen upright."""
    if label == image:
        return
    remedy = (
        "the image is turned by its EXIF orientation: label it as it is seen, or save it turned"
        if label == image[::-1]
        else "put the image there that was labelled"
    )
    sizes = map(width_by_height, (label, image))
    raise UserError(f"{annotation}: a label of {' for an image of '.join(sizes)}; {remedy}")
