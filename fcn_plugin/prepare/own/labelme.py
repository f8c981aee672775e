"""Labels from labelme's files: shapes as JSON, drawn the way labelme's own converter draws them.

Later shapes cover earlier ones; pixels without a shape are background. A shape named
``_background_`` makes its pixels background; ``__ignore__`` leaves them out (255).
"""

import base64
import binascii
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.prepare.own.classes import (
    BACKGROUND,
    LABELME_BACKGROUND,
    LEFT_OUT,
    classes_beside,
    read_classes,
    refuse_classes,
)
from fcn_plugin.prepare.own.polygons import draw, read_shapes
from fcn_plugin.prepare.own.source import Item, Job, Size, Source, each, pictures, refuse_size
from fcn_plugin.system.files import is_special


class Summary(NamedTuple):
    """The item and the label names of one file; all files are read before any is drawn."""

    item: Item
    labels: set[str]


def recognises(folder: Path) -> bool:
    return any(folder.glob("*.json"))


def read(job: Job) -> Source:
    """The pictures of a folder with labelme's JSON files, most with the images beside them.

    The classes are the names in ``Job.classes_file`` or a file of ``CLASS_FILES`` in the folder, in
    the file's order, or else all labels that occur, sorted. Missing background is added in front.

    Raises:
        UserError: a file is damaged or not labelme's, a label is not in the file of classes, or two
            files are of one image.
    """
    file = job.classes_file or classes_beside(job.folder)
    summaries = each("Reading labelme's files", _summary, sorted(job.folder.glob("*.json")), job)
    owners: dict[Path, Path] = {}
    for item, _ in summaries:
        assert item.annotation is not None
        owner = owners.setdefault((item.image or item.annotation).resolve(), item.annotation)
        if owner != item.annotation:
            raise UserError(f"{item.annotation}: {owner.name} is of the same image; delete one")
    labels = {label for summary in summaries for label in summary.labels}
    names = read_classes(file) if file else sorted(labels - {LABELME_BACKGROUND, BACKGROUND})
    classes = [name for name in names if name != LEFT_OUT]
    if BACKGROUND not in classes:
        classes.insert(0, BACKGROUND)
    refuse_classes(file or job.folder, classes)
    numbers = {name: index for index, name in enumerate(classes)}
    numbers |= {LABELME_BACKGROUND: numbers[BACKGROUND], LEFT_OUT: IGNORED}
    for item, item_labels in summaries:
        for label in sorted(item_labels - set(numbers)):
            hint = did_you_mean(label, numbers, "add it there, or correct the label")
            raise UserError(f"{item.annotation}: label {label!r} is not in {file}; {hint}")
    return Source(
        items=[item for item, _ in summaries],
        unlabelled=[path for path in pictures(job.folder).values() if path.resolve() not in owners],
        classes=classes,
        palette=voc_palette()[: len(classes)],
        read=partial(_read, numbers=numbers),
        settings=[file] if file else [],
    )


def _summary(path: Path) -> Summary:
    document = read_document(path)
    item = Item(path.stem, _image_of(path, document), path)
    return Summary(item, {shape.label for shape in read_shapes(path, document)})


def _image_of(path: Path, document: dict[str, Any]) -> Path | None:
    """The image file of a document; None if the document holds the image itself."""
    named = str(document.get("imagePath") or "").replace("\\", "/")  # it may be from Windows
    # The path may be from another machine, with the image beside this file all the same.
    for image in (path.parent / named, path.parent / named.rpartition("/")[2]):
        if image.is_file():
            return image
    if document.get("imageData"):
        return None
    raise UserError(
        f"{path}: its image {named!r} is not there; put it beside the file, or correct imagePath"
    )


def read_document(path: Path) -> dict[str, Any]:
    """The content of a JSON file of any version of labelme.

    Raises:
        UserError: the file cannot be read or is not labelme's.
    """
    if is_special(path):
        raise UserError(f"{path}: a pipe, device or socket; save it to a file or move it away")
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read ({reason}); save it again or delete it") from None
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise UserError(f"{path}: not a labelme file (no list 'shapes' in it); move it away")
    return document


def embedded_image(path: Path) -> bytes:
    """The bytes of the image file inside a document.

    Raises:
        UserError: they are not valid base64.
    """
    try:
        return base64.b64decode(read_document(path)["imageData"], validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise UserError(
            f"{path}: the image in it (imageData) is damaged; put the image file beside it"
        ) from None


def _read(item: Item, size: Size, numbers: dict[str, int]) -> np.ndarray:
    """See ``Source.read``."""
    assert item.annotation is not None
    document = read_document(item.annotation)
    height, width = document.get("imageHeight"), document.get("imageWidth")
    # Some files lack the size, or do not give it in numbers.
    if isinstance(height, int) and isinstance(width, int) and height and width:
        refuse_size(item.annotation, (height, width), size)
    return draw(read_shapes(item.annotation, document), size, numbers)
