"""Logs of runs that were resumed, killed or counted in epochs."""

import json
import math
import re
from base64 import b64decode
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from fcn_plugin.report.charts import chart
from fcn_plugin.report.logs import read_training

LOG = """2026/11/21 20:04:11 - mmengine - INFO -
    Python: 3.11.7 (main)
    PyTorch: 2.13.0+cpu
    GPU 0,1: NVIDIA H200
2026/11/21 20:10:11 - mmengine - INFO - Done
"""


def session(work_dir: Path, *entries: dict, tail: str = "") -> None:
    """One more, a day later, of ten minutes."""
    folder = work_dir / f"2026010{1 + len(list(work_dir.iterdir()))}_000000" / "vis_data"
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "scalars.json").write_text(lines + tail)
    (folder.parent / "a.log").write_text(LOG)


def train(step: int, loss: float, **more: int) -> dict:
    return dict(loss=loss, lr=0.1, iter=step, step=step, **more)


def val(step: int, score: float) -> dict:
    return dict(mIoU=score, step=step)


def test_a_resumed_run_replaces_what_came_after_its_start(tmp_path):
    session(tmp_path, *(train(s, 1) for s in (10, 20, 30)), val(20, 5), val(30, 6))
    session(tmp_path, val(20, 5), train(25, 2), train(30, 3), val(30, 7), tail='{"loss": 1, "st')
    (tmp_path / "20260103_000000").mkdir()  # of a test
    found = read_training(tmp_path)
    assert found.curve("loss") == [(10, 1), (20, 1), (25, 2), (30, 3)]
    assert found.curve("mIoU") == [(20, 5), (30, 7)]
    assert found.duration == "0:12:00 in 2 sessions" and found.last_step == 30
    told = {"Python": "3.11.7", "PyTorch": "2.13.0+cpu", "GPU 0,1": "NVIDIA H200"}
    assert found.environment == told


SVG = "{http://www.w3.org/2000/svg}"


def drawn(*curves, last=100):
    """The lines of a chart as (x, y) [n, 2], None of a run without one, and the chart."""
    made = chart("loss", list(zip("ab", curves, strict=False)), last)
    root = ElementTree.fromstring(b64decode(made["uri"].removeprefix("data:image/svg+xml;base64,")))
    lines = []
    for number in range(len(curves)):
        line = root.find(f".//{SVG}g[@id='run-{number}']/{SVG}path")
        numbers = [] if line is None else re.findall(r"-?[\d.]+", line.get("d"))
        lines.append(np.array(numbers, float).reshape(-1, 2))
    return lines, made


def test_curves_are_drawn_to_scale_from_zero_on():
    (line, other), made = drawn([(0, 0.0), (50, 2.0), (100, 1.0)], [(50, 0.5)])
    across, down = line[:, 0], line[:, 1]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1])
    assert down[0] - down[1] == pytest.approx(2 * (down[0] - down[2]))
    np.testing.assert_allclose(other, [[across[1], (3 * down[0] + down[1]) / 4]])
    assert made["summary"].startswith("a: 0 at iteration 0, 1 at 100, between 0 and 2; b: 0.5 at")
    assert made == drawn([(0, 0.0), (50, 2.0), (100, 1.0)], [(50, 0.5)])[1]  # to the byte


def test_what_is_not_finite_is_left_out():
    (line,), made = drawn([(1, math.nan), (2, 3.0), (3, math.inf)])
    assert len(line) == 1 and "a: 3 at iteration 2, 3 at 2" in made["summary"]
    assert chart("loss", [("a", []), ("b", [(1, math.nan)])], 1) is None
