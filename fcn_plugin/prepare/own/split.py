"""Split a user's own pictures into train, val and test: by the folder's lists, or at random.

Lists are obeyed: a picture in the test list is never trained on, and if there is a train list, a
picture in no list is left out.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.source import IMAGE_SUFFIXES, Item, Job, Source, pictures, text_of

LISTS = Path("ImageSets", "Segmentation")
# Folders that may hold lists, and the lists' names in lower case: CVAT writes Train.txt.
PLACES = (LISTS, Path("ImageSets"), Path())
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
NO_SPLIT = ("default", "all")  # lists of all pictures, which CVAT writes without subsets
Splits = dict[str, list[str]]


def with_splits(source: Source, job: Job) -> tuple[Source, Splits]:
    """The source with its test images, and the names of train, val and, if there are any, test.

    Test has the images in the test list, labelled or not, and those in a folder ``test``; other
    images without a label are left out.

    Raises:
        UserError: a list names a missing picture, a picture is in two lists, or a folder named
            like a split would not be read.
    """
    lists = find_lists(job)
    names = _names(source, job.folder.absolute())
    listed = {split: _read_list(path, names, job.folder) for split, path in lists.items()}
    both = listed.pop("trainval", [])
    others = set().union(*listed.values())
    if rest := [name for name in both if name not in others]:
        split = "val" if "train" in listed else "train"
        if split not in listed:
            listed[split], lists[split] = rest, lists["trainval"]
    _refuse_both(lists, listed)
    source = _with_test_images(source, listed.get("test", []), job)
    labelled = {item.name for item in source.items if item.annotation}
    for split in ("train", "val"):
        for name in listed.get(split, ()):
            if name not in labelled:
                raise UserError(f"{lists[split]}: {name!r} has no label; take it off the list")
    unlisted = sorted(labelled.difference(*listed.values()))
    if "train" in listed and unlisted:
        job.note(f"{job.folder}: {len(unlisted):,} labelled images are in no list and left out")
    if "train" not in listed:
        listed["train"] = unlisted
        if listed.keys() & {"val", "test"}:
            use = "trained on" if "val" in listed else "trained on, or drawn to score on"
            job.note(f"{job.folder}: {len(unlisted):,} images are in no list, and {use}")
    if "val" not in listed:
        where = lists.get("train", job.folder)
        listed["train"], listed["val"] = _drawn(listed["train"], where, job)
        if "train" in lists:
            job.note(f"{where}: {len(listed['val']):,} of its images are drawn to score on")
    elif not listed["train"]:
        raise UserError(f"{lists['val']}: names all labelled images, none is left to train on")
    test = {item.name for item in source.items if not item.annotation} | set(listed.get("test", ()))
    splits = {"train": listed["train"], "val": listed["val"]}
    return source, splits | ({"test": sorted(test)} if test else {})


def find_lists(job: Job) -> dict[str, Path]:
    """The list file of each split, and of trainval, from the one folder of ``PLACES`` with lists.

    Raises:
        UserError: a split has two lists, a list is of no split, or two folders have lists.
    """
    all_lists: dict[str, Path] = {}
    for place in PLACES:
        folder = job.folder / place
        lists: dict[str, Path] = {}
        others = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix.lower() != ".txt" or not path.is_file():
                continue
            split = SPLIT_OF.get(path.stem.lower())
            if split is None:
                others.append(path)
            elif split in lists:
                raise UserError(f"{path}: {lists[split].name} is of the same split; delete one")
            else:
                lists[split] = path
        if lists and all_lists:
            one, other = next(iter(all_lists.values())), next(iter(lists.values()))
            raise UserError(f"{other}: {one} is a list of the same pictures; keep all in one place")
        all_lists |= lists
        if place == Path():
            break  # other text files there are not lists
        others = [path for path in others if path.stem.lower() not in NO_SPLIT]
        if others and not lists:
            raise UserError(
                f"{others[0]}: not named like a split; name it train, val or test, or move it away"
            )
        for path in others:
            job.note(f"{path}: not named like a split (train, val, test), and not read")
    return all_lists


def _names(source: Source, folder: Path) -> dict[str, str]:
    """Each picture's name, by all ways in which a list may write it: the name, or a path.

    The path is that of the image or label without suffix, absolute or relative to ``folder``.
    """
    items = [*source.items, *(Item(path.stem, path, None) for path in source.unlabelled)]
    names = {}
    for item in items:
        for path in filter(None, (item.image, item.annotation)):
            whole = path.absolute().with_suffix("").as_posix()
            names[whole] = names[whole.removeprefix(f"{folder.as_posix()}/")] = item.name
    return names | {item.name: item.name for item in items}


def _read_list(path: Path, names: dict[str, str], folder: Path) -> list[str]:
    """The names of the pictures in a list.

    Raises:
        UserError: the list is empty, has a name twice, or names a missing picture.
    """
    lines = [line.strip() for line in text_of(path).splitlines() if line.strip()]
    listed = [_named(path, line, names, folder) for line in lines]
    if not listed:
        raise UserError(f"{path}: no names in it; list images, or delete it")
    for name, count in Counter(listed).items():
        if count > 1:
            raise UserError(f"{path}: {name!r} is there twice; take one off the list")
    return listed


def _named(path: Path, line: str, names: dict[str, str], folder: Path) -> str:
    # Some lists have the paths of the image and of the label in one line.
    for parts in ([line], line.split()):
        matches = {_name(part, names) for part in parts}
        if len(matches) == 1 and (name := matches.pop()) is not None:
            return name
    raise UserError(
        f"{path}: {line!r} is no picture in {folder.absolute()}; add it, or take it off the list"
    )


def _name(written: str, names: dict[str, str]) -> str | None:
    path = written.replace("\\", "/").removeprefix("./")
    stem, _, suffix = path.rpartition(".")
    is_file = f".{suffix}".lower() in (*IMAGE_SUFFIXES, ".json")
    return names.get(path) or (names.get(stem) if is_file else None)


def _refuse_both(lists: dict[str, Path], listed: Splits) -> None:
    """Raise a `UserError` if a picture is in two lists."""
    owners: dict[str, str] = {}
    for split, names in listed.items():
        for name in names:
            if (other := owners.setdefault(name, split)) != split:
                raise UserError(
                    f"{lists[split]}: {name!r} is in {lists[other].name}, too; take it off one of "
                    "the lists"
                )


def _with_test_images(source: Source, listed: Sequence[str], job: Job) -> Source:
    chosen = [path for path in source.unlabelled if path.stem in set(listed)]
    if left := len(source.unlabelled) - len(chosen):
        job.note(f"{job.folder}: {left:,} images without a label are left out")
    items = list(source.items)
    taken = {item.name: item.file for item in items}
    for path in [*chosen, *_test_folder(job.folder, source)]:
        if path.stem in taken:
            raise UserError(f"{path}: {taken[path.stem]} has the same name; rename one of them")
        taken[path.stem] = path
        items.append(Item(path.stem, path, None))
    for item in items:
        if item.name != item.name.strip() or not item.name.isprintable():
            raise UserError(f"{item.file!s}: a name that a list cannot hold; rename it")
    return source._replace(items=items)


def _test_folder(folder: Path, source: Source) -> list[Path]:
    """The images in the folder ``test``; folders of splits that would not be read are refused."""
    images: list[Path] = []
    parents = {item.image.parent for item in source.items if item.image}
    for parent in sorted({folder, *(path for path in parents if path.is_relative_to(folder))}):
        for path in sorted(parent.iterdir()):
            split = SPLIT_OF.get(path.name.lower())
            if split is None or not path.is_dir():
                continue
            direct = pictures(path)
            suffixes = [file.suffix.lower() for file in path.rglob("*")]
            labelled = ".json" in suffixes
            deeper = sum(suffix in IMAGE_SUFFIXES for suffix in suffixes) > len(direct)
            if split == "test" and parent == folder and not labelled and not deeper:
                images += direct.values()
            elif labelled or deeper or direct:
                raise UserError(
                    f"{path}: is not read{', for it has labels' if labelled else ''}; move its "
                    f"files to the others, and name them in {folder / LISTS / split}.txt"
                )
    return images


def _drawn(names: Sequence[str], where: Path, job: Job) -> tuple[list[str], list[str]]:
    """The names to train on, and the names to score on."""
    # In the order of a hash of each name, so that adding an image moves hardly any other.
    drawn = sorted(names, key=lambda name: hashlib.sha256(f"{job.seed} {name}".encode()).digest())
    if len(drawn) < 2:
        raise UserError(
            f"{where}: {len(drawn)} labelled image; at least 2 are needed, one to train on and one "
            "to score"
        )
    count = min(max(round(job.val * len(drawn)), 1), len(drawn) - 1)
    return sorted(drawn[count:]), sorted(drawn[:count])
