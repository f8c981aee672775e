"""What is found of a user's own labelled pictures, before anything is made of it."""

import codecs
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.errors import UserError, width_by_height
from fcn_plugin.system.workers import on_all_cores

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# labelme's names for pixels that are no object, and for those that are left out.
BACKGROUND, LABELME_BACKGROUND, LABELME_IGNORED = "background", "_background_", "__ignore__"
# Files of class names in a source; the last is what labelme's documentation calls its own.
CLASS_FILES = ("classes.txt", "class_names.txt", "labels.txt")
MAX_TOLD = 20

Given = TypeVar("Given")
Made = TypeVar("Made")
Size = tuple[int, int]  # height and width


class Item(NamedTuple):
    """A picture. Without ``image`` it is inside its annotation, without that it has no label."""

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


class Tell(NamedTuple):
    """How the user learns what goes on."""

    note: Callable[[str], None] = lambda text: None
    progress: Callable[[str, int, int], None] = lambda step, done, total: None


def each(
    step: str, function: Callable[[Given], Made], items: Sequence[Given], tell: Tell
) -> list[Made]:
    """``function`` of all items, on all cores, with the faults of all of them told.

    Raises:
        UserError: that of the one item that has a fault, or after all faults were noted.
    """
    made, faults = [], []
    for done, (result, fault) in enumerate(
        on_all_cores(partial(_attempt, function), items), start=1
    ):
        made += [] if result is None else [result]
        faults += [] if fault is None else [fault]
        tell.progress(step, done, len(items))
    if len(faults) > 1:
        for fault in faults[:MAX_TOLD]:
            tell.note(fault)
        raise UserError(
            f"{step}: {len(faults):,} files have faults, such as those above; put them right and "
            "run this again"
        )
    if faults:
        raise UserError(faults[0])
    return made


def _attempt(
    function: Callable[[Given], Made], item: Given
) -> tuple[Made, None] | tuple[None, str]:
    try:
        return function(item), None
    except UserError as error:
        return None, str(error)


def pictures(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The picture files right in a folder by their names without suffix; none without a folder.

    Raises:
        UserError: two with one name.
    """
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    for file in sorted(os.listdir(folder)):
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


def classes_beside(folder: Path) -> Path | None:
    """The file in ``folder`` that names the classes, if there is one."""
    files = (folder / name for name in CLASS_FILES)
    return next((file for file in files if file.is_file()), None)


def read_classes(path: Path) -> list[str]:
    """The names in a file of one class a line, as labelme's lists too.

    ``_background_`` becomes background; ``__ignore__`` stays, to stand for what is left out.

    Raises:
        UserError: there is no such file, no name in it, or one twice.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of class names; write one, with one name a line")
    names = [line.strip() for line in text_of(path).splitlines() if line.strip()]
    names = [BACKGROUND if name == LABELME_BACKGROUND else name for name in names]
    # Where labelme numbers classes, this is number -1.
    if names[:2] == [LABELME_IGNORED, BACKGROUND]:
        del names[0]
    refuse_classes(path, [name for name in names if name != LABELME_IGNORED])
    return names


def refuse_classes(where: Path, classes: Sequence[str]) -> None:
    """Class names that cannot be trained on."""
    for name in classes:
        if classes.count(name) > 1:
            raise UserError(f"{where}: class {name!r} is there twice; take one out")
        # Such a one would be another in classes.txt, or in a config with {{ }} filled in.
        if not name.strip() or not name.isprintable() or "{{" in name:
            raise UserError(f"{where}: {name!r} cannot be the name of a class; rename it")
    if not 2 <= len(classes) <= IGNORED:
        told = ", ".join(classes[:MAX_TOLD]) or "no name at all"
        raise UserError(
            f"{where}: {len(classes)} classes, {told}; there have to be 2 to {IGNORED}, background "
            "included"
        )


def default_palette(classes: Sequence[str]) -> list[list[int]]:
    """VOC's colours, of which the first is black."""
    return [list(colour) for colour in voc_palette()[: len(classes)]]


def refuse_size(annotation: Path, stated: Size, seen: Size) -> None:
    """A label that is not of the image's size, as the image is seen; 0 is not stated."""
    if 0 in stated or stated == seen:
        return
    remedy = (
        "the image is turned by its EXIF orientation: label it as it is seen, or save it turned"
        if stated == seen[::-1]
        else "put the image there that was labelled"
    )
    found, wanted = map(width_by_height, (stated, seen))
    raise UserError(f"{annotation}: a label of {found} for an image of {wanted}; {remedy}")
