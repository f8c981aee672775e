"""The split that a user's own pictures come with: in lists, or in folders named like splits."""

from collections import Counter
from pathlib import Path

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.folder import IMAGE_SUFFIXES, SPLIT_OF, YEAR
from fcn_plugin.prepare.own.source import Item, Job, Source, text_of

LISTS = Path("ImageSets", "Segmentation")
# Folders that may hold lists.
PLACES = (LISTS, Path("ImageSets"), Path())
NO_SPLIT = ("default", "all")  # lists of all pictures, which CVAT writes without subsets
SPLITS = ("train", "val", "test")
Splits = dict[str, list[str]]


def stated_splits(source: Source, job: Job) -> tuple[list[Item], Splits]:
    """The images that are used, and the names in train and, if stated, val and test.

    Lists and the layout's folders are obeyed: an image of test is never trained on, and if train is
    stated, an image of no split is left out. Test may have images without a label; others without
    one are left out.

    Raises:
        UserError: a list names a missing picture, or a picture is in two splits.
    """
    items = {item.name: item for item in source.items}
    # A reader has obeyed the lists that it names as its settings, such as those of data.yaml.
    lists = {split: path for split, path in find_lists(job).items() if path not in source.settings}
    names = _names(source, job.folder.absolute())
    listed = {split: _read_list(path, names, job.folder) for split, path in lists.items()}
    both = listed.pop("trainval", [])
    others = set().union(*listed.values())
    if rest := [name for name in both if name not in others]:
        split = "val" if "train" in listed else "train"
        if split not in listed:
            listed[split], lists[split] = rest, lists["trainval"]
    _refuse_both(lists, listed)
    labelled = [item.name for item in source.items if item.annotation]
    for split in ("train", "val"):
        for name in listed.get(split, ()):
            if items[name].annotation is None:
                raise UserError(f"{lists[split]}: {name!r} has no label; take it off the list")
    splits = _with_folders(listed, lists, items)
    used = set().union(*splits.values())
    if unlabelled := len(items.keys() - used - set(labelled)):
        job.note(f"{job.folder}: {unlabelled:,} images without a label are left out")
    rest = sorted(set(labelled) - used)
    if "train" in splits:
        if rest:
            job.note(f"{job.folder}: {len(rest):,} labelled images are in no split and left out")
    else:
        splits["train"] = rest
        if splits.keys() & {"val", "test"}:
            use = "trained on" if "val" in splits else "trained on, or drawn to score on"
            job.note(f"{job.folder}: {len(rest):,} images are in no split, and {use}")
        if not rest and "val" in splits:
            where = lists.get("val", job.folder)
            raise UserError(f"{where}: val has all labelled images, none is left to train on")
    if "val" not in splits and "train" in lists:
        job.note(f"{lists['train']}: some of its images are drawn to score on (--val)")
    kept = [items[name] for names in splits.values() for name in names]
    for item in kept:
        if item.name != item.name.strip() or not item.name.isprintable():
            raise UserError(f"{item.file!s}: a name that a list cannot hold; rename it")
    return kept, {split: splits[split] for split in SPLITS if split in splits}


def _with_folders(listed: Splits, lists: dict[str, Path], items: dict[str, Item]) -> Splits:
    """The listed splits, and the images in no list by the folders that they come from."""
    owners = {name: split for split, names in listed.items() for name in names}
    splits = {split: list(names) for split, names in listed.items()}
    for item in sorted(items.values(), key=lambda item: item.name):
        owner = owners.get(item.name)
        if item.split and owner and owner != item.split:
            raise UserError(
                f"{lists[owner]}: {item.name!r} lies in a folder of {item.split}; take it off the "
                "list, or move it"
            )
        if item.split and not owner and (item.annotation or item.split == "test"):
            splits.setdefault(item.split, []).append(item.name)
    return splits


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
            split = SPLIT_OF.get(YEAR.sub("", path.stem.lower()))
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

    The path is that of the image or label without suffix, or the end of it that no other has.
    """
    names: dict[str, str | None] = {}
    for item in source.items:
        for path in filter(None, (item.image, item.annotation)):
            whole = path.absolute().with_suffix("")
            near = whole.relative_to(folder) if whole.is_relative_to(folder) else Path(whole.name)
            ends = ["/".join(near.parts[-count:]) for count in range(1, len(near.parts) + 1)]
            for written in (whole.as_posix(), *ends):
                is_new = names.setdefault(written, item.name) == item.name
                names[written] = item.name if is_new else None
    unique = {written: name for written, name in names.items() if name is not None}
    return unique | {item.name: item.name for item in source.items}


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
    """The picture that a list names, perhaps by a path of another machine."""
    path = written.replace("\\", "/").removeprefix("./")
    stem, _, suffix = path.rpartition(".")
    is_file = f".{suffix}".lower() in (*IMAGE_SUFFIXES, ".json")
    whole = [path, stem] if is_file else [path]
    parts = whole[-1].split("/")
    ends = ["/".join(parts[start:]) for start in range(1, len(parts))]
    return next((names[way] for way in (*whole, *ends) if way in names), None)


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
