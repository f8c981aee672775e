"""Labels from labelme's files: shapes as JSON, drawn the way labelme's own converter draws them.

Later shapes cover earlier ones; pixels without a shape are background. A shape named
``_background_`` makes its pixels background; ``__ignore__`` leaves them out (255).
"""

import base64
import binascii
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.classes import drawn_classes
from fcn_plugin.prepare.own.folder import Folder, key_of, read_json, split_of
from fcn_plugin.prepare.own.labelme_shapes import draw, read_shapes
from fcn_plugin.prepare.own.source import Item, Job, Size, Source, each, refuse_size


def read(folder: Folder, job: Job) -> Source | None:
    """See ``Reader.read``: labelme's JSON files, most with the images beside them.

    The classes are those of ``drawn_classes``, sorted.

    Raises:
        UserError: a file is damaged or not labelme's, or a label is not in the file of classes.
    """
    if not any("shapes" in keys for keys in folder.json_keys.values()):
        return None
    files = folder.having(".json")
    items = each("Reading labelme's files", partial(_item, folder=folder), files, job)
    labels = {
        label: item.annotation or item.file for item in reversed(items) for label in item.details
    }
    classes = drawn_classes(dict(sorted(labels.items())), job)
    return Source(
        layout=f"labelme, {len(files):,} files",
        items=[item._replace(details=None) for item in items],
        classes=classes,
        read=partial(_read, numbers=classes.numbers),
        pictures=folder.pictures,
    )


def _item(file: Path, folder: Folder) -> Item:
    """The item of a file, with the names of its labels as its details."""
    path = folder.path / file
    document = read_document(path)
    image = _image_of(path, document, folder)
    labels = {shape.label for shape in read_shapes(path, document)}
    inside = image.relative_to(folder.path) if image and folder.path in image.parents else file
    split = split_of(file) or split_of(inside)
    return Item(key_of(file), image, path, split, labels)


def _image_of(path: Path, document: dict[str, Any], folder: Folder) -> Path | None:
    """The image file of a document; None if the document holds the image itself."""
    named = str(document.get("imagePath") or "").replace("\\", "/")  # it may be from Windows
    # The path may be from another machine, with the image beside this file all the same.
    for image in (path.parent / named, path.parent / named.rpartition("/")[2]):
        if image.is_file():
            return image
    if document.get("imageData"):
        return None
    return folder.picture_of(path, named)


def read_document(path: Path) -> dict[str, Any]:
    """The content of a JSON file of any version of labelme.

    Raises:
        UserError: the file cannot be read or is not labelme's.
    """
    document = read_json(path)
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
