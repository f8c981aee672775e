"""The files of a folder of labelled pictures, listed once, and pictures found by their names."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fcn_plugin.errors import UserError

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
YEAR = re.compile(r"(19|20)\d\d$")  # after a split, as in COCO's train2017


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

    def picture(self, annotation: Path, named: str, inside: str = "") -> Path | None:
        """The picture that a file names, perhaps by a path of another machine; None without one.

        Of several pictures of that name, the one whose path ends with most of the named one's
        folders; of those, one below the folder of the file; of those, one with the named suffix. A
        picture in a folder of another split is not the named one.

        Args:
            annotation: the file, in ``path``.
            inside: a folder that the named path may be relative to.

        Raises:
            UserError: several pictures fit alike.
        """
        *folders, name = [*_parts(inside), *(_parts(named) or ("",))]
        wanted = (*folders, Path(name).stem)
        # The deepest folder counts: those on top may be of another machine.
        places = (*annotation.parent.relative_to(self.path).parts, *folders)
        split = next(filter(None, (one_split([place]) for place in reversed(places))), None)

        def fit(path: Path) -> tuple[int, bool, bool]:
            tail = (*path.parts[:-1], path.stem)
            common = 0
            for one, other in zip(reversed(tail), reversed(wanted), strict=False):
                if one != other:
                    break
                common += 1
            return common, path.is_relative_to(annotation.parent), path.name == name

        candidates = [
            path
            for path in self._by_stem.get(wanted[-1].lower(), [])
            if split is None or split_of(Path(self.key(path))) in (split, None)
        ]
        best = max(map(fit, candidates), default=None)
        fitting = [path for path in candidates if fit(path) == best]
        if len(fitting) > 1:
            raise UserError(
                f"{fitting[0]}: {fitting[1]} fits the name {named!r}, too; rename one of them"
            )
        return next(iter(fitting), None)

    def picture_of(self, annotation: Path, named: str, inside: str = "") -> Path:
        """See `picture`.

        Raises:
            UserError: there is no such picture, or several fit alike.
        """
        if picture := self.picture(annotation, named, inside):
            return picture
        raise self.missing(annotation, named)

    def missing(self, annotation: Path, named: str) -> UserError:
        """The error that a picture which a file names is not there."""
        others = self._by_stem.get(Path(named.replace("\\", "/")).stem.lower())
        hint = f" ({others[0]} is in another folder; rename that if it is meant)" if others else ""
        return UserError(
            f"{annotation}: no image {named}{hint}; add it, take it out here, or give --images DIR "
            "with it"
        )


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


def refuse_another(picture: Path, names: Iterable[tuple[Path, str]], file: Path, name: str) -> None:
    """Raise a `UserError` if a picture that a file names is named as another one before.

    Args:
        names: the files that name it before, and the names. One may lack the first folders of the
            other; but a file beside the picture and one elsewhere mean two pictures.
    """
    for other_file, other in names:
        pairs = zip(reversed(_parts(name)), reversed(_parts(other)), strict=False)
        is_beside = [one.parent == picture.parent for one in (file, other_file)]
        if is_beside[0] != is_beside[1] or any(one != two for one, two in pairs):
            raise UserError(
                f"{file}: {name!r}, and {other!r} in {other_file.name}, would both be {picture}; "
                "add the image that is missing, or take it out"
            )


def _parts(named: str) -> tuple[str, ...]:
    """The folders and the name in a path, perhaps of Windows."""
    return Path(named.replace("\\", "/")).parts


def one_split(words: Iterable[str]) -> str | None:
    """The split that words name, perhaps with a year: train, val or test; None for none or two.

    >>> one_split(["images", "Train2017"]), one_split(["train", "val"]), one_split(["trainval"])
    ('train', None, None)
    """
    splits = {SPLIT_OF.get(YEAR.sub("", word.lower())) for word in words} - {None, "trainval"}
    return splits.pop() if len(splits) == 1 else None


def split_of(file: Path) -> str | None:
    """The split that the folders of a relative path name; else None."""
    return one_split(file.parts[:-1])


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
