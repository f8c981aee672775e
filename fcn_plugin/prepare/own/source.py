"""What a reader of labelled pictures gets (`Job`) and returns (`Source`); see ``readers``."""

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fcn_plugin.errors import UserError, width_by_height
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.system.workers import on_all_cores

MAX_NOTED = 20
COLOUR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Size = tuple[int, int]  # height and width
Colour = tuple[int, int, int]  # red, green and blue in 0-255


class Job(NamedTuple):
    """The options of ``fcn-plugin prepare_data own``.

    Attributes:
        folder: has the labelled pictures; or a zip of it.
        root: folder of the data set to make.
        classes_file: class names, one a line; None: use those in the folder.
        val: share of the training images to score on, unless the folder has a split.
        seed: decides which images are in val. Adding images moves only a few of the others.
        scale: factor by which images are resized, in training and in prediction.
        note: called with each line that the user should read.
        images: folder of the pictures, if ``folder`` has only their labels.
        void: values in label pictures of pixels to leave out, besides 255.
        renamed: other names for classes; classes that get one name become one class.
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
    images: Path | None = None
    void: tuple[int, ...] = ()
    renamed: Mapping[str, str] = MappingProxyType({})
    class_weight: bool = False


class Item(NamedTuple):
    """A picture.

    Attributes:
        name: of the picture and its label; a reader gives ``folder.key_of`` of the picture.
        image: None if the annotation file contains the picture.
        annotation: file with the label, which it may share; None if the picture has no label.
        split: train, val or test if the layout tells; else None.
        details: what the reader needs to draw the label; can be pickled.
    """

    name: str
    image: Path | None
    annotation: Path | None
    split: str | None = None
    details: Any = None

    @property
    def file(self) -> Path:
        """The file to name in an error."""
        path = self.image or self.annotation
        assert path is not None
        return path


class Classes(NamedTuple):
    """The classes to train on.

    Attributes:
        names, palette: of the classes, by number; colours are RGB in 0-255.
        numbers: the class of each name in the labels; 255 for pixels to leave out.
        file: the file that names the classes; None if the labels do.
    """

    names: list[str]
    palette: list[list[int]]
    numbers: dict[str, int]
    file: Path | None


class Source(NamedTuple):
    """The contents of a folder of labelled pictures.

    Attributes:
        layout: the tool or layout in words, such as "COCO instances, 3 files".
        items: the pictures with a label, and those without one that the reader names itself.
        classes: those to train on.
        read: gives the label [H, W] uint8 of an item whose image has the given size: class indices,
            and 255 for pixels to leave out. Can be pickled, for other processes.
        settings: other files that the labels depend on; ``read_source`` adds the classes' file.
        pictures: files, relative to the folder; those of no item become items without a label.
    """

    layout: str
    items: list[Item]
    classes: Classes
    read: Callable[[Item, Size], np.ndarray]
    settings: Sequence[Path] = ()
    pictures: Sequence[Path] = ()


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


def text_of(path: Path) -> str:
    """The text of a file: UTF-8, or UTF-16 with a byte order mark, as Windows' shell writes it."""
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def colour_of(text: str) -> Colour | None:
    """The colour that #rrggbb stands for; None for another text."""
    match = COLOUR.fullmatch(text)
    return (int(match[1], 16), int(match[2], 16), int(match[3], 16)) if match else None


def refuse_size(annotation: Path | str, label: Size, image: Size) -> None:
    """Raise a `UserError` if a label's size differs from its image's, seen upright.

    Args:
        annotation: what to name in the error: the file with the label, or the entry in it.
    """
    if label == image:
        return
    remedy = (
        "the image is turned by its EXIF orientation: label it as it is seen, or save it turned"
        if label == image[::-1]
        else "put the image there that was labelled"
    )
    sizes = map(width_by_height, (label, image))
    raise UserError(f"{annotation}: a label of {' for an image of '.join(sizes)}; {remedy}")
