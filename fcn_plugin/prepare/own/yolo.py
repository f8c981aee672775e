"""Labels from YOLO's text files, as ultralytics reads them: polygons in fractions of the sides.

``images/train/X.jpg`` has its objects in ``labels/train/X.txt``. A picture that has no text while
others in its folder do, or an empty one, is all background. Points up to 1 % outside are moved to
the border. Of objects that overlap, the smaller one is on top.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fcn_plugin.data.numbering import BACKGROUND
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.classes import drawn_classes
from fcn_plugin.prepare.own.folder import Folder, split_of
from fcn_plugin.prepare.own.source import Item, Job, Size, Source, each, text_of
from fcn_plugin.prepare.own.yolo_yaml import Dataset, dataset_of, find_document

LINE = re.compile(r"\d+(\s+[-+.\de]+){4,}\s*")
BOX, FEWEST_NUMBERS = 5, 7  # in a line: of a box, and of a polygon, with the class
TOLERANCE = 0.01
Polygons = list[tuple[str, np.ndarray]]  # name of the class, and points [n, 2] float64


class Content(NamedTuple):
    """The objects of a text, and how many of its lines are boxes."""

    polygons: Polygons
    boxes: int


def read(folder: Folder, job: Job) -> Source | None:
    """See ``Reader.read``: the classes have the order of ``data.yaml``, else of a file of classes.

    Raises:
        UserError: no file names the classes, a line is no polygon of one of them, there are only
            boxes, or a text has no picture.
    """
    texts = list(_texts(folder))
    document = find_document(folder) if texts else None
    if not document and not any(_is_yolo(text) for _, text in texts):
        return None
    dataset = dataset_of(document, folder, job)
    read_text = partial(_content, dataset=dataset)
    contents = each("Reading YOLO's files", read_text, [text for _, text in texts], job)
    if boxes := sum(content.boxes for content in contents):
        if not any(content.polygons for content in contents):
            raise UserError(
                f"{job.folder}: {boxes:,} boxes and no polygon; outline the objects, and export "
                "them for segmentation"
            )
        job.note(f"{job.folder}: {boxes:,} boxes are left out, as only polygons are drawn")
    classes = drawn_classes(dict.fromkeys(dataset.names.values(), dataset.file), job)
    items = [
        _item(picture, text, folder, dataset)._replace(details=content.polygons)
        for (picture, text), content in zip(texts, contents, strict=True)
    ]
    labelled = {picture for picture, _ in texts}
    here = [folder.path / file for file in folder.pictures]
    # Of a picture without a text, the file with its label is itself.
    beside = {picture.parent for picture in labelled}
    empty = {picture: picture for picture in here if picture.parent in beside}
    for picture in dict.fromkeys((*here, *folder.elsewhere_pictures.values())):
        if picture not in labelled:
            items.append(_item(picture, empty.get(picture), folder, dataset))
    if plain := sum(item.annotation is not None and not item.details for item in items):
        job.note(f"{job.folder}: {plain:,} pictures without a polygon are all background")
    return Source(
        layout=f"YOLO's polygons, {len(texts):,} files, smaller objects on top",
        items=items,
        classes=classes,
        read=partial(_read, numbers=classes.numbers),
        settings=[dataset.file, *dataset.lists],
    )


def _texts(folder: Folder) -> Iterator[tuple[Path, Path]]:
    """Each picture that has a text, and the text."""
    pictures = {_text(picture): folder.path / picture for picture in folder.pictures}
    for text in folder.having(".txt"):
        picture = pictures.get(text)
        path = folder.path / text
        if picture is None and "labels" in text.parts and _is_yolo(path):
            inside = text.parent.as_posix()
            picture = folder.picture(path, text.name, inside) if folder.elsewhere else None
            if picture is None:
                raise folder.missing(path, text.stem)
        if picture is not None:
            yield picture, path


def _text(picture: Path) -> Path:
    """The file of a picture's objects: in ``labels`` for ``images``, or else beside it."""
    folders = list(picture.parts[:-1])
    for depth in reversed(range(len(folders))):
        if folders[depth] == "images":
            folders[depth] = "labels"
            break
    return Path(*folders, f"{picture.stem}.txt")


def _is_yolo(text: Path) -> bool:
    return LINE.match(text_of(text).lstrip()) is not None


def _item(picture: Path, text: Path | None, folder: Folder, dataset: Dataset) -> Item:
    key = folder.key(picture)
    split = dataset.splits.get(picture) or split_of(Path(key))
    if not split and text and text.is_relative_to(folder.path):
        split = split_of(text.relative_to(folder.path))
    return Item(key, picture, text, split, [])


def _content(path: Path, dataset: Dataset) -> Content:
    polygons: Polygons = []
    boxes = 0
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        where, fields = f"{path}: line {number}", line.split()
        if not fields:
            continue
        try:
            first, *numbers = map(float, fields)
            name = dataset.names[first]
        except (LookupError, ValueError):
            raise UserError(
                f"{where} does not begin with the number of a class in {dataset.file}, or has "
                "something else than numbers; export the file again"
            ) from None
        if len(fields) == BOX:
            boxes += 1
            continue
        if len(fields) < FEWEST_NUMBERS or len(numbers) % 2:
            raise UserError(
                f"{where} has {len(numbers)} numbers after the class; give x and y of three points "
                "or more"
            )
        points = np.array(numbers).reshape(-1, 2)
        if not np.all((points >= -TOLERANCE) & (points <= 1 + TOLERANCE)):  # nor is NaN
            raise UserError(
                f"{where} has points outside the picture; give fractions of its width and height, "
                "0 to 1"
            )
        polygons.append((name, points.clip(0, 1)))
    return Content(polygons, boxes)


def _read(item: Item, size: Size, numbers: dict[str, int]) -> np.ndarray:
    """See ``Source.read``: points are rounded down and outlines filled, too, as ultralytics does.

    That is 0.46 pixels more for each pixel of outline than pycocotools fills, of 300 random ones.
    """
    label = np.full(size, numbers[BACKGROUND], np.uint8)
    polygons = [(name, (points * size[::-1]).astype(np.int32)) for name, points in item.details]
    for name, points in sorted(polygons, key=lambda polygon: -cv2.contourArea(polygon[1])):
        cv2.fillPoly(label, [points], numbers[name])
    return label
