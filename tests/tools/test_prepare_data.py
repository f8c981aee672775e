"""tools/prepare_data.py --check on a tree with faults; the docs' walk runs its other commands."""

from prepare.archives_of_sets import tar, voc2012
from tools.running import ran, tool


def test_check_lists_all_faults_and_fails(tmp_path):
    tar(tmp_path / "a.tar", voc2012())
    command = "prepare_data.py voc2012 --root elsewhere --subset"
    ran(f"{command} --archive a.tar", folder=tmp_path)
    folder = tmp_path / "elsewhere/VOCdevkit/VOC2012"
    (folder / "JPEGImages/t0.jpg").write_bytes(b"")
    (folder / "SegmentationClass/v1.png").unlink()
    checked = tool(f"{command} --check", folder=tmp_path)
    assert checked.returncode == 1 and checked.stdout == ""
    label, image, error = checked.stderr.splitlines()
    assert "SegmentationClass/v1.png: no such label" in label
    assert "JPEGImages/t0.jpg: damaged image, the file is empty" in image
    assert error.startswith("error: elsewhere/VOCdevkit/VOC2012: faults, listed above: 2;")
