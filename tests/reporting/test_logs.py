"""Logs of runs that were resumed, killed or counted in epochs."""

import json
from pathlib import Path

import pytest

from fcn_plugin.report.charts import chart
from fcn_plugin.report.logs import read_training

LOG = """2026/11/21 20:04:11 - mmengine - INFO -
    Python: 3.11.7 (main)
    PyTorch: 2.13.0+cpu
    GPU 0,1: NVIDIA H200
2026/11/21 20:{minutes}:11 - mmengine - INFO - Done
"""


def session(work_dir: Path, stamp: str, *entries: dict, minutes: int = 10, tail: str = "") -> None:
    folder = work_dir / stamp / "vis_data"
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "scalars.json").write_text(lines + tail)
    (folder.parent / f"{stamp}.log").write_text(LOG.format(minutes=minutes))


def train(step: int, loss: float, **more: int) -> dict:
    return dict(loss=loss, lr=0.1, iter=step, step=step, **more)


def val(step: int, score: float) -> dict:
    return dict(mIoU=score, step=step)


def test_a_resumed_run_replaces_what_came_after_its_start(tmp_path):
    session(
        tmp_path, "20260101_000000", *(train(s, 1) for s in (10, 20, 30)), val(20, 5), val(30, 6)
    )
    session(tmp_path, "20260102_000000", val(20, 5), train(25, 2), train(30, 3), val(30, 7))
    (tmp_path / "20260103_000000").mkdir()  # of a test
    found = read_training(tmp_path)
    assert found.curve("loss") == [(10, 1), (20, 1), (25, 2), (30, 3)]
    assert found.curve("mIoU") == [(20, 5), (30, 7)]
    assert found.duration == "0:12:00 in 2 sessions"
    assert found.last_step == 30


def test_a_new_run_in_the_same_folder_replaces_all(tmp_path):
    session(tmp_path, "20260101_000000", *(train(s, 1) for s in (10, 20, 30)), val(30, 6))
    session(tmp_path, "20260102_000000", train(10, 2))
    found = read_training(tmp_path)
    assert found.curve("loss") == [(10, 2)] and found.curve("mIoU") == []


def test_a_line_that_was_cut_off_is_passed_over(tmp_path):
    session(tmp_path, "20260101_000000", train(10, 1), tail='{"loss": 1, "st')
    assert read_training(tmp_path).curve("loss") == [(10, 1)]


def test_epochs_become_iterations(tmp_path):
    entries = [train(50, 3, epoch=1), train(100, 2, epoch=1), val(1, 30), train(150, 1, epoch=2)]
    session(tmp_path, "20260101_000000", *entries, val(2, 40))
    assert read_training(tmp_path).curve("mIoU") == [(100, 30), (150, 40)]


def test_the_machine_is_told(tmp_path):
    session(tmp_path, "20260101_000000")
    told = read_training(tmp_path).environment
    assert told == {"Python": "3.11.7", "PyTorch": "2.13.0+cpu", "GPU 0,1": "NVIDIA H200"}


@pytest.mark.parametrize(
    ("curve", "labels"),
    [
        ([(1, 0.9), (90, 0.3)], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ([(1, 0.0)], ["0", "0.2"]),
        ([(1, -3.0), (2, 5.0)], ["-4", "-2", "0", "2", "4", "6"]),
        ([(1, 0.001), (2, float("nan"))], ["0", "0.0002", "0.0004", "0.0006", "0.0008", "0.001"]),
    ],
    ids=["falling", "zero", "negative", "not a number"],
)
def test_ticks_are_round_and_hold_the_curve(curve, labels):
    made = chart("loss", [("run", curve)], 90)
    assert [label for _, label in made.y_ticks] == labels
    assert [label for _, label in made.x_ticks] == ["0", "20", "40", "60", "80", "100"]
    for x, y in made.lines[0].marks:
        assert made.x_ticks[0][0] <= x <= made.x_ticks[-1][0]
        assert made.y_ticks[-1][0] <= y <= made.y_ticks[0][0]


def test_long_curves_are_thinned_and_empty_ones_left_out():
    long = [(step, 1.0) for step in range(1, 100_001)]
    made = chart("loss", [("a", long), ("b", [])], 100_000)
    assert len(made.lines[0].points.split()) == 200
    assert made.lines[1] is None
    assert chart("loss", [("a", []), ("b", [(1, float("nan"))])], 1) is None
