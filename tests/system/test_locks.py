"""One run at a time in a folder, however the one before ended."""

import os
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Timer

import pytest

from fcn_plugin.errors import UserError
from fcn_plugin.system import locks

KEPT = ExitStack()


def take(how: str, folder: Path, patience: float = 0) -> None:
    """Lock the folder, and keep it locked."""
    lock = getattr(locks, how)(folder, patience)
    if lock:
        KEPT.enter_context(lock)


def holder(how: str, folder: Path) -> int:
    """A process that locks the folder, and has forked another one, which lives on."""
    read, write = os.pipe()
    if (process := os.fork()) == 0:
        try:
            os.setsid()
            take(how, folder)
            if os.fork():
                os.write(write, b"locked")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(write)
    assert os.read(read, 6) == b"locked"
    os.close(read)
    return process


@pytest.mark.parametrize("how", ["claim", "only_one_at_work"])
def test_a_lock_of_a_process_that_was_killed(tmp_path, how):
    """A claim ends with it, a block when its last child ends, too; patience waits for that."""
    other = holder(how, tmp_path)
    try:
        with pytest.raises(UserError, match="another run is still at work there"):
            take(how, tmp_path)
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
        if how == "claim":
            take(how, tmp_path)
            return
        with pytest.raises(UserError, match="another run is still at work there"):
            take(how, tmp_path)
        Timer(0.5, os.killpg, (other, signal.SIGKILL)).start()
        before = time.monotonic()
        take(how, tmp_path, patience=20)
        assert 0.2 < time.monotonic() - before < 15
    finally:
        with suppress(ProcessLookupError):
            os.killpg(other, signal.SIGKILL)
