"""Labels from labelme's files: shapes as JSON, drawn the way labelme's own converter draws them.

Later shapes cover earlier ones; what no shape covers is background. A shape named
``_background_`` clears what is below it, one named ``__ignore__`` leaves it out (255).
"""

import base64
import binascii
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.prepare.own.polygons import draw, read_shapes
from fcn_plugin.prepare.own.source import (
    BACKGROUND,
    LABELME_BACKGROUND,
    LABELME_IGNORED,
    Item,
    Size,
    Source,
    Tell,
    classes_beside,
    default_palette,
    each,
    pictures,
    read_classes,
    refuse_classes,
    refuse_size,
)
from fcn_plugin.system.files import is_special

DRAWN_BACKGROUND = {LABELME_BACKGROUND, BACKGROUND}


class Summary(NamedTuple):
    """What has to be known of all files before any is drawn."""

    item: Item
    labels: set[str]


def labelme_source(folder: Path, classes_file: Path | None, tell: Tell) -> Source:
    """A folder with labelme's JSON files, right in it, and mostly the images beside them.

    Args:
        classes_file: Its classes in their order; default: a file of ``CLASS_FILES`` in the folder,
            or all labels that occur, sorted. Background is added in front if it is not among them.

    Raises:
        UserError: a file is damaged or not labelme's, a label is not in the file of classes, or two
            files are of one image.
    """
    classes_file = classes_file or classes_beside(folder)
    files = sorted(folder.glob("*.json"))
    summaries = each("Reading labelme's files", _summary, files, tell)
    owners: dict[Path, Path] = {}
    for item, _ in summaries:
        assert item.annotation is not None
        owner = owners.setdefault((item.image or item.annotation).resolve(), item.annotation)
        if owner != item.annotation:
            raise UserError(f"{item.annotation}: {owner.name} is of the same image; delete one")
    classes = _classes(folder, classes_file, summaries)
    numbers = {name: index for index, name in enumerate(classes)}
    numbers |= dict.fromkeys(DRAWN_BACKGROUND, numbers[BACKGROUND])
    numbers[LABELME_IGNORED] = IGNORED
    _refuse_strangers(summaries, numbers, classes_file)
    unlabelled = [path for path in pictures(folder).values() if path.resolve() not in owners]
    return Source(
        items=[item for item, _ in summaries],
        unlabelled=unlabelled,
        classes=classes,
        palette=default_palette(classes),
        read=partial(_read, numbers=numbers),
        settings=[classes_file] if classes_file else [],
    )


def _summary(path: Path) -> Summary:
    document = read_document(path)
    item = Item(path.stem, _image_of(path, document), path)
    return Summary(item, {shape.label for shape in read_shapes(path, document)})


def _image_of(path: Path, document: dict[str, Any]) -> Path | None:
    """The image file of a document; None if it holds the image itself."""
    named = str(document.get("imagePath") or "").replace("\\", "/")  # it may be from Windows
    # With a path of another machine, the file may lie beside this one all the same.
    for image in (path.parent / named, path.parent / named.rpartition("/")[2]):
        if image.is_file():
            return image
    if document.get("imageData"):
        return None
    raise UserError(
        f"{path}: its image {named!r} is not there; put it beside the file, or correct imagePath"
    )


def read_document(path: Path) -> dict[str, Any]:
    """labelme's JSON, of any version.

    Raises:
        UserError: the file cannot be read or is something else.
    """
    if is_special(path):
        raise UserError(f"{path}: a pipe, device or socket; save it to a file or move it away")
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read ({reason}); save it again or delete it") from None
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise UserError(f"{path}: no file of labelme's (no list 'shapes' in it); move it away")
    return document


def embedded_image(path: Path) -> bytes:
    """The image file inside a document.

    Raises:
        UserError: it is no base64.
    """
    try:
        return base64.b64decode(read_document(path)["imageData"], validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise UserError(
            f"{path}: the image in it (imageData) is damaged; put the image file beside it"
        ) from None


def _classes(folder: Path, file: Path | None, summaries: Sequence[Summary]) -> list[str]:
    if file is not None:
        classes = [name for name in read_classes(file) if name != LABELME_IGNORED]
    else:
        found = {label for _, labels in summaries for label in labels}
        classes = sorted(found - DRAWN_BACKGROUND - {LABELME_IGNORED})
    if BACKGROUND not in classes:
        classes.insert(0, BACKGROUND)
    refuse_classes(file or folder, classes)
    return classes


def _refuse_strangers(
    summaries: Sequence[Summary], known: dict[str, int], classes_file: Path | None
) -> None:
    for item, labels in summaries:
        for label in sorted(labels - set(known)):
            hint = did_you_mean(label, known, "add it there, or correct the label")
            raise UserError(f"{item.annotation}: label {label!r} is not in {classes_file}; {hint}")


def _read(item: Item, size: Size, numbers: dict[str, int]) -> np.ndarray:
    """See ``Source.read``."""
    assert item.annotation is not None
    document = read_document(item.annotation)
    height, width = (_stated(document.get(key)) for key in ("imageHeight", "imageWidth"))
    refuse_size(item.annotation, (height, width), size)
    return draw(read_shapes(item.annotation, document), size, numbers)


def _stated(side: Any) -> int:
    """0 where a file does not tell, or not in a number."""
    return side if isinstance(side, int) else 0
