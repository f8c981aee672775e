"""Folders that are made out of sight and then put in place whole, or file by file."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fcn_plugin.errors import UserError
from fcn_plugin.system.files import disk_full, replacing
from fcn_plugin.system.locks import LOCK, only_one_at_work

# Seconds; the workers of a run that was killed hold its lock for a moment longer.
LOCK_PATIENCE = 2.0
REMEDY = "remove it, or choose another --root"


def made_whole(
    root: Path,
    marker: str,
    state: dict[str, Any],
    fill: Callable[[Path], dict[str, Any]],
) -> dict[str, Any]:
    """Make the folder ``root``, unless an earlier run has finished it; return what its marker says.

    The folder appears only when it is complete: it is filled beside its place, and moved. A run
    that was killed leaves a hidden folder, which the next one empties.

    Args:
        marker: name of the JSON file in ``root`` that says that it is finished, and of what.
        state: all that decides how ``root`` comes out; strings are not shown to the user.
        fill: writes the content to a folder, and returns what else the marker shall say.

    Raises:
        UserError: ``root`` holds something else, was made with another state, or is being made;
            the disk is full; and whatever ``fill`` raises.
    """
    if (finished := _finished(root, marker, state)) is not None:
        return finished
    stage = stage_of(root)
    with only_one_at_work(stage, LOCK_PATIENCE):
        # By the run that had the lock before.
        if (finished := _finished(root, marker, state)) is not None:
            return finished
        try:
            stage.mkdir(exist_ok=True)
            for path in stage.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != LOCK:
                    path.unlink()
            with disk_full(root):
                made = state | fill(stage)
                (stage / marker).write_text(json.dumps(made) + "\n")
            stage.replace(root.resolve())
            (root / LOCK).unlink(missing_ok=True)  # not before: it keeps others out of the stage
        except BaseException:  # an interrupt, too
            shutil.rmtree(stage, ignore_errors=True)
            raise
    return made


def _finished(root: Path, marker: str, state: dict[str, Any]) -> dict[str, Any] | None:
    """What the marker of a finished folder says; None if the folder is still to be made."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        made = dict(json.loads((root / marker).read_text()))
    except (OSError, TypeError, ValueError):
        raise UserError(
            f"{root}: exists and is no data set made by this command; {REMEDY}"
        ) from None
    other = {key: value for key, value in state.items() if made.get(key) != value}
    if other:
        shown = [f"{k}={made.get(k)}, not {v}" for k, v in other.items() if not isinstance(v, str)]
        how = f"with {', '.join(shown)}" if shown else "of other files or options than these"
        raise UserError(f"{root}: was made {how}; {REMEDY}")
    return made


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
