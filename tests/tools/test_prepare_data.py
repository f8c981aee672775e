"""The command line of tools/prepare_data.py."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "prepare_data.py"


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, TOOL, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("prepare_data", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.main


def test_shapes_are_written_and_counted_in_the_last_line(main, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status = main(["shapes", "--train", "3", "--val", "2", "--seed", "7"])
    out, err = capsys.readouterr()
    assert status == 0
    assert out == "data/shapes: 3 train and 2 val images, 64x64, 5 classes\n"
    assert err == ""  # a bar only on a terminal
    assert len(list((tmp_path / "data/shapes/JPEGImages").glob("*.jpg"))) == 5
    assert main(["shapes", "--train", "3", "--val", "2", "--seed", "7"]) == 0


def test_an_error_is_one_line_on_stderr_and_status_1(tmp_path):
    root = tmp_path / "shapes"
    root.mkdir()
    (root / "something").touch()
    done = run("shapes", "--root", root, cwd=ROOT)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {root}: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_root_that_cannot_be_made_is_an_error(main, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["shapes", "--root", str(tmp_path / "file" / "shapes"), "--train", "1"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("arguments", [["--help"], ["shapes", "--help"]])
def test_help_needs_neither_torch_nor_the_host(arguments):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['prepare_data.py', *{arguments!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "print(sorted({'torch', 'mmengine', 'numpy', 'fcn_plugin'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "shapes" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_data_set_lists_the_known(main, capsys):
    with pytest.raises(SystemExit) as end:
        main(["shpaes"])
    assert end.value.code == 2
    assert "shapes" in capsys.readouterr().err
