"""Fill a folder out of sight, then move it into place: whole, or file by file."""

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

# Seconds to wait: the workers of a killed run hold its lock a moment longer.
LOCK_PATIENCE = 2.0
REMEDY = "remove it, or choose another --root"


def made_whole(
    root: Path,
    marker: str,
    state: dict[str, Any],
    fill: Callable[[Path], dict[str, Any]],
) -> dict[str, Any]:
    """Make the folder ``root``, unless an earlier run finished it; return its marker's content.

    The folder appears only when it is complete: it is filled as a hidden folder beside ``root``,
    and renamed. A killed run leaves the hidden folder, and the next run empties it.

    Args:
        marker: name of the JSON file in ``root`` that marks it as finished.
        state: everything that determines the content; strings are not shown to the user.
        fill: writes the content to a folder, and returns further entries for the marker.

    Raises:
        UserError: ``root`` holds something else, was made with another state, or another run is
            making it; the disk is full; and whatever ``fill`` raises.
    """
    if (finished := _finished(root, marker, state)) is not None:
        return finished
    stage = stage_of(root)
    with only_one_at_work(stage, LOCK_PATIENCE):
        # Another run may have finished it before we got the lock.
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
                data = state | fill(stage)
                (stage / marker).write_text(json.dumps(data) + "\n")
            stage.replace(root.resolve())
            (root / LOCK).unlink(missing_ok=True)  # last: it keeps other runs out of the stage
        except BaseException:  # also an interrupt
            shutil.rmtree(stage, ignore_errors=True)
            raise
    return data


def _finished(root: Path, marker: str, state: dict[str, Any]) -> dict[str, Any] | None:
    """The content of a finished folder's marker; None if the folder is still to be made."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        data = dict(json.loads((root / marker).read_text()))
    except (OSError, TypeError, ValueError):
        raise UserError(
            f"{root}: exists and is no data set made by this command; {REMEDY}"
        ) from None
    other = {key: value for key, value in state.items() if data.get(key) != value}
    if other:
        shown = [f"{k}={data.get(k)}, not {v}" for k, v in other.items() if not isinstance(v, str)]
        how = f"with {', '.join(shown)}" if shown else "of other files or options than these"
        raise UserError(f"{root}: was made {how}; {REMEDY}")
    return data


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Make a new folder beside ``target``, without what a killed run left; delete it at the end."""
    stage = stage_of(target)
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        with disk_full(stage):
            yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def stage_of(target: Path) -> Path:
    target = target.resolve()
    return target.with_name(f".{target.name}.partial")


def install(stage: Path, target: Path) -> list[Path]:
    """Move the content of ``stage`` to ``target``: by one rename, or file by file if that exists.

    Lists go last, so that every listed file exists. Existing files of another size are replaced.

    Returns:
        The files that were replaced.
    """
    if not target.exists() and _moved(stage, target.resolve()):
        return []
    replaced = []
    for source in sorted(stage.iterdir(), key=lambda path: (path.name == "ImageSets", path.name)):
        goal = target / source.name
        differs = goal.exists() and goal.stat().st_size != source.stat().st_size
        if source.is_dir():
            replaced += install(source, goal)
        elif differs or not goal.exists():
            if not _moved(source, goal):
                with replacing(goal) as part:
                    shutil.copyfile(source, part)
            if differs:
                replaced.append(goal)
    return replaced


def _moved(source: Path, goal: Path) -> bool:
    """Rename a file or folder; False if the two paths are on different disks."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(goal)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True
