"""Keep a second run out of a folder.

The operating system locks the file ``.lock``, which is never deleted, and unlocks it when the
process ends in any way.
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
# The file system has no locks, or the lock file is another user's.
CANNOT_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
_CLAIMED: list[IO[str] | None] = []  # open files of `claim`


@contextmanager
def only_one_at_work(folder: Path, patience: float) -> Iterator[None]:
    """Lock ``folder`` until the block ends or the process is killed; creates the folder.

    Forked processes share the lock, so workers that outlive a killed run still keep others out.

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
    """Lock ``folder`` until this process ends, even if its children still run.

    ``patience`` and the error are as in ``only_one_at_work``.
    """
    _CLAIMED.append(_locked(folder, patience, "lockf"))


def _locked(folder: Path, patience: float, how: str) -> IO[str] | None:
    """The open lock file; None on Windows and for a folder that is not writable.

    ``how`` is the function of ``fcntl``: forked processes share a ``flock``, not a ``lockf``.
    """
    if os.name != "posix" or not os.access(folder, os.W_OK):
        return None
    import fcntl

    # Not the folder itself, because NFS locks only files that are open for writing.
    try:
        file = os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    except PermissionError:  # created by another user of a shared folder
        file = (folder / LOCK).open()
    deadline = time.monotonic() + patience
    while True:
        try:
            getattr(fcntl, how)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            if error.errno in CANNOT_LOCK:
                return file
            # Systems report a lock that is taken by either of these.
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            if time.monotonic() > deadline:
                file.close()
                raise UserError(
                    f"{folder}: another run is still at work there; wait for it or end it"
                ) from None
            time.sleep(PAUSE)
