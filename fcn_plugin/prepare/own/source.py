"""What a reader of labelled pictures is asked for, and what it gives; see ``readers``."""

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

Given = TypeVar("Given")
Made = TypeVar("Made")
Size = tuple[int, int]  # height and width


class Job(NamedTuple):
    """What is asked for.

    Attributes:
        folder: the labelled pictures.
        root: folder of the data set to make.
        classes_file: names of the classes, one a line; None: what the folder says.
        val: share of the training images to score on, unless the folder says which.
        seed: another seed, other images in val. An image stays where it is when others are added,
            but for a few.
        scale: factor by which the network sees images smaller or larger, in training and after.
        note: told what the user should know and cannot see.
    """

    folder: Path
    root: Path
    classes_file: Path | None = None
    val: float = 0.2
    seed: int = 0
    scale: float = 1.0
    note: Callable[[str], None] = lambda text: None
    progress: Progress = silent


class Item(NamedTuple):
    """A picture. Without ``image`` the picture is inside its annotation; without an annotation it
    has no label.
    """

    name: str
    image: Path | None
    annotation: Path | None

    @property
    def file(self) -> Path:
        """What to name in an error."""
        path = self.image or self.annotation
        assert path is not None
        return path


class Source(NamedTuple):
    """A folder of labelled pictures.

    Attributes:
        items: those that have a label.
        unlabelled: images that have none.
        classes, palette: their names, and RGB in 0-255.
        read: the label [H, W] uint8 of an item whose image has the given size: class indices, and
            255 for what is left out. To be sent to other processes.
        settings: files besides that decide what is read.
    """

    items: list[Item]
    unlabelled: list[Path]
    classes: list[str]
    palette: list[list[int]]
    read: Callable[[Item, Size], np.ndarray]
    settings: list[Path]


def each(
    step: str, function: Callable[[Given], Made], items: Sequence[Given], job: Job
) -> list[Made]:
    """``function`` of all items, on all cores.

    Raises:
        UserError: that of the one item that has a fault, or after the faults of all were noted.
    """
    results: list[Made] = []
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


def _attempt(function: Callable[[Given], Made], item: Given) -> Made | UserError:
    try:
        return function(item)
    except UserError as error:
        return error


def pictures(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The picture files right in a folder by their names without suffix; none without a folder.

    Raises:
        UserError: two with one name.
    """
    found: dict[str, Path] = {}
    for file in sorted(os.listdir(folder)) if folder.is_dir() else ():
        path = folder / file
        if path.suffix.lower() not in suffixes or file.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            other = found[path.stem].name
            raise UserError(f"{path}: {other} has the same name; rename one with its label")
        found[path.stem] = path
    return found


def text_of(path: Path) -> str:
    """A text of any editor: UTF-8, or with a byte order mark UTF-16, as Windows' shell writes."""
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def refuse_size(annotation: Path, label: Size, image: Size) -> None:
    """A label that is not of the image's size, as the image is seen."""
    if label == image:
        return
    remedy = (
        "the image is turned by its EXIF orientation: label it as it is seen, or save it turned"
        if label == image[::-1]
        else "put the image there that was labelled"
    )
    sizes = map(width_by_height, (label, image))
    raise UserError(f"{annotation}: a label of {' for an image of '.join(sizes)}; {remedy}")
