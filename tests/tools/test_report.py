"""tools/report.py and the report of tools/test.py, as a user meets them."""

import json
import shutil
from pathlib import Path

import pytest
from report_samples import Page
from tools.running import config, ran, tool

from fcn_plugin.prepare.shapes import write_shapes

VAL = 7  # odd, so that two processes have to repeat one


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with data/shapes, a tiny config and a finished run."""
    folder = tmp_path_factory.mktemp("project")
    write_shapes(folder / "data" / "shapes", train=4, val=VAL, size=32)
    ran("train.py", config(folder), folder=folder)
    ran("report.py", "work_dirs/tiny", folder=folder)
    return folder


def page(file: Path) -> Page:
    found = Page(file.read_text())
    assert found.faults == []
    return found


def logged(folder: Path) -> list[float]:
    """The scores of the last validation, in the order of the page."""
    (file,) = folder.glob("work_dirs/tiny/*/vis_data/scalars.json")
    entries = map(json.loads, file.read_text().splitlines())
    last = [entry for entry in entries if "mIoU" in entry][-1]
    return [last[key] for key in ("mIoU", "aAcc", "mAcc", "fwIoU", "mDice", "mPrecision")]


def test_the_page_has_the_scores_of_the_training_and_is_made_again_without_scoring(
    project, tmp_path
):
    """Not even where neither data nor old paths are."""
    found = page(project / "work_dirs/tiny/report.html")
    assert found.numbers[:6] == logged(project)
    shutil.copytree(project / "work_dirs/tiny", tmp_path / "moved")
    ran("report.py moved --out new/page.html", folder=tmp_path)
    second = page(tmp_path / "new/page.html")
    assert f"intervals from 2,000 resamples of {VAL} images" in second.text
    assert second.numbers == found.numbers and second.sources == found.sources


def test_without_data_or_checkpoint_the_logs_are_told(project, tmp_path):
    for name in ("lost", "begun"):
        shutil.copytree(project / "work_dirs/tiny", tmp_path / name)
        shutil.rmtree(tmp_path / name / "evaluation")
    for file in (tmp_path / "begun").glob("*.pth"):
        file.unlink()
    (tmp_path / "begun/last_checkpoint").unlink()
    run = ran("report.py", "lost", "begun", folder=tmp_path)
    assert "warning: lost: Nothing could be scored: data/shapes: no such folder" in run.stderr
    assert "warning: begun: Nothing could be scored: begun: no checkpoint there" in run.stderr
    found = page(tmp_path / "lost/report-with-begun.html")
    assert found.numbers == [v for score in logged(project) for v in (score, score, 0)]


def test_the_data_of_a_config(project, tmp_path):
    done = ran("report.py --data tiny.py --cfg-options randomness.seed=5", folder=project)
    assert "Done: 4 train and 7 val pictures of 5 classes; the page is work_dirs" in done.stdout
    assert done.stdout.endswith("data.html in a browser, then fcn-plugin train tiny.py\n")
    assert "warning: Only 4 pictures to train on" in done.stderr
    found = page(project / "work_dirs/tiny/data.html")
    assert "shapes: the data" in found.text and "randomness.seed=5" in found.text
    for options, message in (
        ("work_dirs/tiny --data tiny.py", "not both"),
        ("work_dirs/tiny --cfg-options a=1", "--cfg-options belong to --data"),
        ("", "or --data CONFIG"),
    ):
        refused = tool(f"report.py {options}", folder=project)
        assert refused.returncode == 2 and message in refused.stderr
    absent = tool("report.py --data fcn8s_vgg16_camvid", folder=tmp_path)
    assert absent.returncode == 1 and "run fcn-plugin prepare_data camvid" in absent.stderr
