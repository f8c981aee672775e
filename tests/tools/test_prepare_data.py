"""The command line of tools/prepare_data.py."""

import io
import subprocess
import sys
import tarfile

import pytest
from data.archives_of_sets import sbd, tar, tgz, voc2012
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


def test_what_is_published_is_asked_for_unless_a_part_is_meant(tmp_path):
    tgz(tmp_path / "mine.tgz", sbd())
    refused = tool("prepare_data.py", "sbd", "--archive", "mine.tgz", folder=tmp_path)
    assert refused.returncode == 1 and refused.stdout == ""
    note, error = refused.stderr.splitlines()
    assert note.startswith("mine.tgz: not as published (md5 ")
    assert error.startswith("error: mine.tgz: faults in it: 2, such as train.txt: 3 images")
    assert error.endswith("or give --subset if it is meant to be only a part")

    done = tool("prepare_data.py", "sbd", "--archive", "mine.tgz", "--subset", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "For seg11valid also run: tools/prepare_data.py voc2011",
        "For trainaug also run: tools/prepare_data.py voc2012",
        "data/sbd: train 3, val 2 images",
    ]
    assert done.stderr == ""


def test_check_lists_all_faults_and_fails(tmp_path):
    tar(tmp_path / "a.tar", voc2012())
    options = ["--root", "elsewhere", "--subset"]
    done = tool("prepare_data.py", "voc2012", *options, "--archive", "a.tar", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "elsewhere/VOCdevkit/VOC2012"
    (folder / "JPEGImages/t0.jpg").write_bytes(b"")
    (folder / "SegmentationClass/v1.png").unlink()
    checked = tool("prepare_data.py", "voc2012", "--check", *options, folder=tmp_path)
    assert checked.returncode == 1 and checked.stdout == ""
    *faults, error = checked.stderr.splitlines()
    assert len(faults) == 2
    assert "SegmentationClass/v1.png: no such label" in faults[0]
    assert "JPEGImages/t0.jpg: damaged image, the file is empty" in faults[1]
    assert error.startswith("error: elsewhere/VOCdevkit/VOC2012: faults, listed above: 2;")


def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path):
    path = tar(tmp_path / "evil.tar", voc2012())
    with tarfile.open(path, "a") as archive:
        entry = tarfile.TarInfo("VOCdevkit/VOC2012/../../../../../escaped")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    (tmp_path / "work").mkdir()
    done = tool(
        "prepare_data.py", "voc2012", "--subset", "--archive", path, folder=tmp_path / "work"
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"error: {path}: ") and "escaped" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"evil.tar", ".lock"}
