"""One run at a time in a folder, however the one before ended."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest
from tools.running import REPOSITORY

from fcn_plugin.errors import UserError
from fcn_plugin.system.locks import LOCK, claim, only_one_at_work


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
    folder = tmp_path / "new"
    with (
        only_one_at_work(folder, 0),
        pytest.raises(UserError, match="new: another run is still at work there"),
        only_one_at_work(folder, 0),
    ):
        pass
    with only_one_at_work(folder, 0):
        assert [file.name for file in folder.iterdir()] == [LOCK]


# It has forked another process, which lives on.
HOLD = """
import os, sys, time
from pathlib import Path
from fcn_plugin.system import locks

lock = getattr(locks, sys.argv[2])(Path(sys.argv[1]), 0)
if sys.argv[2] == "only_one_at_work":
    lock.__enter__()
if os.fork():
    print("locked", flush=True)
time.sleep(60)
"""


def take(how: str, folder: Path, patience: float = 0) -> None:
    if how == "claim":
        claim(folder, patience)
    else:
        with only_one_at_work(folder, patience):
            pass


@pytest.mark.parametrize("how", ["claim", "only_one_at_work"])
def test_a_lock_of_a_process_that_was_killed(tmp_path, how):
    """A claim ends with it, a block when its last child ends, too; patience waits for that."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path, how],
        stdout=subprocess.PIPE,
        env=os.environ | dict(PYTHONPATH=str(REPOSITORY)),
        start_new_session=True,
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        with pytest.raises(UserError, match="another run is still at work there"):
            take(how, tmp_path)
        other.kill()
        other.wait()
        if how == "claim":
            take(how, tmp_path)
            return
        with pytest.raises(UserError, match="another run is still at work there"):
            take(how, tmp_path)
        Timer(0.5, os.killpg, (other.pid, signal.SIGKILL)).start()
        before = time.monotonic()
        take(how, tmp_path, patience=20)
        assert 0.2 < time.monotonic() - before < 15
    finally:
        with suppress(ProcessLookupError):
            os.killpg(other.pid, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_for_reading_only(tmp_path):
    tmp_path.chmod(0o500)
    take("only_one_at_work", tmp_path)
    assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o700)
