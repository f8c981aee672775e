"""Labels from labelme's files: shapes as JSON, drawn the way labelme's own converter draws them.

Later shapes cover earlier ones; pixels without a shape are background. A shape named
``_background_`` makes its pixels background; ``__ignore__`` leaves them out (255).
"""

import base64
import binascii
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.classes import drawn_classes
from fcn_plugin.prepare.own.folder import Folder, key_of, read_json, split_of
from fcn_plugin.prepare.own.labelme_shapes import draw, read_shapes
from fcn_plugin.prepare.own.source import Item, Job, Size, Source, each, refuse_size


class Summary(NamedTuple):
    """The item and the label names of one file; all files are read before any is drawn."""

    item: Item
    labels: set[str]


def read(folder: Folder, job: Job) -> Source | None:
    """See ``Reader.read``: labelme's JSON files, most with the images beside them.

    The classes are those of ``drawn_classes``, sorted.

    Raises:
        UserError: a file is damaged or not labelme's, a label is not in the file of classes, or two
            files are of one image.
    """
    if not any("shapes" in keys for keys in folder.json_keys.values()):
        return None
    files = folder.having(".json")
    summaries = each("Reading labelme's files", partial(_summary, folder=folder), files, job)
    owners: dict[Path, Path] = {}
    for item, _ in summaries:
        assert item.annotation is not None
        owner = owners.setdefault((item.image or item.annotation).resolve(), item.annotation)
        if owner != item.annotation:
            raise UserError(f"{item.annotation}: {owner.name} is of the same image; delete one")
    labels = {
        label: item.annotation or item.file
        for item, labels in reversed(summaries)
        for label in labels
    }
    classes = drawn_classes(dict(sorted(labels.items())), job)
    keys = {item.name for item, _ in summaries}
    unlabelled = [
        file
        for file in folder.pictures
        if key_of(file) not in keys and (folder.path / file).resolve() not in owners
    ]
    return Source(
        layout=f"labelme, {len(files):,} files",
        items=[item for item, _ in summaries] + folder.unlabelled(unlabelled),
        classes=classes.names,
        palette=classes.palette,
        read=partial(_read, numbers=classes.numbers),
        settings=classes.settings,
    )


def _summary(file: Path, folder: Folder) -> Summary:
    path = folder.path / file
    document = read_document(path)
    image = _image_of(path, document, folder)
    item = Item(key_of(file), image, path, split_of(file))
    return Summary(item, {shape.label for shape in read_shapes(path, document)})


def _image_of(path: Path, document: dict[str, Any], folder: Folder) -> Path | None:
    """The image file of a document; None if the document holds the image itself."""
    named = str(document.get("imagePath") or "").replace("\\", "/")  # it may be from Windows
    # The path may be from another machine, with the image beside this file all the same.
    for image in (path.parent / named, path.parent / named.rpartition("/")[2]):
        if image.is_file():
            return image
    if document.get("imageData"):
        return None
    if elsewhere := folder.picture(named, path.parent.relative_to(folder.path)):
        return elsewhere
    raise UserError(
        f"{path}: its image {named!r} is not there; put it beside the file, correct imagePath, or "
        "give --images DIR"
    )


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
