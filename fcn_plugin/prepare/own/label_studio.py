"""Labels from Label Studio's brush: a PNG of each region, task-N-annotation-M-by-U-tag-NAME-K.png.

A pixel has the label if it is not 0. Layers lie in the order of K, then of the labels' names: the
files do not tell which was painted first. The JSON export tells which picture is task N.
"""

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

from fcn_plugin.data.labels import read_label
from fcn_plugin.data.numbering import BACKGROUND
from fcn_plugin.errors import UserError, some
from fcn_plugin.prepare.own.classes import drawn_classes
from fcn_plugin.prepare.own.folder import IMAGE_SUFFIXES, Folder, read_json, split_of
from fcn_plugin.prepare.own.source import Item, Job, Size, Source, refuse_size

# Old versions leave the user out. The name of the brush in the project, "tag" as a rule, is taken
# to have no dash, for the names of labels may have some.
FILE = re.compile(r"task-(\d+)-annotation-(\d+)(?:-by-[^-]*)?-[^-]+-(.+)-(\d+)")
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=[^/]*$)")  # before the name of an uploaded picture


class Layer(NamedTuple):
    """The pixels of a label, in the order in which layers are drawn."""

    number: int
    label: str
    file: Path


def read(folder: Folder, job: Job) -> Source | None:
    """See ``Reader.read``: the classes are the labels, sorted.

    Raises:
        UserError: nothing tells which picture a task is of.
    """
    annotations: dict[int, dict[int, list[Layer]]] = {}
    for file in folder.having(".png"):
        if match := FILE.fullmatch(file.stem):
            layers = annotations.setdefault(int(match[1]), {}).setdefault(int(match[2]), [])
            layers.append(Layer(int(match[4]), match[3], folder.path / file))
    if not annotations:
        return None
    if several := sum(len(of_task) > 1 for of_task in annotations.values()):
        job.note(f"{job.folder}: {several:,} tasks have several annotations; the last one is taken")
    last = {task: sorted(of_task[max(of_task)]) for task, of_task in sorted(annotations.items())}
    paths = _exported(folder)
    items = []
    for task, layers in last.items():
        picture = _picture(task, paths.get(task, []), layers[0].file, folder)
        key = folder.key(picture)
        items.append(Item(key, picture, layers[0].file, split_of(Path(key)), layers))
    files = {layer.label: layer.file for layers in last.values() for layer in layers}
    classes = drawn_classes(dict(sorted(files.items())), job)
    return Source(
        layout=f"Label Studio's brush, {sum(map(len, last.values())):,} layers",
        items=items,
        classes=classes,
        read=partial(_read, numbers=classes.numbers),
        settings=[*(layer.file for layers in last.values() for layer in layers)],
        pictures=[file for file in folder.pictures if not FILE.fullmatch(file.stem)],
    )


def _exported(folder: Folder) -> dict[int, list[str]]:
    """The paths of pictures that JSON exports, whole or short, have for each task.

    Raises:
        UserError: two exports have different pictures for a task.
    """
    paths: dict[int, list[str]] = {}
    for file in folder.having(".json"):
        document = read_json(folder.path / file)
        for task in document if isinstance(document, list) else []:
            if not isinstance(task, dict) or not isinstance(task.get("id"), int):
                continue
            data = task.get("data", task)  # the short export has one object
            values = data.values() if isinstance(data, dict) else ()
            urls = (unquote(value) for value in values if isinstance(value, str))
            # Local storage is /data/local-files/?d=PATH, and signed addresses end with ?KEY=...
            names = (url.partition("?d=")[2] or url.partition("?")[0] for url in urls)
            own = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
            if not own:
                continue
            others = paths.setdefault(task["id"], own)
            if not set(own) & set(others):
                raise UserError(
                    f"{folder.path / file}: task {task['id']} is of {some(own)} here, but of "
                    f"{some(others)} before; delete the export that is not of the layers"
                )
    return paths


def _picture(task: int, paths: list[str], file: Path, folder: Folder) -> Path:
    """The picture of a task, by its paths; without any, by the task's number."""
    names = [name for path in paths for name in (path, UPLOADED.sub("", path))]
    for name in names or (f"{task}", f"task-{task}"):
        if picture := folder.picture(file, name):
            return picture
    if names:
        return folder.picture_of(file, names[-1])
    raise UserError(
        f"{file}: nothing tells which picture task {task} is; put Label Studio's JSON export of "
        f"the same tasks beside it, or name the picture {task}.jpg"
    )


def _read(item: Item, size: Size, numbers: dict[str, int]) -> np.ndarray:
    """See ``Source.read``."""
    label = np.full(size, numbers[BACKGROUND], np.uint8)
    for layer in item.details:
        pixels = read_label(layer.file)
        refuse_size(layer.file, pixels.shape, size)
        label[pixels > 0] = numbers[layer.label]
    return label
