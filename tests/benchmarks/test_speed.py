"""benchmarks/speed.py: how figures are measured, and what the tool prints and writes of them."""

import json
import sys
import time

import numpy as np
import pytest
import torch
from tools.running import tool

from figures.framework import MIB, Figure, Setting, Sides, measure
from figures.kinds import time_by_kind

CPU = torch.device("cpu")


def of(*sides, **options) -> Figure:
    return Figure("f", "loss", "itself", lambda _: Sides(*sides, **options))


def test_sides_alternate_and_the_medians_are_without_the_first_calls(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def side(name: str, *seconds: float):
        left = [*seconds]

        def call() -> None:
            calls.append(name)
            now[0] += left.pop(0)

        return call

    sides = side("ours", 100, 3, 1, 2, 9, 2, 0), side("theirs", 200, 8, 4, 8, 8, 1, 0)
    result = measure(of(*sides, unit="ms", per=4), Setting(CPU), 5)
    assert calls == ["ours", "theirs"] * (1 + 5 + 1)  # agreement, times, memory
    row = result.rows[0]
    assert (row.quantity, row.ours, row.theirs, row.ratio) == ("time", 500, 2000, 0.25)
    assert row.quartiles == ([500, 750], [1000, 2000])
    assert result.details["items_per_second"] == [2, 0.5]


def test_memory_and_operations():
    a, b = torch.ones(8, 32), torch.ones(32, 16)
    small, large = (
        lambda mib=mib: (np.ones(mib * MIB, np.uint8), [a @ b for _ in range(mib // 40)])
        for mib in (40, 80)
    )
    result = measure(of(small, large, count=True), Setting(CPU))
    rows = {row.quantity: row for row in result.rows}
    products = 2 * 8 * 32 * 16 / 1e9
    assert (rows["operations"].ours, rows["operations"].theirs) == (products, 2 * products)
    if sys.platform == "linux":
        assert rows["memory"].ratio == pytest.approx(0.5, abs=0.1)


def test_from_the_shell(tmp_path):
    """A figure with a comparison and one that needs a clone that is not there."""
    names = ("loss 21 classes", "reference padding")
    done = tool("speed.py", *names, "--quick", "--json", "out.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "skipped: give --peer DIR" in done.stdout
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["machine"]["matrix_products"]["float32"] > 0
    skipped, compared = report["figures"]
    row = compared["rows"][0]
    assert row["quantity"] == "time" and row["ratio"] == row["ours"] / row["theirs"]
    assert compared["name"] == names[0] and compared["word"].startswith("gradients within")
    assert skipped["skipped"] and skipped["rows"] == []


def test_sides_that_disagree_are_no_figure():
    def differ(ours: int, theirs: int) -> None:
        assert ours == theirs, "1 is not 2"

    result = measure(of(lambda: 1, lambda: 2, differ), Setting(CPU))
    assert result.disagreement == "1 is not 2" and not result.rows


def test_time_by_kind_tells_convolution_from_the_rest():
    conv, x = torch.nn.Conv2d(32, 32, 5), torch.randn(1, 32, 64, 64)
    kinds = time_by_kind(lambda: conv(x).sum().backward(), CPU)
    assert next(iter(kinds)) == "convolution"
    assert kinds["convolution"] > 0.5 * sum(kinds.values())
