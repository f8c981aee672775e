"""One run at a time in a folder, however the one before ended."""

import os
import signal
import subprocess
import sys
import time

import pytest
from tools.running import REPOSITORY

from fcn_plugin.errors import UserError
from fcn_plugin.system.locks import LOCK, claim, only_one_at_work


def test_a_second_run_is_refused(tmp_path):
    with (
        only_one_at_work(tmp_path / "new", 0),
        pytest.raises(UserError, match="another run is still at work there"),
        only_one_at_work(tmp_path / "new", 0),
    ):
        pass
    with only_one_at_work(tmp_path / "new", 0):
        assert [file.name for file in (tmp_path / "new").iterdir()] == [LOCK]


def test_what_outlives_a_run_keeps_its_lock(tmp_path):
    with only_one_at_work(tmp_path, 0) as lock:
        orphan = subprocess.Popen(["sleep", "60"], pass_fds=lock)
    try:
        with pytest.raises(UserError, match="another run"), only_one_at_work(tmp_path, 0):
            pass
    finally:
        orphan.kill()
        orphan.wait()
    with only_one_at_work(tmp_path, 0):
        pass


def test_patience(tmp_path):
    with only_one_at_work(tmp_path, 0) as lock:
        ending = subprocess.Popen(["sleep", "0.5"], pass_fds=lock)
    before = time.monotonic()
    with only_one_at_work(tmp_path, 20):
        assert 0.2 < time.monotonic() - before < 15
    ending.wait()


def test_a_folder_is_claimed_until_the_process_ends(tmp_path):
    """What it has forked meanwhile may live on."""
    code = (
        "import os, sys, time\n"
        "from pathlib import Path; from fcn_plugin.system.locks import claim\n"
        "claim(Path(sys.argv[1]), 0)\n"
        "if os.fork() == 0: time.sleep(60)\n"
        "print('claimed', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdout=subprocess.PIPE,
        env=os.environ | dict(PYTHONPATH=str(REPOSITORY)),
        start_new_session=True,
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == b"claimed\n"
        with pytest.raises(UserError, match="another run is still at work there"):
            claim(tmp_path, 0)
        other.kill()
        other.wait()
        claim(tmp_path, 0)
    finally:
        os.killpg(other.pid, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_for_reading_only(tmp_path):
    tmp_path.chmod(0o500)
    with only_one_at_work(tmp_path, 0):
        assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o700)
