"""Make the folders that the configs expect from the archives of a published data set.

Every step ends with a rename, so a folder or file is either complete or absent. After an
interruption, run the same command again; it leaves finished files alone.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fcn_plugin.data.catalogue import DATA_SETS, Part
from fcn_plugin.errors import UserError, some
from fcn_plugin.prepare.archives import unpack
from fcn_plugin.prepare.derive import DERIVATIONS, derive
from fcn_plugin.prepare.job import Preparation
from fcn_plugin.prepare.tree_check import faults_of, first_of, is_there, leaks, names
from fcn_plugin.system.download import download, file_digests
from fcn_plugin.system.locks import only_one_at_work
from fcn_plugin.system.staging import LOCK_PATIENCE, install, stage_of, staged

DOWNLOADS = "downloads"
MIN_LIMIT = 1 << 30  # bytes that any archive may unpack to


@contextmanager
def only_one_preparation(root: Path) -> Iterator[None]:
    """Keep a second run out of ``root``; the folder is made if it is missing."""
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is a file; give --root the folder of the data sets")
    with only_one_at_work(root, LOCK_PATIENCE):
        yield


def fetch(job: Preparation, test: bool = False) -> list[Path]:
    """Download the archives of missing parts, with ``test`` also of the test images.

    Returns:
        The paths of the archives.
    """
    was_killed = stage_of(job.folder).exists()
    missing = [
        part
        for part in job.data_set.parts
        if (test or not part.optional) and (was_killed or not job.has(part))
    ]
    for part in missing:
        if part.url is None:
            raise UserError(f"{part.file}: cannot be downloaded without an account; {part.by_hand}")
    archives = []
    for part in missing:
        faults = job.faults(split for split in part.splits if is_there(job.folder, split))
        if faults:
            job.note(
                f"{job.folder}: {first_of(faults, part.name)}; {part.file} is needed again "
                "(--check lists them, --subset accepts an incomplete data set)"
            )
        archives.append(download(str(part.url), job.root / DOWNLOADS / part.file, part.digest))
    return archives


def prepare(job: Preparation, archives: Sequence[Path]) -> list[str]:
    """Unpack, verify and put in place; then make the files derived from several data sets.

    Call it within ``only_one_preparation``, like ``fetch``.

    Args:
        archives: The paths that ``fetch`` returned, or the user's own archives.

    Returns:
        Lines for the user: what else could be made, and how many images there are now.

    Raises:
        UserError: an archive is damaged, hostile, incomplete or of another data set, or a part is
            missing; the files in place stay as they were.
    """
    for archive in archives:
        if not archive.is_file():
            reason = "is a folder; give a file" if archive.is_dir() else "no such archive"
            raise UserError(f"{archive}: {reason}")
    was_killed = _clear_stages(job)
    for archive in archives:
        part = _identify(archive, job)
        if part is None or was_killed or not job.has(part):
            _unpack(archive, job)
        else:
            job.note(f"{archive}: not unpacked, {job.folder} is complete without it")
    for part in job.data_set.parts:
        if not part.optional and not job.has(part):
            raise UserError(
                f"{job.folder}: {part.name} is still missing or incomplete; run "
                f"fcn-plugin prepare_data {job.name}{job.at_root} [--archive {part.file}]"
            )
    hints = [derive(d, job) for d in DERIVATIONS if job.name in d.needs]
    # Splits that this run did not touch can have faults, too.
    there = [split for split in job.data_set.splits() if is_there(job.folder, split)]
    faults = job.faults(split for split in there if not split.is_raw)
    if faults := faults + leaks(job.root, job.name):
        raise UserError(
            f"{job.folder}: {first_of(faults)}; move away what is wrong and run this again "
            "(--check lists all)"
        )
    return [*filter(None, hints), *_summary(job)]


def _clear_stages(job: Preparation) -> bool:
    """Delete a killed run's stages; return whether it may have been moving files.

    If so, files that no list mentions may be lost, and the archives are to be unpacked again.
    """
    was_killed = stage_of(job.folder).exists()
    labels = [job.root / d.labels for d in DERIVATIONS if job.name in d.needs and d.label_folder]
    for target in (job.folder, *labels):
        shutil.rmtree(stage_of(target), ignore_errors=True)
    return was_killed


def _identify(archive: Path, job: Preparation) -> Part | None:
    """The part in an archive, by the archive's name or hash; None if only its content can tell."""
    parts = job.data_set.parts
    only = parts[0] if len(parts) == 1 else None
    by_name = {part.file: part for part in parts}.get(archive.name, only)
    if by_name and job.has(by_name):
        return by_name
    published = {part.digest: part for part in parts if part.digest}
    if job.subset or not published:
        return by_name
    algorithms = {digest.algorithm for digest in published}
    digests = file_digests(archive, algorithms, job.progress)
    for digest, part in published.items():
        if digests[digest.algorithm] == digest.digits:
            return part
    if by_name is None or by_name.digest:
        hashes = ", ".join(f"{name} {digits}" for name, digits in digests.items())
        job.note(f"{archive}: not as published ({hashes}); going by its content")
    return by_name


def _unpack(archive: Path, job: Preparation) -> None:
    size = archive.stat().st_size
    with staged(job.folder) as stage:
        if shutil.disk_usage(stage).free < size:
            raise UserError(f"{stage.parent}: not enough room to unpack {archive.name}; make some")
        limit = max(MIN_LIMIT, job.data_set.max_growth * size)
        unpack(archive, stage, job.data_set.place, limit, job.progress)
        _verify(archive, stage, job)
        replaced = install(stage, job.folder)
    if replaced:
        job.note(
            f"{job.folder}: files replaced by those of {archive.name}, of another size: "
            f"{some([str(path.relative_to(job.folder)) for path in replaced])}"
        )


def _verify(archive: Path, stage: Path, job: Preparation) -> None:
    """Refuse an archive with missing or wrong files, before anything is put in place."""
    parts = [part for part in job.data_set.parts if any(is_there(stage, s) for s in part.splits)]
    if not parts:
        roots = " or ".join(dict.fromkeys(f"{part.root}/" for part in job.data_set.parts))
        raise UserError(
            f"{archive}: nothing of {job.data_set.title} in it (a folder {roots} with its lists or "
            "images); give the archive of this data set"
        )
    splits = [split for part in parts for split in part.splits]
    needed = [split for split in splits if not split.optional or is_there(stage, split)]
    faults = faults_of(stage, needed, job.subset)
    trees = {} if job.subset else {k: v for part in parts for k, v in part.git_trees.items()}
    faults += [
        f"{folder}: the files are not the published ones"
        for folder, published in trees.items()
        if (stage / folder).is_dir() and git_tree(stage / folder) != published
    ]
    if faults:
        first = first_of(faults).replace(f"{stage}{os.sep}", "")
        raise UserError(
            f"{archive}: {first}; fetch it again, or give --subset if it is meant to be only a part"
        )


def git_tree(folder: Path) -> str:
    """git's id of a folder of plain files: one hash of all names and contents."""
    entries = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        entries.append(b"100644 %s\0" % path.name.encode() + blob.digest())
    tree = b"".join(entries)
    return hashlib.sha1(b"tree %d\0" % len(tree) + tree, usedforsecurity=False).hexdigest()


def _summary(job: Preparation) -> list[str]:
    """One line for each data set that this run prepared or extended."""
    lines = []
    for name in dict.fromkeys(
        [job.name, *(d.data_set for d in DERIVATIONS if job.name in d.needs)]
    ):
        folder = job.root / DATA_SETS[name].folder
        counts = [
            f"{split.name} {len(names(folder, split)):,}"
            for split in DATA_SETS[name].splits()
            if is_there(folder, split) and not split.is_raw
        ]
        if counts:
            lines.append(f"{folder}: {', '.join(dict.fromkeys(counts))} images")
    return lines
