"""A file that is written whole or not at all, also when the writer is killed."""

import os
import subprocess
import sys

import pytest
from tools.running import REPOSITORY

from fcn_plugin.system.files import replacing


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_takes_the_place_of_the_target(tmp_path):
    target = tmp_path / "new" / "list.txt"
    with replacing(target) as part:
        part.write_text("one")
        assert part.parent == target.parent and not target.exists()
    assert contents(target.parent) == {"list.txt": "one"}
    with replacing(target) as part:
        part.write_text("two")
        assert target.read_text() == "one"
    assert contents(target.parent) == {"list.txt": "two"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_target_as_it_was(tmp_path, error):
    target = tmp_path / "list.txt"
    target.write_text("old")
    with pytest.raises(error), replacing(target) as part:
        part.write_text("half")
        raise error
    assert contents(tmp_path) == {"list.txt": "old"}


def test_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="at once"), replacing(tmp_path / "list.txt"):
        raise ValueError("at once")
    assert contents(tmp_path) == {}


def test_killed_in_the_middle(tmp_path):
    target = tmp_path / "list.txt"
    target.write_text("old")
    code = """
import sys, time
from pathlib import Path
from fcn_plugin.system.files import replacing

with replacing(Path(sys.argv[1])) as part:
    part.write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", code, target],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with writer:
        assert writer.stdout.readline() == "written\n"
        writer.kill()
    assert writer.returncode != 0
    assert contents(tmp_path) == {"list.txt": "old", "list.txt.part": "half"}
    with replacing(target) as part:
        part.write_text("new")
    assert contents(tmp_path) == {"list.txt": "new"}
