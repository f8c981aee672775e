"""Write files whole or not at all; recognise a full disk and special files."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcn_plugin.errors import UserError

BLOCK = 1 << 20  # bytes
# The disk is full, the quota is used up, or the file is too long for the file system.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(target: Path, alone: bool = True, ending: str = ".part") -> Iterator[Path]:
    """A path beside ``target`` to write to; it replaces ``target`` if the block succeeds.

    If the process is killed, ``target`` is unchanged or complete, and the next call overwrites the
    incomplete file. The parent folders of ``target`` are created.

    Args:
        alone: no other process writes ``target`` at the same time. If False, each process gets
            its own path, as in a test whose processes share an image.
        ending: of the path, for a writer that goes by it.

    Raises:
        OSError: from the block; if the disk is full it names ``target``.

    >>> with replacing(Path("list.txt")) as part:
    ...     _ = part.write_text("one\\n")
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    own = "" if alone else f".{os.getpid()}"
    part = target.with_name(f"{target.name}{own}{ending}")
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
    """Raise one line that names ``target`` if the disk is full.

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
    """Reserve disk space for a sparse file, such as a new memory map.

    Writing to a sparse file through a memory map kills the process if the disk is full.
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
    """Whether it is a pipe, device or socket, where reading may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # opening it will tell the reason
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
