"""Folders that are made out of sight and then put in place whole, or file by file."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcn_plugin.system.files import disk_full, replacing


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that is gone afterwards."""
    stage = stage_of(target)
    stage.mkdir(parents=True)
    try:
        with disk_full(stage):
            yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def stage_of(target: Path) -> Path:
    target = target.resolve()
    return target.with_name(f".{target.name}.partial")


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
