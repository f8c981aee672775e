"""Write a file whole or not at all, and read none that never ends."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcn_plugin.errors import UserError

BLOCK = 1 << 20
# A full disk, a used up quota, and a file longer than files may be.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(target: Path, alone: bool = True) -> Iterator[Path]:
    """A path beside ``target`` to write to; it takes the place of ``target`` if the block succeeds.

    Killed at any moment, ``target`` is as it was or as it is meant to be. What a killed process
    left in the path is overwritten by the next. The parents of ``target`` are made.

    Args:
        alone: no other process writes ``target`` at the same time. If several may, as in a test
            whose processes share an image, each has a path of its own.

    Raises:
        OSError: with the name of ``target`` if the disk is full; libraries leave it out.

    >>> with replacing(Path("list.txt")) as part:
    ...     _ = part.write_text("one\\n")
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part" if alone else f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def disk_full(target: Path) -> Iterator[None]:
    """Turn a full disk into one line that names ``target``.

    Raises:
        UserError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            f"{target}: the disk is full; make room or choose another folder"
        ) from error


def allocate(file: Path) -> None:
    """Take the disk's space for a file of holes, as ``ftruncate`` and memory maps make them.

    Writing into a hole through a memory map kills the process if the disk is full.
    """
    with file.open("r+b") as opened:
        size = os.fstat(opened.fileno()).st_size
        if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
            os.posix_fallocate(opened.fileno(), 0, size)
            return
        while block := opened.read(BLOCK):
            opened.seek(-len(block), os.SEEK_CUR)
            opened.write(block)


def is_special(path: str | Path) -> bool:
    """Whether it is a pipe, device or socket: reading may wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # what opens it says why
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
