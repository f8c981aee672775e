"""Labels from CVAT's XML, "CVAT for images 1.1": polygons, masks and ellipses, drawn as CVAT does.

Objects lie in the order of ``z_order``, then of the file. Pixels without an object are background.
Boxes, and what has no area, are left out.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np

from fcn_plugin.data.numbering import BACKGROUND
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.classes import drawn_classes
from fcn_plugin.prepare.own.coco_masks import mask_of
from fcn_plugin.prepare.own.folder import Folder, one_split, split_of
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

START = re.compile(rb"<annotations\s*>\s*<version>\s*1\.")  # VOC's files begin with <annotation>
START_BYTES = 4096
# What is left out, and how a note calls several of it.
PLURALS = {
    "box": "boxes",
    "cuboid": "cuboids",
    "points": "points",
    "polyline": "polylines",
    "skeleton": "skeletons",
    "tag": "tags",
}
MOST_LETTERS = 80  # of what Python says of damaged text
Attributes = Mapping[str, str]  # of an element


class Shape(NamedTuple):
    """An object; ``where`` names it in an error."""

    where: str
    kind: str
    label: str
    z_order: int
    attributes: Attributes


class Picture(NamedTuple):
    """What a file says of a picture; the shapes are in the order in which they are drawn."""

    where: str
    name: str
    subset: str
    size: Size
    shapes: list[Shape]


class Content(NamedTuple):
    """A file; ``labels`` have their colours, if any, and ``left_out`` counts elements by tag."""

    file: Path
    labels: dict[str, Colour | None]
    pictures: list[Picture]
    left_out: Counter[str]


def read(folder: Folder, job: Job) -> Source | None:
    """See ``Reader.read``: the classes are those of the tasks or projects, with their colours.

    Raises:
        UserError: a file is damaged, is "CVAT for video", or names an image that is missing; there
            is nothing to draw; or two entries are of the same image.
    """
    files = [file for file in folder.having(".xml") if _is_cvat(folder.path / file)]
    if not files:
        return None
    contents = each("Reading CVAT's files", partial(_content, folder=folder), files, job)
    left_out = sum((content.left_out for content in contents), Counter[str]())
    listed = ", ".join(f"{count:,} {PLURALS[kind]}" for kind, count in sorted(left_out.items()))
    pictures = [picture for content in contents for picture in content.pictures]
    if not any(picture.shapes for picture in pictures):
        raise UserError(
            f"{job.folder}: {listed or 'nothing'} in CVAT's XML, but no polygon, mask or ellipse; "
            "outline the objects so, and export them again"
        )
    if listed:
        job.note(
            f"{job.folder}: {listed} are left out, as only polygons, masks and ellipses are drawn"
        )
    if plain := sum(not picture.shapes for picture in pictures):
        job.note(
            f"{job.folder}: {plain:,} images without a polygon, mask or ellipse are all background"
        )
    owners: dict[str, Path] = {}
    colours: dict[str, Colour] = {}
    for content in contents:
        for label, colour in content.labels.items():
            owners.setdefault(label, folder.path / content.file)
            if colour:
                colours.setdefault(label, colour)
    classes = drawn_classes(owners, job, colours)
    return Source(
        layout=f"CVAT for images, {len(files):,} files, objects in the order of z_order",
        items=_items(contents, folder),
        classes=classes,
        read=partial(_read, numbers=classes.numbers),
        settings=[folder.path / file for file in files],
        pictures=folder.pictures,
    )


def _is_cvat(path: Path) -> bool:
    with path.open("rb") as file:
        return START.search(file.read(START_BYTES)) is not None


class _Builder(ElementTree.TreeBuilder):
    """Hands each child of the root over and empties it, so that a large file is no large tree."""

    def __init__(self, take: Callable[[ElementTree.Element], None]) -> None:
        super().__init__()
        self.take, self.depth = take, 0

    def doctype(self, *_: str | None) -> None:
        """Refuse what CVAT does not write: its entities may grow without bounds."""
        raise ValueError("it has a DOCTYPE")

    def start(self, tag: str, attributes: dict[str, str]) -> ElementTree.Element:  # type: ignore[override]
        self.depth += 1
        return super().start(tag, attributes)

    def end(self, tag: str) -> ElementTree.Element:
        element = super().end(tag)
        self.depth -= 1
        if self.depth == 1:
            self.take(element)
            element.clear()
        return element


def _content(file: Path, folder: Folder) -> Content:
    path = folder.path / file
    content = Content(file, {}, [], Counter())

    def take(element: ElementTree.Element) -> None:
        if element.tag == "meta":
            content.labels.update(_labels(element))
        elif element.tag == "image":
            content.pictures.append(_picture(path, element, content))
        elif element.tag == "track":
            raise UserError(
                f'{path}: "CVAT for video", whose tracks are not read; export it as "CVAT for '
                'images 1.1"'
            )

    try:
        ElementTree.parse(path, ElementTree.XMLParser(target=_Builder(take)))
    except UserError:
        raise
    except (LookupError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)}); export it again") from None
    return content


def _labels(meta: ElementTree.Element) -> dict[str, Colour | None]:
    """The labels of a task, job or project with their colours, which old versions lack.

    Those that are for tags, boxes and such alone are left out, as are the points of a skeleton.
    """
    return {
        label.findtext("name") or "": colour_of(label.findtext("color") or "")
        for label in meta.iterfind("*/labels/label")
        if not label.findtext("parent") and label.findtext("type", "any") in ("any", *KINDS)
    }


def _picture(path: Path, image: ElementTree.Element, content: Content) -> Picture:
    where = f"{path}: image {image.get('name', image.get('id'))!r}"
    try:
        name, size = image.attrib["name"], (int(image.attrib["height"]), int(image.attrib["width"]))
    except (LookupError, ValueError) as error:
        raise UserError(f"{where} cannot be read ({_reason(error)}); export it again") from None
    shapes = []
    for number, entry in enumerate(image, start=1):
        if entry.tag in PLURALS:
            content.left_out[entry.tag] += 1
            continue
        label, place = entry.get("label"), f"{where}, object {number}"
        if label is None or label not in content.labels:
            raise UserError(
                f"{place} is a {label!r}, which is none of the labels in <meta>; export it again"
            )
        place = f"{place} ({label})"
        if entry.tag not in KINDS:
            raise UserError(f"{place} is a {entry.tag!r}; draw it as {', '.join(KINDS)}")
        try:
            z_order = int(entry.get("z_order", 0))
        except ValueError as error:
            raise _damaged(place, error) from None
        shapes.append(Shape(place, entry.tag, label, z_order, dict(entry.attrib)))
    shapes.sort(key=lambda shape: shape.z_order)
    return Picture(where, name, image.get("subset", ""), size, shapes)


def _items(contents: list[Content], folder: Folder) -> list[Item]:
    """The item of each picture; ``Item.details`` is a `Picture`."""
    owners: dict[Path, Picture] = {}
    items = []
    for content in contents:
        path = folder.path / content.file
        for picture in content.pictures:
            # Exports of projects have a folder for each subset.
            inside = (content.file.parent / "images" / picture.subset).as_posix()
            image = folder.picture_of(path, picture.name, inside)
            if (other := owners.setdefault(image, picture)) is not picture:
                raise UserError(
                    f"{picture.where}: {other.where} would be {image}, too; add the image that is "
                    "missing, or delete one of the two from the XML"
                )
            key = folder.key(image)
            split = one_split([picture.subset]) or split_of(Path(key)) or split_of(content.file)
            items.append(Item(key, image, path, split, picture))
    return items


def _read(item: Item, size: Size, numbers: dict[str, int]) -> np.ndarray:
    """See ``Source.read``."""
    picture: Picture = item.details
    refuse_size(picture.where, picture.size, size)
    label = np.full(size, numbers[BACKGROUND], np.uint8)
    for shape in picture.shapes:
        try:
            pixels = KINDS[shape.kind](shape, size)
        except UserError:
            raise
        except (LookupError, OverflowError, ValueError) as error:
            raise _damaged(shape.where, error) from None
        label[pixels] = numbers[shape.label]
    return label


def _polygon(shape: Shape, size: Size) -> np.ndarray:
    pairs = [pair.split(",") for pair in shape.attributes["points"].split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("points that are no pairs of numbers")
    return mask_of(shape.where, [np.array(pairs, np.float64).ravel()], size)


def _mask(shape: Shape, size: Size) -> np.ndarray:
    """Lengths of runs of 0 and 1 in turn, along the rows of a box."""
    sides = ("left", "top", "width", "height")
    left, top, width, height = (int(shape.attributes[side]) for side in sides)
    runs = [int(run) for run in shape.attributes["rle"].split(",")]
    bottom, right = top + height, left + width
    if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
        raise ValueError("not inside its picture")
    if min(runs) < 0 or sum(runs) != width * height:
        raise ValueError("run lengths that do not fill its box")
    pixels = np.zeros(size, bool)
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    pixels[top:bottom, left:right] = values.reshape(height, width)
    return pixels


def _ellipse(shape: Shape, size: Size) -> np.ndarray:
    """All numbers are rounded, as CVAT does when it exports masks."""
    x, y, *radii = (float(shape.attributes[key]) for key in ("cx", "cy", "rx", "ry"))
    angle = float(shape.attributes.get("rotation", 0))
    # NaN is not at most anything.
    if not all(abs(number) <= 2 * max(size) for number in (x, y, *radii)) or min(radii) < 0:
        raise ValueError("far outside its picture")
    if not math.isfinite(angle):
        raise ValueError("no rotation")
    pixels = np.zeros(size, np.uint8)
    width, height = map(round, radii)
    cv2.ellipse(pixels, (round(x), round(y)), (width, height), angle % 360, 0, 360, 1, cv2.FILLED)
    return pixels.astype(bool)


KINDS = {"polygon": _polygon, "mask": _mask, "ellipse": _ellipse}


def _damaged(where: str, error: Exception) -> UserError:
    return UserError(f"{where} is damaged ({_reason(error)}); draw it again, or delete it")


def _reason(error: Exception) -> str:
    said = f"no {error}" if isinstance(error, KeyError) else str(error)
    return shorten(said, MOST_LETTERS, placeholder="...")
