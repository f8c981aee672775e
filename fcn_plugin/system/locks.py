"""Keep a second run out of a folder."""

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fcn_plugin.errors import UserError

LOCK = ".lock"
PAUSE = 0.1  # seconds between two tries
_CLAIMED: list[IO[str]] = []


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
        _wait(lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB), folder, patience)
        yield (file.fileno(),)


def claim(folder: Path, patience: float) -> None:
    """Keep ``folder`` for this process until it ends, however it ends.

    Unlike ``only_one_at_work`` its children do not hold the lock, which is the system's too, on the
    file ``.lock``.

    Args:
        patience: seconds to wait for another run to end.

    Raises:
        UserError: another run is still at work there.
    """
    if not _can_lock(folder):
        return
    import fcntl

    file = _opened(folder / LOCK)
    _CLAIMED.append(file)  # closed with the process, which gives the lock up
    _wait(lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB), folder, patience)


def _wait(lock: Callable[[], None], folder: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            lock()
            return
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
                return  # a file system without locks, or a lock that is another user's
            # Which of the two it is, is the system's choice.
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            if time.monotonic() > deadline:
                raise UserError(
                    f"{folder}: another run is still at work there; wait for it or end it"
                ) from None
            time.sleep(PAUSE)


def _opened(file: Path) -> IO[str]:
    # Not the folder itself: over NFS only what is open for writing can be locked.
    try:
        return os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    except PermissionError:  # made by another user of a shared folder
        return file.open()


def _can_lock(folder: Path) -> bool:
    """Not on Windows, and not where nothing can be written, nor has to be kept out."""
    return os.name == "posix" and os.access(folder, os.W_OK)
