"""YOLO's ``data.yaml``: the names of the classes, and the split of each picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.class_tables import table_beside
from fcn_plugin.prepare.own.folder import Folder, refuse_another
from fcn_plugin.prepare.own.source import Job, text_of
from fcn_plugin.prepare.own.split import SPLITS

Document = dict[str, Any]


class Dataset(NamedTuple):
    """What ``data.yaml`` says.

    Attributes:
        file: has the names.
        names: of the classes, by number; a text may have 0.0 for 0.
        splits: the split of each picture that it lists.
        lists: the files that list pictures for it.
    """

    file: Path
    names: dict[float, str]
    splits: dict[Path, str]
    lists: list[Path]


def find_document(folder: Folder) -> tuple[Path, Document] | None:
    """The first YAML file with ``names``, relative to the folder, and its content.

    Raises:
        UserError: a file cannot be read.
    """
    files = sorted(folder.having(".yaml", ".yml"), key=lambda file: len(file.parts))
    for file in files:
        path = folder.path / file
        text = text_of(path)
        if "names" not in text:
            continue  # of another tool, perhaps with tags of its own
        try:
            document = yaml.safe_load(text)
        except (RecursionError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: cannot be read ({reason}); correct it") from None
        if isinstance(document, dict) and "names" in document:
            return file, document
    return None


def dataset_of(found: tuple[Path, Document] | None, folder: Folder, job: Job) -> Dataset:
    """The classes and splits of `find_document`; without it, the classes of a file of classes.

    Raises:
        UserError: the names are no list or table, ``nc`` is not their number, a path is wrong, a
            picture is in two splits, or no file names the classes.
    """
    if found is None:
        table = table_beside(job)
        if table is None:
            raise UserError(
                f"{job.folder}: no data.yaml names the classes; write one with names: [...] and "
                "the folders train: and val:, or give --classes FILE"
            )
        return Dataset(table.file, {float(i): name for i, name in table.values.items()}, {}, [])
    file, document = found
    path, names = folder.path / file, document["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(type(number) is int for number in names):
        raise UserError(f"{path}: names is no list; write names: [...], in the order of numbers")
    if document.get("nc", len(names)) != len(names):
        raise UserError(f"{path}: nc is {document['nc']}, but names has {len(names)}; correct it")
    splits: dict[Path, str] = {}
    lists: list[Path] = []
    for split, place in _places(file, document, folder, job):
        if (folder.path / place).is_file():
            lists.append(folder.path / place)
        for picture in _listed(place, folder):
            if (other := splits.setdefault(picture, split)) != split:
                raise UserError(
                    f"{path}: {picture} is of {other} and of {split}; give each pictures of its "
                    "own, or take one of the two lines out"
                )
    return Dataset(path, {number: str(name) for number, name in names.items()}, splits, lists)


def _places(file: Path, document: Document, folder: Folder, job: Job) -> Iterator[tuple[str, Path]]:
    """Each split, and a folder or list of it, relative to the folder."""
    for split in SPLITS:
        entries = document.get(split) or []
        for entry in [entries] if isinstance(entries, str) else entries:
            place = _place(f"{document.get('path') or ''}/{entry}", file.parent, folder)
            if place is not None:
                yield split, place
                continue
            fault = f"{folder.path / file}: {split}: {entry!r} is not there"
            if split == "train":
                raise UserError(f"{fault}; correct the path")
            job.note(fault)


def _place(written: str, near: Path, folder: Folder) -> Path | None:
    """The folder or list that a path means, relative to the folder; None if it is not there.

    The path may be of another machine, or wrong, as Roboflow's ``../train/images``: its end counts.
    """
    parts = [part for part in written.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    ends = [Path(*parts[start:]) for start in range(len(parts) or 1)]
    places = (base / end for end in ends for base in (near, Path()))
    return next((place for place in places if (folder.path / place).exists()), None)


def _listed(place: Path, folder: Folder) -> Iterator[Path]:
    """The pictures in a folder or list."""
    path = folder.path / place
    if path.is_dir():
        yield from (folder.path / file for file in folder.pictures if file.is_relative_to(place))
        return
    lines: dict[Path, str] = {}
    for line in filter(None, map(str.strip, text_of(path).splitlines())):
        picture = folder.picture_of(path, line)
        refuse_another(picture, [(path, lines.setdefault(picture, line))], path, line)
        yield picture
