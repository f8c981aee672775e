"""One run at a time in a folder, however the one before ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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


HOLD = """
import os, sys, time
from pathlib import Path
from fcn_plugin.system import locks

folder = Path(sys.argv[1])
if sys.argv[2] == "claim":
    locks.claim(folder, 0)
else:
    block = locks.only_one_at_work(folder, 0)
    block.__enter__()
if os.fork():
    print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A function: a process that locks the folder, and has forked another that lives on."""
    processes = []

    def hold(how: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, tmp_path, how],
            stdout=subprocess.PIPE,
            env=os.environ | dict(PYTHONPATH=str(REPOSITORY)),
            start_new_session=True,
        )
        processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"locked\n"
        return process

    yield hold
    for process in processes:
        end(process)


def end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def locked(folder: Path) -> bool:
    try:
        with only_one_at_work(folder, 0):
            return False
    except UserError:
        return True


def test_what_outlives_a_run_keeps_its_lock_and_patience_waits_for_it(tmp_path, held):
    run = held("block")
    run.kill()
    run.wait()
    assert locked(tmp_path)
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 -{run.pid}"])
    before = time.monotonic()
    with only_one_at_work(tmp_path, 20):
        assert 0.2 < time.monotonic() - before < 15
    killer.wait()


def test_a_folder_is_claimed_until_the_process_itself_ends(tmp_path, held):
    other = held("claim")
    with pytest.raises(UserError, match="another run is still at work there"):
        claim(tmp_path, 0)
    other.kill()
    other.wait()
    claim(tmp_path, 0)
    os.killpg(other.pid, signal.SIGKILL)  # what it has forked


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_for_reading_only(tmp_path):
    tmp_path.chmod(0o500)
    with only_one_at_work(tmp_path, 0):
        assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o700)
