"""Keep a second run out of a folder.

The lock is the system's, on the file ``.lock``, which stays. It is given up when the process ends,
however it ends.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fcn_plugin.errors import UserError

LOCK = ".lock"
PAUSE = 0.1  # seconds between two tries
# A file system without locks, or a lock that is another user's.
CANNOT_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
_CLAIMED: list[IO[str] | None] = []


@contextmanager
def only_one_at_work(folder: Path, patience: float) -> Iterator[None]:
    """Lock ``folder``, which is made, until the block ends or the process is killed.

    Forked processes hold the lock too: work that outlives a killed run still keeps others out.

    Args:
        patience: seconds to wait for another run to end.

    Raises:
        UserError: another run is still at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = _locked(folder, patience, "flock")
    try:
        yield
    finally:
        if file:
            file.close()


def claim(folder: Path, patience: float) -> None:
    """Lock ``folder`` until this process ends, whatever its children still do.

    ``patience`` and the error are as for ``only_one_at_work``.
    """
    _CLAIMED.append(_locked(folder, patience, "lockf"))  # kept open


def _locked(folder: Path, patience: float, how: str) -> IO[str] | None:
    """The open lock file; None where there are no locks.

    Which is so on Windows, and where nothing can be written, nor has to be kept out.
    """
    if os.name != "posix" or not os.access(folder, os.W_OK):
        return None
    import fcntl

    # Not the folder itself: over NFS only what is open for writing can be locked.
    try:
        file = os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    except PermissionError:  # made by another user of a shared folder
        file = (folder / LOCK).open()
    deadline = time.monotonic() + patience
    while True:
        try:
            getattr(fcntl, how)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            if error.errno in CANNOT_LOCK:
                return file
            # Which of the two it is, is the system's choice.
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            if time.monotonic() > deadline:
                file.close()
                raise UserError(
                    f"{folder}: another run is still at work there; wait for it or end it"
                ) from None
            time.sleep(PAUSE)
