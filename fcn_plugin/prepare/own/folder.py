"""The files of a folder of labelled pictures, listed once, and pictures found by their names."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.source import Item

MARKER = "own.json"  # in the data sets that are made
SKIPPED = ("__MACOSX", "work_dirs")  # the first is in macOS's archives
SAMPLES = 3  # JSON files of each folder that are looked into
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# Names of folders and lists, in lower case, and the split each stands for: CVAT writes Train.txt.
SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "trainval": "trainval",  # VOC's list of both
}


class Folder:
    """A folder of labelled pictures.

    Attributes:
        path: the folder.
        files: all files below it, relative to it and sorted; hidden ones are left out.
        elsewhere: a second folder with pictures, from ``--images``.
    """

    def __init__(self, path: Path, elsewhere: Path | None = None) -> None:
        for folder, option in ((path, ""), (elsewhere, "--images ")):
            if folder is not None and not folder.is_dir():
                raise UserError(f"{option}{folder}: no such folder; correct the path")
        # A folder inside the first one is written like it, so that its pictures have one path.
        if elsewhere is not None and elsewhere.resolve().is_relative_to(path.resolve()):
            elsewhere = path / elsewhere.resolve().relative_to(path.resolve())
        self.path, self.elsewhere = path, elsewhere
        self.files = list(_files(path))

    def having(self, *suffixes: str) -> list[Path]:
        """The files with one of the suffixes, which are given in lower case with their dot."""
        return [file for file in self.files if file.suffix.lower() in suffixes]

    @cached_property
    def pictures(self) -> list[Path]:
        """The picture files of ``files``."""
        return self.having(*IMAGE_SUFFIXES)

    def key(self, picture: Path) -> str:
        """``key_of`` of a picture that `picture` found, here or in the folder of ``--images``."""
        here = picture.is_relative_to(self.path)
        return key_of(picture.relative_to(self.path if here else self.elsewhere or ""))

    def unlabelled(self, files: Iterable[Path]) -> list[Item]:
        """Items for pictures without a label."""
        return [Item(key_of(file), self.path / file, None, split_of(file)) for file in files]

    @cached_property
    def json_keys(self) -> dict[Path, set[str]]:
        """The keys of the first JSON files of each folder; empty for what is not a JSON object."""
        keys, samples = {}, Counter[Path]()
        for file in self.having(".json"):
            samples[file.parent] += 1
            if samples[file.parent] <= SAMPLES:
                try:
                    document = read_json(self.path / file)
                except UserError:
                    document = None  # a reader reports it, if it is its own
                keys[file] = set(document) if isinstance(document, dict) else set()
        return keys

    @cached_property
    def elsewhere_pictures(self) -> dict[str, Path]:
        """The pictures in the folder of ``--images``, by their paths there without suffix."""
        if self.elsewhere is None:
            return {}
        files = (file for file in _files(self.elsewhere) if file.suffix.lower() in IMAGE_SUFFIXES)
        return {key_of(file): self.elsewhere / file for file in files}

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        paths: dict[str, list[Path]] = {}
        here = (self.path / file for file in self.pictures)
        for path in dict.fromkeys((*here, *self.elsewhere_pictures.values())):
            paths.setdefault(path.stem.lower(), []).append(path)
        return paths

    def picture(self, named: str, near: Path = Path()) -> Path | None:
        """The picture that a file names, perhaps by a path of another machine; None without one.

        Of several pictures of that name, the one whose path ends with most of the named one's
        folders; of those, one in the folder ``near`` (relative to ``path``); of those, one with the
        named suffix.

        Raises:
            UserError: several pictures fit alike.
        """
        parts = Path(named.replace("\\", "/")).parts
        candidates = self._by_stem.get(Path(parts[-1]).stem.lower(), []) if parts else []
        if len(candidates) < 2:
            return next(iter(candidates), None)
        wanted = (*parts[:-1], Path(parts[-1]).stem)
        directory = self.path / near

        def fit(path: Path) -> tuple[int, bool, bool]:
            tail = (*path.parts[:-1], path.stem)
            common = 0
            for one, other in zip(reversed(tail), reversed(wanted), strict=False):
                if one != other:
                    break
                common += 1
            return common, path.is_relative_to(directory), path.name == parts[-1]

        best = max(map(fit, candidates))
        fitting = [path for path in candidates if fit(path) == best]
        if len(fitting) > 1:
            raise UserError(
                f"{fitting[0]}: {fitting[1]} fits the name {named!r}, too; rename one of them"
            )
        return fitting[0]


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder, relative to it; links are followed, but not in circles."""
    visited = set()
    for directory, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        if MARKER in names:  # a data set that was made here
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in SKIPPED)
        relative = Path(directory).relative_to(folder)
        for name in sorted(names):
            if name[0] != "." and os.path.isfile(os.path.join(directory, name)):
                yield relative / name


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read ({reason}); save it again or delete it") from None


def split_of(file: Path) -> str | None:
    """The split that the folders of a relative path name: train, val or test; else None."""
    splits = {SPLIT_OF.get(part.lower()) for part in file.parts[:-1]} - {None, "trainval"}
    return splits.pop() if len(splits) == 1 else None


def key_of(file: Path) -> str:
    """A picture's name in its data set until ``short_names`` shortens it: its path, no suffix."""
    return file.with_suffix("").as_posix()


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """A short name without folders for each key: the last part, or if two share it, all parts.

    >>> short_names(["a/1", "a/2"])
    {'a/1': '1', 'a/2': '2'}
    >>> short_names(["train/1", "val/1"])
    {'train/1': 'train_1', 'val/1': 'val_1'}
    """
    for short in (lambda key: key.rpartition("/")[2], lambda key: key.replace("/", "_")):
        names = {key: short(key) for key in keys}
        if len(set(names.values())) == len(names):
            return names
    return dict(zip(keys, (key.replace("/", "__") for key in keys), strict=True))
