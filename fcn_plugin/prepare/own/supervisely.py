"""Labels from Supervisely's annotations: polygons, bitmaps and rectangles, drawn as its SDK does.

Later objects lie on top; pixels in a hole of a polygon keep what is below. Pixels without an object
are background.
"""

import base64
import io
import re
import zlib
from collections.abc import Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from fcn_plugin.data.numbering import BACKGROUND
from fcn_plugin.data.picture_files import open_picture
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.classes import drawn_classes
from fcn_plugin.prepare.own.folder import SPLIT_OF, Folder, read_json, split_of
from fcn_plugin.prepare.own.source import Colour, Item, Job, Size, Source, each, refuse_size

KEYS = {"objects", "size"}  # of an annotation
COLOUR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
PNG_MARGIN = 1 << 16  # bytes that a PNG may have besides four a pixel


class Summary(NamedTuple):
    """The item of a file, and the split that its tags name."""

    item: Item
    tagged: str | None


def read(folder: Folder, job: Job) -> Source | None:
    """See ``Reader.read``: the classes are those of ``meta.json``, with their colours.

    The split is that of the tags, train, val or test, if every picture has one, else of folders.

    Raises:
        UserError: ``meta.json`` is missing, a file is damaged or has no picture, or two have one.
    """
    folders = {file.parent for file, keys in folder.json_keys.items() if keys >= KEYS}
    files = [file for file in folder.having(".json") if file.parent in folders]
    if not files:
        return None
    meta = folder.path / "meta.json"
    colours = _colours(meta)
    read_file = partial(_summary, folder=folder, titles=colours.keys())
    summaries = each("Reading Supervisely's files", read_file, files, job)
    has_tags = all(summary.tagged for summary in summaries)
    items: dict[Path | None, Item] = {}
    for item, tagged in summaries:
        owner = items.setdefault(item.image, item._replace(split=tagged) if has_tags else item)
        if owner.annotation != item.annotation:
            raise UserError(
                f"{item.annotation}: {owner.annotation} is of the same image; delete one"
            )
    classes = drawn_classes(dict.fromkeys(colours, meta), job, colours)
    others = [file for file in folder.pictures if folder.path / file not in items]
    return Source(
        layout=f"Supervisely, {len(files):,} files, later objects on top",
        items=[*items.values(), *folder.unlabelled(others)],
        classes=classes.names,
        palette=classes.palette,
        read=partial(_read, numbers=classes.numbers),
        settings=[*classes.settings, meta],
    )


def _colours(meta: Path) -> dict[str, Colour]:
    """The colour of each class, in the order of ``meta.json``."""
    document, colours = read_json(meta), {}
    entries = document.get("classes") if isinstance(document, dict) else None
    for entry in entries if isinstance(entries, list) else [{}]:
        values = entry if isinstance(entry, dict) else {}
        title, match = values.get("title"), COLOUR.fullmatch(str(values.get("color")))
        if not match or not isinstance(title, str):
            raise UserError(
                f"{meta}: a class without title or color #rrggbb; export the project again"
            )
        colours[title] = int(match[1], 16), int(match[2], 16), int(match[3], 16)
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


def _summary(file: Path, folder: Folder, titles: Set[str]) -> Summary:
    path = folder.path / file
    objects, _, tags = _document(path)
    for number, entry in enumerate(objects, start=1):
        if entry["classTitle"] not in titles:
            raise UserError(
                f"{path}: object {number} is a {entry['classTitle']!r}, which is not in meta.json; "
                "export the project again"
            )
    picture = folder.picture(f"{file.parent.parent.as_posix()}/img/{file.stem}", file.parent.parent)
    if picture is None:
        raise UserError(
            f"{path}: no image {file.stem}; add it, move this away, or give --images DIR"
        )
    splits = {SPLIT_OF[tag] for tag in tags if tag in SPLIT_OF}
    item = Item(folder.key(picture), picture, path, split_of(file))
    return Summary(item, splits.pop() if len(splits) == 1 else None)


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
