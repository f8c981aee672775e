"""Find all faults of a data set on disk, not only the first.

``survey`` reads only lists and folders, in a fraction of a second; ``check`` also opens every image
and label.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fcn_plugin.data.catalogue import APART, DATA_SETS, Split
from fcn_plugin.data.images import MOST, LoadCheckedImage
from fcn_plugin.data.labels import LoadCheckedLabel
from fcn_plugin.data.lists import list_text, read_ids
from fcn_plugin.errors import UserError, some
from fcn_plugin.prepare.mat_labels import READERS
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.system.workers import on_all_cores

# An image and its labels with their numbers of classes: none, one, or two as in VOC and SIFT Flow.
Labelled = tuple[str, tuple[tuple[str, int], ...]]


class Survey(NamedTuple):
    """The images and files of a split, and its faults in words."""

    ids: list[str]
    files: list[tuple[str, str | None]]  # images that exist, with their labels if those exist
    faults: list[str]


def survey(folder: Path, split: Split, subset: bool = False) -> Survey:
    """Look for every image and label of a split, and open only the list.

    Args:
        folder: The data set's folder.
        subset: Do not require the published number of images.
    """
    where = folder / split.names_in
    if not where.exists():
        return Survey([], [], [f"{where}: no such {'list' if split.ids else 'folder'}"])
    ids = names(folder, split)
    faults = list(_wrong_list(where, split, ids, subset))
    images = _files(folder / split.images, split.image_suffixes)
    labels = None
    if split.labels is not None:
        if (folder / split.labels).is_dir():
            labels = _files(folder / split.labels, (split.label_suffix,))
        else:
            faults.append(f"{folder / split.labels}: no such folder, for the labels of {where}")
    files = []
    for name in ids:
        image = images.get(name)
        label = None if labels is None else labels.get(name)
        if image is None:
            expected = folder / split.images / f"{name}{split.image_suffixes[0]}"
            faults.append(f"{expected}: no such image, though {where} has it")
        else:
            files.append((image, label))
        if labels is not None and label is None:
            expected = folder / str(split.labels) / f"{name}{split.label_suffix}"
            faults.append(f"{expected}: no such label, though {where} has it")
    return Survey(ids, files, faults)


def faults_of(folder: Path, splits: Iterable[Split], subset: bool) -> list[str]:
    """The faults that ``survey`` finds in some splits."""
    return [fault for split in splits for fault in survey(folder, split, subset).faults]


def first_of(faults: list[str], what: str = "it") -> str:
    return f"faults in {what}: {len(faults):,}, such as {faults[0]}"


def names(folder: Path, split: Split) -> list[str]:
    """The names of a split's images without suffix; none if its list or folder is not there."""
    if not is_there(folder, split):
        return []
    if split.ids is None:
        return sorted(_files(folder / split.images, split.image_suffixes))
    return read_ids(folder / split.ids)


def is_there(folder: Path, split: Split) -> bool:
    """Whether the split's list exists, or its folder of images if it has no list."""
    return (folder / split.names_in).exists()


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """The paths in a folder by their names without suffix."""
    if not folder.is_dir():
        return {}
    # As plain strings: a Path for each of 17,000 files takes seconds.
    split = (os.path.splitext(file) for file in os.listdir(folder))
    return {stem: f"{folder}/{stem}{suffix}" for stem, suffix in split if suffix in suffixes}


def _wrong_list(where: Path, split: Split, ids: list[str], subset: bool) -> Iterable[str]:
    repeated = [name for name, times in Counter(ids).items() if times > 1]
    if repeated:
        yield f"{where}: {some(repeated)} more than once"
    if not ids:
        yield f"{where}: no images"
    elif not subset and len(ids) != split.count:
        yield f"{where}: {len(ids):,} images, published are {split.count:,}"
    elif not subset and split.md5:
        digest = hashlib.md5(list_text(ids).encode(), usedforsecurity=False).hexdigest()
        if digest != split.md5:
            yield f"{where}: md5 of the names is {digest}, published is {split.md5}"


def leaks(root: Path, name: str) -> list[str]:
    """Images of the data set ``name`` that are both scored and trained on."""
    faults = []
    for scored, trained in APART:
        if name not in (scored.split("/")[0], trained.split("/")[0]):
            continue
        (where, scored_ids), (other, trained_ids) = _named(root, scored), _named(root, trained)
        both = sorted(set(scored_ids) & set(trained_ids))
        if both:
            faults.append(
                f"{where}: {len(both):,} of its images are trained on by {other}: {some(both)}"
            )
    return faults


def _named(root: Path, place: str) -> tuple[Path, list[str]]:
    """The list or folder of a split such as ``voc2012/val``, and the names in it."""
    name, split_name = place.split("/")
    split = DATA_SETS[name].split(split_name)
    folder = root / DATA_SETS[name].folder
    return folder / split.names_in, names(folder, split)


def check(
    root: Path,
    name: str,
    subset: bool = False,
    progress: Progress = silent,
) -> tuple[dict[str, int], list[str]]:
    """Every fault of a data set, in words.

    Checks each list and folder, each image and label (complete, equal in size, legal values), the
    published numbers, and that no scored image is trained on.

    Args:
        root: The common root of the data sets.
        subset: Do not require the published numbers.
        progress: Counts images.

    Returns:
        The number of images of each split, and the faults.
    """
    data_set = DATA_SETS[name]
    folder = root / data_set.folder
    if not folder.is_dir():
        return {}, [f"{folder}: no such folder; run fcn-plugin prepare_data {name}"]
    counts: dict[str, int] = {}
    faults: list[str] = []
    labels: dict[str, dict[str, int]] = {}  # an image can be in several splits
    for split in data_set.splits():
        if split.optional and not is_there(folder, split):
            continue
        if split.is_raw and not (folder / (split.labels or split.images)).is_dir():
            continue
        surveyed = survey(folder, split, subset)
        if not split.is_raw:
            counts[split.name] = len(surveyed.ids)
        faults += surveyed.faults
        for image, label in surveyed.files:
            number = split.num_classes or data_set.num_classes
            labels.setdefault(image, {}).update({} if label is None else {label: number})
    files = [(image, tuple(image_labels.items())) for image, image_labels in labels.items()]
    faults += leaks(root, name)
    # Faults that show only when the files are opened.
    for done, file_faults in enumerate(on_all_cores(partial(_open, name), files), start=1):
        faults += file_faults
        progress("Looking at images and labels", done, len(files))
    return counts, faults


def _open(name: str, files: Labelled) -> list[str]:
    """The faults for which a training run would refuse this image or its labels."""
    data_set = DATA_SETS[name]
    image, labels = files
    faults = []
    loaded: dict[str, Any] = {"img_path": image}
    try:
        if image.endswith(".mat"):
            READERS[name](Path(image))
        else:
            # All bits count: depth is dark, but no photo.
            LoadCheckedImage(bits=MOST).transform(loaded)
    except UserError as error:
        faults.append(str(error))
    for label, number in labels:
        sample = loaded | {
            "seg_map_path": label,
            "reduce_zero_label": data_set.reduce_zero_label,
            "label_map": data_set.label_map,
            "seg_fields": [],
        }
        try:
            if label.endswith(".mat"):
                READERS[name](Path(label))
            else:
                LoadCheckedLabel(number).transform(sample)
        except UserError as error:
            faults.append(str(error))
    return faults
