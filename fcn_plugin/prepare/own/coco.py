"""Labels from COCO's JSON, as COCO itself, CVAT, Label Studio and Roboflow write it.

Polygons are drawn by pycocotools. A later annotation lies on top of an earlier one; but regions of
crowds (iscrowd), which are outlined coarsely, lie below all objects. Their pixels are of their
class. Pixels without an annotation are background.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fcn_plugin.data.numbering import BACKGROUND
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.classes import drawn_classes
from fcn_plugin.prepare.own.coco_masks import Segmentation, mask_of
from fcn_plugin.prepare.own.folder import Folder, one_split, read_json, refuse_another, split_of
from fcn_plugin.prepare.own.source import Item, Job, Size, Source, each, refuse_size

KEYS = {"images", "annotations"}  # captions have them, too
OBJECTS = "instances"  # start of the names of files of objects, beside captions and keypoints

T = TypeVar("T")


class Annotation(NamedTuple):
    """An object or a crowd."""

    identity: Any
    name: str
    crowd: bool
    segmentation: Segmentation


class Part(NamedTuple):
    """What a file says of a picture."""

    file: Path
    picture: str
    size: Size | None
    annotations: list[Annotation]


class Content(NamedTuple):
    """A file with its categories, and how many of its annotations are boxes only."""

    file: Path
    names: list[str]
    supercategories: set[str]
    parts: list[Part]
    boxes: int

    @property
    def used(self) -> set[str]:
        """The categories that are to be drawn."""
        return {annotation.name for part in self.parts for annotation in part.annotations}


def read(folder: Folder, job: Job) -> Source | None:
    """See ``Reader.read``: COCO's files of objects; the classes are in the order of their files.

    A category that no annotation has is left out if it is the supercategory of another, as
    Roboflow's category 0 is.

    Raises:
        UserError: a file is damaged, or names an image that is missing; no annotation has a
            segmentation; or two files give an image to different splits.
    """
    if not any(keys >= KEYS for keys in folder.json_keys.values()):
        return None
    files = folder.having(".json")
    special = {file.parent for file in files if file.name.startswith(OBJECTS)}
    files = [file for file in files if file.parent not in special or file.name.startswith(OBJECTS)]
    read_file = partial(_content, folder=folder)
    contents = list(filter(None, each("Reading COCO's files", read_file, files, job)))
    if not contents:
        return None
    for content in contents:
        if content.boxes:
            job.note(f"{content.file}: {content.boxes:,} boxes without a segmentation are left out")
    contents = [content for content in contents if content.used]
    if not contents:
        raise UserError(
            f"{job.folder}: no annotation has a segmentation; label polygons or masks, or export "
            "them with the boxes"
        )
    used = set().union(*(content.used for content in contents))
    unused = set().union(*(content.supercategories for content in contents)) - used
    owners = {name: content.file for content in contents for name in content.names}
    classes = drawn_classes({name: owners[name] for name in owners if name not in unused}, job)
    items = _items(contents, folder)
    empty = sum(not any(part.annotations for part in item.details) for item in items.values())
    if empty:
        job.note(f"{job.folder}: {empty:,} images without a segmentation are all background")
    return Source(
        layout=f"COCO instances, {len(contents):,} files, later objects on top",
        items=list(items.values()),
        classes=classes,
        read=partial(_read, numbers=classes.numbers),
        settings=[*(content.file for content in contents)],
        pictures=folder.pictures,
    )


def _content(file: Path, folder: Folder) -> Content | None:
    """The content of a file; None if it has other things than annotations with categories."""
    path = folder.path / file
    document = read_json(path)
    if not isinstance(document, dict) or not document.keys() >= KEYS | {"categories"}:
        return None
    where = "categories"
    try:
        categories = document["categories"]
        names: dict[Any, str] = {}
        for category in categories:
            _add(names, category["id"], str(category["name"]))
        supercategories = {
            category.get("supercategory")
            for category in categories
            if category.get("supercategory") != category["name"]  # as COCO's person
        }
        parts: dict[Any, Part] = {}
        where, boxes = "images", 0
        for image in document["images"]:
            height, width = image.get("height"), image.get("width")
            size = (int(height), int(width)) if height and width else None
            _add(parts, image["id"], Part(path, str(image["file_name"]), size, []))
        where = "annotations"
        for number, entry in enumerate(document["annotations"], start=1):
            where = f"annotation number {number}"
            identity = entry.get("id", f"number {number}")
            where = f"annotation {identity}"
            part, name = _of(parts, entry, "image_id"), _of(names, entry, "category_id")
            segmentation, crowd = entry.get("segmentation"), bool(entry.get("iscrowd"))
            if not segmentation:
                boxes += 1
                continue
            if not isinstance(segmentation, dict):
                segmentation = [np.array(polygon, np.float64) for polygon in segmentation]
            part.annotations.append(Annotation(identity, name, crowd, segmentation))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"{path}: {where} cannot be read ({reason}); export the file again"
        ) from None
    return Content(path, list(names.values()), supercategories, list(parts.values()), boxes)


def _add(table: dict[Any, T], identity: Any, entry: T) -> None:
    if table.setdefault(identity, entry) != entry:
        raise ValueError(f"two have the id {identity!r}")


def _of(table: dict[Any, T], entry: dict[str, Any], key: str) -> T:
    """What an entry refers to by its value of a key."""
    if entry[key] not in table:
        raise LookupError(f"{key} {entry[key]!r} is of none")
    return table[entry[key]]


def _items(contents: list[Content], folder: Folder) -> dict[Path, Item]:
    """The item of each picture; ``Item.details`` is a list of its parts."""
    items: dict[Path, Item] = {}
    for content in contents:
        file = content.file.relative_to(folder.path)
        # The split in a file's name: train in instances_train2017.
        stated = split_of(file) or one_split(re.split(r"[^a-z]+", file.stem.lower()))
        # CVAT's instances_Train.json is of images/Train.
        inside = f"{stated or '.'}/{file.stem.partition('_')[2]}"
        for part in content.parts:
            picture = folder.picture_of(content.file, part.picture, inside)
            key = folder.key(picture)
            split = stated or split_of(Path(key))
            item = items.setdefault(picture, Item(key, picture, content.file, split, []))
            if item.split != split:
                raise UserError(
                    f"{content.file}: {part.picture!r} is of {split or 'no split'} here, but of "
                    f"{item.split or 'no split'} in {item.annotation}; take it out of one of them"
                )
            names = [(other.file, other.picture) for other in item.details]
            refuse_another(picture, names, content.file, part.picture)
            item.details.append(part)
    return items


def _read(item: Item, size: Size, numbers: dict[str, int]) -> np.ndarray:
    """See ``Source.read``."""
    label = np.full(size, numbers[BACKGROUND], np.uint8)
    objects = []
    for part in item.details:
        if part.size:
            refuse_size(part.file, part.size, size)
        objects += [(part.file, annotation) for annotation in part.annotations]
    for file, annotation in sorted(objects, key=lambda pair: not pair[1].crowd):
        where = f"{file}: annotation {annotation.identity} ({annotation.name})"
        label[mask_of(where, annotation.segmentation, size)] = numbers[annotation.name]
    return label
