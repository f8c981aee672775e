"""Keep a second run out of a folder."""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fcn_plugin.errors import UserError

LOCK = ".lock"
PAUSE = 0.1  # seconds between two tries


@contextmanager
def only_one_at_work(folder: Path, patience: float) -> Iterator[Sequence[int]]:
    """Lock ``folder``, which is made, until the block ends or the process is killed.

    The lock is the system's, on the file ``.lock``, which stays. Processes that are forked, or are
    given the open files that this yields, hold it too: work that outlives a killed run still keeps
    others out.

    Args:
        patience: seconds to wait for another run to end.

    Raises:
        UserError: another run is still at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not _can_lock(folder):
        yield ()
        return
    import fcntl

    with _opened(folder / LOCK) as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{folder}: another run is still at work there; wait for it or end it"
                    ) from None
                time.sleep(PAUSE)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise
                break  # a file system without locks
        yield (file.fileno(),)


def _opened(file: Path) -> IO[str]:
    # Not the folder itself: over NFS only what is open for writing can be locked.
    try:
        return os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    except PermissionError:  # made by another user of a shared folder
        return file.open()


def _can_lock(folder: Path) -> bool:
    """Not on Windows, and not where nothing can be written, nor has to be kept out."""
    return os.name == "posix" and os.access(folder, os.W_OK)
