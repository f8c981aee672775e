"""The command line of tools/prepare_data.py."""

import subprocess
import sys

import pytest
from tools.running import TOOLS, tool

SHAPES = ["shapes", "--train", 3, "--val", 2, "--seed", 7]


def test_shapes_are_written_and_counted_in_the_last_line(tmp_path):
    for _ in range(2):  # the second time finds them finished
        done = tool("prepare_data.py", *SHAPES, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "data/shapes: 3 train and 2 val images, 64x64, 5 classes\n"
        assert done.stderr == ""  # a bar only on a terminal
        assert len(list((tmp_path / "data/shapes/JPEGImages").glob("*.jpg"))) == 5


def test_an_error_is_one_line_on_stderr_and_status_1(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "something").touch()
    for root in ("taken", "taken/something/shapes"):
        done = tool("prepare_data.py", *SHAPES, "--root", root, folder=tmp_path)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("error: ") and "taken" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--help"], ["shapes", "--help"]])
def test_help_needs_neither_torch_nor_the_host(arguments):
    code = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(TOOLS)!r})\n"
        f"sys.argv = ['prepare_data.py', *{arguments!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(TOOLS / 'prepare_data.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "print(sorted({'torch', 'mmengine', 'numpy', 'fcn_plugin'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "shapes" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_data_set_lists_the_known(tmp_path):
    done = tool("prepare_data.py", "shpaes", folder=tmp_path)
    assert done.returncode == 2
    assert "choose from" in done.stderr and "shapes" in done.stderr


def test_without_the_package_the_tools_say_so(tmp_path):
    """-S leaves out site-packages, and with them everything that is installed."""
    command = [sys.executable, "-S", str(TOOLS / "prepare_data.py"), *map(str, SHAPES)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={})
    assert done.returncode == 1
    assert done.stderr.startswith("error: fcn_plugin is not installed")
