"""From the archives of a data set to the tree that the configs expect.

Every step ends by renaming what it made: a tree, or a file of one, is whole or not there. So an
interrupted preparation is started again with the same command, and what is finished is left alone.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.data.archives import room, unpack
from fcn_plugin.data.published import DATA_SETS, VOC_LISTS, DataSet, Part, Split
from fcn_plugin.data.sbd import convert_labels
from fcn_plugin.data.splits import list_text, read_ids, seg11valid, trainaug
from fcn_plugin.data.tree_check import is_there, leaks, names, some, survey
from fcn_plugin.download import download, file_digests
from fcn_plugin.errors import UserError
from fcn_plugin.files import replacing
from fcn_plugin.locking import only_one_at_work

Progress = Callable[[str, int, int], None]

DEFAULT_ROOT = Path("data")
DOWNLOADS = "downloads"
# Pictures hardly shrink in an archive: one that unpacks to more than this is not theirs.
MAX_GROWTH, MIN_LIMIT = 20, 1 << 30
# Seconds; the workers of a run that was killed hold its lock for a moment longer.
LOCK_PATIENCE = 2.0


class Preparation(NamedTuple):
    """What is asked for."""

    root: Path  # of all data sets
    name: str
    subset: bool  # a part of the set is enough: no published numbers and hashes
    note: Callable[[str], None]  # told what the user should know and cannot see
    progress: Progress = lambda step, done, total: None

    @property
    def data_set(self) -> DataSet:
        return DATA_SETS[self.name]

    @property
    def folder(self) -> Path:
        return self.root / self.data_set.folder

    @property
    def at_root(self) -> str:
        """The option for the root, for a command to run next."""
        return "" if self.root == DEFAULT_ROOT else f" --root {self.root}"


@contextmanager
def only_one_preparation(root: Path) -> Iterator[None]:
    """Keep a second run out of ``root``, which is made."""
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is a file; give --root the folder of the data sets")
    with only_one_at_work(root, LOCK_PATIENCE):
        yield


# --- which archives ------------------------------------------------------------------------------


def fetch(job: Preparation, test: bool = False) -> list[Path]:
    """Download the archives of what is missing, and say where they are.

    Args:
        test: The test images as well.
    """
    was_killed = _stage_of(job.folder).exists()
    missing = [
        part
        for part in job.data_set.parts
        if (test or not part.optional)
        and (was_killed or not _has(job.folder, job.data_set, part, job.subset))
    ]
    for part in missing:
        if part.url is None:
            raise UserError(f"{part.file}: cannot be downloaded without an account; {part.by_hand}")
    archives = []
    for part in missing:
        _note_faults(part, job)
        archives.append(download(str(part.url), job.root / DOWNLOADS / part.file, part.digest))
    return archives


def _note_faults(part: Part, job: Preparation) -> None:
    """Why an archive is needed although there is something."""
    there = [split for split in part.splits if is_there(job.folder, split)]
    faults = [fault for split in there for fault in survey(job.folder, split, job.subset).faults]
    if faults:
        job.note(
            f"{job.folder}: faults in {part.name}: {len(faults):,}, such as {faults[0]}; "
            f"{part.file} is needed again (--check lists them, --subset takes a part as whole)"
        )


def _has(folder: Path, data_set: DataSet, part: Part, subset: bool) -> bool:
    """Whether all that an archive brings is in place, or all that is made of it."""
    if not folder.is_dir():
        return False
    made = [split for split in data_set.derived if not split.optional]
    if made and _complete(folder, made, subset):
        return True
    needed = [s for s in part.splits if part.optional or not s.optional or is_there(folder, s)]
    return _complete(folder, needed, subset)


def _complete(folder: Path, splits: Iterable[Split], subset: bool) -> bool:
    return not any(survey(folder, split, subset).faults for split in splits)


def _identify(archive: Path, job: Preparation) -> Part | None:
    """Which part an archive is, by its name or hash; None if only its content can tell."""
    parts = job.data_set.parts
    by_name = {part.file: part for part in parts}.get(
        archive.name, parts[0] if len(parts) == 1 else None
    )
    if by_name and _has(job.folder, job.data_set, by_name, job.subset):
        return by_name
    known = [part for part in parts if part.digest]
    if job.subset or not known:
        return by_name
    size = archive.stat().st_size
    algorithms = {part.digest.algorithm for part in known if part.digest}
    found = file_digests(
        archive, algorithms, lambda read: job.progress(f"Checking {archive.name}", read, size)
    )
    for part in known:
        if part.digest and found[part.digest.algorithm] == part.digest.digits:
            return part
    if by_name is None or by_name.digest:
        hashes = ", ".join(f"{name} {digits}" for name, digits in found.items())
        job.note(f"{archive}: not as published ({hashes}); going by its content")
    return by_name


# --- from an archive to a tree -------------------------------------------------------------------


def prepare(job: Preparation, archives: Sequence[Path]) -> list[str]:
    """Unpack, verify and put in place; then make what follows from all that is there.

    To be called within ``only_one_preparation``, as ``fetch``.

    Args:
        archives: Those that ``fetch`` got, or the user's own.

    Returns:
        Lines that say what there could be and what there is now.

    Raises:
        UserError: an archive is damaged, hostile, incomplete or of another data set, or something
            is missing; what was in place stays as it was.
    """
    for archive in archives:
        if not archive.is_file():
            reason = "is a folder; give a file" if archive.is_dir() else "no such archive"
            raise UserError(f"{archive}: {reason}")
    was_killed = _clear_stages(job)
    for archive in archives:
        part = _identify(archive, job)
        if part is None or was_killed or not _has(job.folder, job.data_set, part, job.subset):
            _unpack(archive, job)
        else:
            job.note(f"{archive}: not unpacked, {job.folder} has {part.name} already")
    _refuse_incomplete(job)
    hints = [_derive(d, job) for d in DERIVATIONS if job.name in d.needs]
    _refuse_faults(job)
    return [*filter(None, hints), *_summary(job)]


def _unpack(archive: Path, job: Preparation) -> None:
    size = archive.stat().st_size
    with _stage(job.folder) as stage:
        if shutil.disk_usage(stage).free < size:
            raise UserError(f"{stage.parent}: not enough room to unpack {archive.name}; make some")
        unpack(
            archive,
            stage,
            job.data_set.place,
            max(MIN_LIMIT, MAX_GROWTH * size),
            lambda done, total: job.progress(f"Unpacking {archive.name}", done, total),
        )
        _verify(archive, stage, job)
        replaced = install(stage, job.folder)
    if replaced:
        job.note(
            f"{job.folder}: files replaced by those of {archive.name}, of another size: "
            f"{some([str(path.relative_to(job.folder)) for path in replaced])}"
        )


def _verify(archive: Path, stage: Path, job: Preparation) -> None:
    """Refuse an archive that does not hold what it should, before anything is put in place."""
    parts = [part for part in job.data_set.parts if any(is_there(stage, s) for s in part.splits)]
    if not parts:
        roots = " or ".join(dict.fromkeys(f"{part.root}/" for part in job.data_set.parts))
        raise UserError(
            f"{archive}: nothing of {job.data_set.title} in it (a folder {roots} with its lists or "
            "images); give the archive of this data set"
        )
    faults = [
        fault
        for part in parts
        for split in part.splits
        if not split.optional or is_there(stage, split)
        for fault in survey(stage, split, job.subset).faults
    ]
    trees = {} if job.subset else {k: v for part in parts for k, v in part.git_trees.items()}
    faults += [
        f"{folder}: the files are not the published ones"
        for folder, published in trees.items()
        if (stage / folder).is_dir() and git_tree(stage / folder) != published
    ]
    if faults:
        first = faults[0].replace(f"{stage}{os.sep}", "")
        raise UserError(
            f"{archive}: faults in it: {len(faults):,}, such as {first}; fetch it again, or give "
            "--subset if it is meant to be only a part"
        )


def git_tree(folder: Path) -> str:
    """The id that git gives to a folder of plain files: one hash of all names and contents."""
    entries = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        entries.append(b"100644 %s\0" % path.name.encode() + blob.digest())
    tree = b"".join(entries)
    return hashlib.sha1(b"tree %d\0" % len(tree) + tree, usedforsecurity=False).hexdigest()


@contextmanager
def _stage(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that is gone afterwards."""
    stage = _stage_of(target)
    stage.mkdir(parents=True)
    try:
        with room(stage):
            yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _stage_of(target: Path) -> Path:
    target = target.resolve()
    return target.with_name(f".{target.name}.partial")


def _clear_stages(job: Preparation) -> bool:
    """Remove what a killed run may have left; whether it may have been moving an archive's files.

    Some of them may then be where they belong and some, that no list asks for, lost with the stage.
    """
    was_killed = _stage_of(job.folder).exists()
    targets = [job.folder]
    for derivation in DERIVATIONS:
        if job.name in derivation.needs and derivation.labels:
            folder = job.root / DATA_SETS[derivation.data_set].folder
            targets.append(folder / derivation.labels.folder)
    for target in targets:
        shutil.rmtree(_stage_of(target), ignore_errors=True)
    return was_killed


def install(stage: Path, target: Path, replace: bool = True) -> list[Path]:
    """Move what is in ``stage`` to ``target``: one rename, or file by file into what is there.

    The lists go last, so that what they name is there. Of files that are there already, those of
    another size are replaced, or none.

    Returns:
        The files that were replaced.
    """
    if not target.exists() and _moved(stage, target.resolve()):
        return []
    replaced = []
    for source in sorted(stage.iterdir(), key=lambda path: (path.name == "ImageSets", path.name)):
        place = target / source.name
        differs = place.exists() and place.stat().st_size != source.stat().st_size
        if source.is_dir():
            replaced += install(source, place, replace)
        elif not place.exists() or (replace and differs):
            if not _moved(source, place):
                with replacing(place) as part:
                    shutil.copyfile(source, part)
            if differs:
                replaced.append(place)
    return replaced


def _moved(source: Path, place: Path) -> bool:
    """Rename, if both are on one disk."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _refuse_incomplete(job: Preparation) -> None:
    for part in job.data_set.parts:
        if not part.optional and not _has(job.folder, job.data_set, part, job.subset):
            raise UserError(
                f"{job.folder}: {part.name} is still missing or incomplete; run "
                f"tools/prepare_data.py {job.name}{job.at_root} [--archive {part.file}]"
            )


def _refuse_faults(job: Preparation) -> None:
    """What nobody asked for in this run can be wrong as well."""
    there = [split for split in job.data_set.splits() if is_there(job.folder, split)]
    faults = [
        fault
        for split in there
        if split.label_suffix == ".png"
        for fault in survey(job.folder, split, job.subset).faults
    ]
    faults += leaks(job.root, job.name)
    if faults:
        raise UserError(
            f"{job.folder}: faults in it: {len(faults):,}, such as {faults[0]}; move away what is "
            f"wrong and run this again (--check lists all)"
        )


# --- what is made of the trees -------------------------------------------------------------------


class Labels(NamedTuple):
    """PNGs that are made of other files, each of one with its name."""

    folder: str  # in the data set's
    sources: Callable[[Path], list[Path]]  # of the common root
    make: Callable[[Preparation, Path, list[Path]], None]  # in a folder, of some sources


class Derivation(NamedTuple):
    """Files of one data set that are made of several."""

    title: str
    data_set: str  # whose they are
    needs: tuple[str, ...]
    splits: tuple[str, ...]
    lists: Callable[[Path], dict[str, list[str]]]  # their names, of the common root
    labels: Labels | None = None


def _sbd_sources(root: Path) -> list[Path]:
    return sorted((root / DATA_SETS["sbd"].folder / "cls").glob("*.mat"))


def _convert(job: Preparation, target: Path, sources: list[Path]) -> None:
    convert_labels(sources, target, partial(job.progress, "Converting SBD"))


def _seg11valid_list(root: Path) -> dict[str, list[str]]:
    val = _ids(root, "voc2011", "val")
    return {"seg11valid": seg11valid(val, _ids(root, "sbd", "train"))}


def _trainaug_lists(root: Path) -> dict[str, list[str]]:
    sbd = _ids(root, "sbd", "train") + _ids(root, "sbd", "val")
    aug, both = trainaug(_ids(root, "voc2012", "train"), _ids(root, "voc2012", "val"), sbd)
    return {"aug": aug, "trainaug": both}


def _trainaug_sources(root: Path) -> list[Path]:
    """VOC's own labels of train and val, and SBD's of what it adds."""
    own = _ids(root, "voc2012", "train") + _ids(root, "voc2012", "val")
    origins = {"voc2012": own, "sbd": _trainaug_lists(root)["aug"]}
    return [
        root / DATA_SETS[name].folder / "SegmentationClass" / f"{image}.png"
        for name, images in origins.items()
        for image in images
    ]


def _gather(job: Preparation, target: Path, sources: list[Path]) -> None:
    for done, source in enumerate(sources, start=1):
        shutil.copyfile(source, target / source.name)
        job.progress("Gathering labels for trainaug", done, len(sources))


def _ids(root: Path, name: str, split: str) -> list[str]:
    folder = root / DATA_SETS[name].folder
    return read_ids(folder / (f"{split}.txt" if name == "sbd" else f"{VOC_LISTS}/{split}.txt"))


# In this order: each may need what the one before made.
DERIVATIONS = (
    Derivation(
        title="SBD's labels",
        data_set="sbd",
        needs=("sbd",),
        splits=("train", "val"),
        lists=lambda root: {},
        labels=Labels("SegmentationClass", _sbd_sources, _convert),
    ),
    Derivation(
        title="seg11valid",
        data_set="voc2011",
        needs=("voc2011", "sbd"),
        splits=("seg11valid",),
        lists=_seg11valid_list,
    ),
    Derivation(
        title="trainaug",
        data_set="voc2012",
        needs=("voc2012", "sbd"),
        splits=("aug", "trainaug"),
        lists=_trainaug_lists,
        labels=Labels("SegmentationClassAug", _trainaug_sources, _gather),
    ),
)


def _derive(derivation: Derivation, job: Preparation) -> str | None:
    """Make what of it is missing; without what it needs, say what to do for it."""
    data_set = DATA_SETS[derivation.data_set]
    folder = job.root / data_set.folder
    for need in derivation.needs:
        if not _is_ready(job, need, raw=need == derivation.data_set):
            return f"For {derivation.title} also run: tools/prepare_data.py {need}{job.at_root}"
    lists = {folder / VOC_LISTS / f"{k}.txt": v for k, v in derivation.lists(job.root).items()}
    for path, ids in lists.items():
        _refuse_other_list(path, ids)
    if derivation.labels:
        _make_labels(derivation.labels, folder, job)
    for path, ids in lists.items():  # last, so that what they name is there
        if not path.exists():
            with replacing(path) as part:
                part.write_text(list_text(ids))
    splits = [split for split in data_set.derived if split.name in derivation.splits]
    faults = [fault for split in splits for fault in survey(folder, split, job.subset).faults]
    if faults:
        raise UserError(
            f"{derivation.title}: faults in it: {len(faults):,}, such as {faults[0]}; mend what "
            f"tools/prepare_data.py {derivation.data_set} --check lists"
        )
    return None


def _make_labels(labels: Labels, folder: Path, job: Preparation) -> None:
    """Those that are missing."""
    target = folder / labels.folder
    there = {path.stem for path in target.glob("*.png")}
    sources = [source for source in labels.sources(job.root) if source.stem not in there]
    if sources:
        with _stage(target) as stage:
            labels.make(job, stage, sources)
            install(stage, target, replace=False)


def _refuse_other_list(path: Path, ids: Sequence[str]) -> None:
    """A list that is there already, of the same names in whatever order, stays."""
    if path.exists() and set(found := read_ids(path)) != set(ids):
        raise UserError(
            f"{path}: has {len(found):,} names, not the {len(ids):,} that follow from the other "
            "lists; move it away and run this again"
        )


def _is_ready(job: Preparation, name: str, raw: bool) -> bool:
    """Whether a data set is in place; ``raw``: without what is made of it."""
    data_set = DATA_SETS[name]
    folder = job.root / data_set.folder
    made = [split for split in data_set.derived if not split.optional and not raw]
    return _has(folder, data_set, data_set.parts[0], job.subset) and _complete(
        folder, made, job.subset
    )


def _summary(job: Preparation) -> list[str]:
    """One line for each data set that has been prepared or made more of."""
    prepared = [job.name, *(d.data_set for d in DERIVATIONS if job.name in d.needs)]
    lines = []
    for name in dict.fromkeys(prepared):
        folder = job.root / DATA_SETS[name].folder
        counts = {
            split.name: len(names(folder, split))
            for split in DATA_SETS[name].splits()
            if is_there(folder, split)
        }
        if counts:
            found = ", ".join(f"{split} {count:,}" for split, count in counts.items())
            lines.append(f"{folder}: {found} images")
    return lines
