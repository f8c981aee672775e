"""Labels from Supervisely's annotations: polygons, bitmaps and rectangles, drawn as its SDK does.

Later objects lie on top; pixels in a hole of a polygon keep what is below. Pixels without an object
are background.
"""

import base64
import io
import zlib
from collections.abc import Set
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fcn_plugin.data.numbering import BACKGROUND
from fcn_plugin.data.picture_files import open_picture
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.classes import drawn_classes
from fcn_plugin.prepare.own.folder import SPLIT_OF, Folder, one_split, read_json, split_of
from fcn_plugin.prepare.own.source import (
    Colour,
    Item,
    Job,
    Size,
    Source,
    colour_of,
    each,
    refuse_size,
)

KEYS = {"objects", "size"}  # of an annotation
PNG_MARGIN = 1 << 16  # bytes that a PNG may have besides four a pixel


def read(folder: Folder, job: Job) -> Source | None:
    """See ``Reader.read``: the classes are those of ``meta.json``, with their colours.

    The split is that of the tags, train, val or test, if every picture has one, else of folders.

    Raises:
        UserError: ``meta.json`` is missing, or a file is damaged or has no picture.
    """
    folders = {file.parent for file, keys in folder.json_keys.items() if keys >= KEYS}
    files = [file for file in folder.having(".json") if file.parent in folders]
    if not files:
        return None
    colours: dict[str, Colour] = {}
    owners: dict[str, Path] = {}
    metas = list(dict.fromkeys(_meta(place, folder) for place in sorted(folders)))
    for meta in metas:
        for title, colour in _colours(meta).items():
            colours.setdefault(title, colour)
            owners.setdefault(title, meta)
    read_file = partial(_item, folder=folder, titles=colours.keys())
    items = each("Reading Supervisely's files", read_file, files, job)
    has_tags = all(item.details for item in items)
    classes = drawn_classes(owners, job, colours)
    return Source(
        layout=f"Supervisely, {len(files):,} files, later objects on top",
        items=[
            item._replace(split=one_split(item.details) if has_tags else item.split, details=None)
            for item in items
        ],
        classes=classes,
        read=partial(_read, numbers=classes.numbers),
        settings=list(metas),
        # Not those in masks_machine and masks_human, which are drawn labels.
        pictures=[file for file in folder.pictures if file.parent.name == "img"],
    )


def _meta(place: Path, folder: Folder) -> Path:
    """The ``meta.json`` of the project with a folder of annotations: the nearest above them."""
    metas = (folder.path / above / "meta.json" for above in (place, *place.parents))
    if meta := next(filter(Path.is_file, metas), None):
        return meta
    raise UserError(
        f"{folder.path / place}: no meta.json above it names the classes; export the whole "
        "project again"
    )


def _colours(meta: Path) -> dict[str, Colour]:
    """The colour of each class, in the order of ``meta.json``."""
    document, colours = read_json(meta), {}
    entries = document.get("classes") if isinstance(document, dict) else None
    for entry in entries if isinstance(entries, list) else [{}]:
        values = entry if isinstance(entry, dict) else {}
        title, colour = values.get("title"), colour_of(str(values.get("color")))
        if not colour or not isinstance(title, str):
            raise UserError(
                f"{meta}: a class without title or color #rrggbb; export the project again"
            )
        colours[title] = colour
    return colours


def _document(path: Path) -> tuple[list[dict[str, Any]], Size, set[str]]:
    """The objects of an annotation, the size of its picture, and the names of its tags."""
    document = read_json(path)
    try:
        size = int(document["size"]["height"]), int(document["size"]["width"])
        objects = [
            dict(entry, classTitle=str(entry["classTitle"])) for entry in document["objects"]
        ]
        return objects, size, {str(tag["name"]).lower() for tag in document.get("tags", [])}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not an annotation of Supervisely's ({error!r}); move it away"
        ) from None


def _item(file: Path, folder: Folder, titles: Set[str]) -> Item:
    """The item of a file, with the splits that its tags name as its details."""
    path = folder.path / file
    objects, _, tags = _document(path)
    for number, entry in enumerate(objects, start=1):
        if entry["classTitle"] not in titles:
            raise UserError(
                f"{path}: object {number} is a {entry['classTitle']!r}, which is not in meta.json; "
                "export the project again"
            )
    inside = f"{file.parent.parent.as_posix()}/img"
    picture = folder.picture_of(path, file.stem, inside)
    return Item(folder.key(picture), picture, path, split_of(file), tags & SPLIT_OF.keys())


def _read(item: Item, size: Size, numbers: dict[str, int]) -> np.ndarray:
    """See ``Source.read``."""
    path = item.annotation
    assert path is not None
    objects, stated, _ = _document(path)
    refuse_size(path, stated, size)
    label = np.full(size, numbers[BACKGROUND], np.uint8)
    for number, entry in enumerate(objects, start=1):
        where = f"{path}: object {number} ({entry['classTitle']})"
        kind = str(entry.get("geometryType"))
        if kind not in KINDS:
            raise UserError(f"{where} is a {kind!r}; draw it as {', '.join(KINDS)}")
        try:
            KINDS[kind](label, entry, numbers[entry["classTitle"]])
        # What a decoder raises on damaged data is not documented.
        except Exception as error:
            reason = f" ({' '.join(str(error).split())})" if isinstance(error, ValueError) else ""
            raise UserError(f"{where} is damaged{reason}; draw it again, or delete it") from None
    return label


def _points(points: Any, size: Size, least: int) -> np.ndarray:
    """Points [n, 2] int32 of x and y; those of Supervisely's are of whole pixels."""
    try:
        pairs = np.array(points, np.float64)
    except (OverflowError, TypeError, ValueError):
        raise ValueError("points that are no pairs of numbers") from None
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) < least:
        raise ValueError(f"fewer than {least} points")
    if not np.all(np.abs(pairs) <= 2 * max(size)):  # as NaN is not, either
        raise ValueError("points far outside")
    return np.rint(pairs).astype(np.int32)


def _polygon(label: np.ndarray, entry: dict[str, Any], number: int) -> None:
    points = entry["points"]
    mask = np.zeros(label.shape, np.uint8)
    cv2.fillPoly(mask, [_points(points["exterior"], label.shape, 3)], 1)
    cv2.fillPoly(mask, [_points(hole, label.shape, 3) for hole in points.get("interior", [])], 0)
    label[mask == 1] = number


def _rectangle(label: np.ndarray, entry: dict[str, Any], number: int) -> None:
    corners = _points(entry["points"]["exterior"], label.shape, 2)
    (left, top), (right, bottom) = corners.min(axis=0).clip(0), corners.max(axis=0).clip(-1)
    label[top : bottom + 1, left : right + 1] = number


def _bitmap(label: np.ndarray, entry: dict[str, Any], number: int) -> None:
    """Draw a PNG, compressed once more, whose first pixel is at ``origin``."""
    ((left, top),) = _points([entry["bitmap"]["origin"]], label.shape, 1).tolist()
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(
        base64.b64decode(entry["bitmap"]["data"]), 4 * label.size + PNG_MARGIN
    )
    if not unpacker.eof:
        raise ValueError("more than its picture can have")
    with open_picture(io.BytesIO(content), ["PNG"]) as picture:
        bottom, right = top + picture.height, left + picture.width
        height, width = label.shape
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError("not inside its picture")
        has_alpha = picture.mode in ("LA", "RGBA") or "transparency" in picture.info
        channels = np.asarray(picture.convert("RGBA"))[..., 3:] if has_alpha else picture
        mask = np.atleast_3d(np.asarray(channels)).any(axis=-1)
    label[top:bottom, left:right][mask] = number


KINDS = {"polygon": _polygon, "bitmap": _bitmap, "rectangle": _rectangle}
