"""The formats of labelled pictures. To add one, write a file like ``yolo`` and add a row."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.errors import UserError, some
from fcn_plugin.prepare.own import (
    cityscapes,
    coco,
    cvat,
    label_studio,
    labelme,
    masks,
    supervisely,
    yolo,
)
from fcn_plugin.prepare.own.folder import IMAGE_SUFFIXES, Folder, key_of, short_names, split_of
from fcn_plugin.prepare.own.source import Item, Job, Source


class Reader(NamedTuple):
    """A format.

    Attributes:
        looks: what a folder of this format contains, in words for the user.
        read: the pictures and labels of a folder; None if its content is of another format.
            ``Source.read`` reads the labels later, in other processes. Raises a `UserError` that
            names the file that is damaged or does not fit.
    """

    looks: str
    read: Callable[[Folder, Job], Source | None]


MASKS = Reader("pictures in images and label PNGs of the same names in masks", masks.read)
# The first that reads a folder is taken: formats that are told by more come first.
READERS = (
    Reader("leftImg8bit and gtFine of Cityscapes", cityscapes.read),
    Reader("annotations/instances_train.json of COCO, with images/X.jpg", coco.read),
    Reader("images/train/X.jpg and labels/train/X.txt of YOLO, with data.yaml", yolo.read),
    Reader("meta.json, ds0/img/X.jpg and ds0/ann/X.jpg.json of Supervisely", supervisely.read),
    Reader("annotations.xml of CVAT for images, with images/X.jpg", cvat.read),
    Reader(
        "task-N-annotation-M-tag-NAME-K.png of Label Studio, its JSON export", label_studio.read
    ),
    MASKS,
    Reader("X.json of labelme, with X.jpg", labelme.read),
)
PICTURES = "pictures"
# What is most likely meant by files that no reader takes.
HINTS = {
    ".xml": "XML files usually hold boxes; export the masks of the objects",
    ".json": "JSON files are read of labelme, COCO and Supervisely",
    ".txt": "text files are read of YOLO: images/train/X.jpg, labels/train/X.txt with polygons, "
    "data.yaml",
    ".npy": "save labels as PNG instead of NumPy's files",
    ".mat": "save labels as PNG instead of MATLAB's files",
    ".zip": "unpack what is packed inside",
}


def read_source(job: Job) -> Source:
    """The pictures in ``Job.folder``, from the first reader that knows its format.

    Raises:
        UserError: no reader knows the format, or the reader finds a fault.
    """
    folder = Folder(job.folder, job.images)
    for reader in READERS:
        if (source := reader.read(folder, job)) is not None:
            owners: dict[str, Item] = {}
            for item in (*source.items, *_unlabelled(source, folder)):
                if (other := owners.setdefault(item.name, item)) is not item:
                    raise UserError(f"{item.file}: {other.file} has the same name; rename one")
            names = short_names(list(owners))
            items = [item._replace(name=names[item.name]) for item in owners.values()]
            labelled = sum(item.annotation is not None for item in items)
            job.note(
                f"{job.folder}: {source.layout}, {labelled:,} labelled pictures, "
                f"{len(source.classes.names)} classes"
            )
            settings = [*source.settings, *filter(None, [source.classes.file])]
            return source._replace(items=items, settings=settings)
    raise UserError(f"{job.folder}: no labelled pictures; {_what_is_there(folder)}")


def _unlabelled(source: Source, folder: Folder) -> list[Item]:
    """Items for the pictures of a source that have no label, and are none themselves.

    Raises:
        UserError: a picture has two labels.
    """
    labelled = [item for item in source.items if item.annotation]
    owners: dict[Path, Item] = {}
    for item in labelled:
        if (other := owners.setdefault(item.file.resolve(), item)) is not item:
            raise UserError(
                f"{item.annotation}: {other.annotation} is of the same image, {item.file}; delete "
                "one, or add the image that is missing"
            )
    names = {item.name for item in labelled}
    # Resolving every path of a large data set takes seconds: those that are alike go first.
    files = {path for item in labelled for path in (item.image, item.annotation)}
    files |= set(source.settings)
    return [
        Item(key_of(file), path, None, split_of(file))
        for file in source.pictures
        if (path := folder.path / file) not in files and key_of(file) not in names
        if path.resolve() not in owners and _is_image(file)
    ]


def _is_image(file: Path) -> bool:
    """Whether a picture's folders do not say that it is a label, as ``masks`` takes them."""
    kinds = (masks.KIND_OF.get(part.lower(), "") for part in reversed(file.parts[:-1]))
    return next(filter(None, kinds), "image") == "image"


def _what_is_there(folder: Folder) -> str:
    """What was seen in a folder that no reader takes, and the layout to bring it into."""
    places: dict[str, Counter[str]] = {}
    for file in folder.files:
        kind = PICTURES if file.suffix.lower() in IMAGE_SUFFIXES else file.suffix.lower()
        places.setdefault(kind, Counter())[file.parent.as_posix()] += 1
    if not places:
        return "it is empty"
    seen = [
        f"{counts.total():,} {kind or 'other files'} in {some(list(counts), 3)}"
        for kind, counts in sorted(places.items(), key=lambda place: place[0] != PICTURES)
    ]
    hints = [hint for suffix, hint in HINTS.items() if suffix in places]
    nearest = hints[0] if hints else f"labels belong beside them, such as {MASKS.looks}"
    return f"there are {some(seen, 5)}; {nearest}"
