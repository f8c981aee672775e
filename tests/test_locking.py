"""One run at a time in a folder, however the one before ended."""

import os
import subprocess
import time

import pytest

from fcn_plugin.errors import UserError
from fcn_plugin.locking import LOCK, only_one_at_work


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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_for_reading_only(tmp_path):
    tmp_path.chmod(0o500)
    with only_one_at_work(tmp_path, 0):
        assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o700)
