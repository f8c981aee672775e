"""benchmarks/speed.py: how figures are measured, and what the tool prints and writes of them."""

import json
import logging
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from statistics import median

import numpy as np
import pytest
import speed
import torch
from tools.running import tool

from fcn_plugin.errors import UserError
from figures import framework, machine, steps, tools
from figures.framework import MIB, Figure, Result, Row, Setting, Sides, measure
from figures.kinds import time_by_kind
from figures.table import number

CPU = torch.device("cpu")
SETTING, QUICK = Setting(CPU), Setting(CPU, quick=True)


def of(*sides, count=False, **figure) -> Figure:
    return Figure("wrong", "tools", "itself", lambda _: Sides(*sides, count=count), **figure)


@pytest.fixture
def timed(monkeypatch):
    """The order of the calls, and the result of a figure whose sides take these seconds."""

    def timed(ours, theirs, asked=None, setting=SETTING, unit="s", per=1, **figure):
        now, calls = [0.0], []
        monkeypatch.setattr(time, "perf_counter", lambda: now[0])

        def side(name: str, seconds: list[float]) -> None:
            calls.append(name)
            now[0] += seconds.pop(0) if len(seconds) > 1 else seconds[0]

        sides = (partial(side, "ours", [*ours]), partial(side, "theirs", [*theirs]))
        return calls, measure(of(*sides, None, unit, per, **figure), setting, asked)

    return timed


def test_sides_alternate_and_the_medians_are_without_the_first_calls(timed):
    calls, result = timed([100, 3, 1, 2, 9, 2], [200, 8, 4, 8, 8, 1], asked=5)
    assert calls == ["ours", "theirs"] * (1 + 5 + 1)  # agreement, times, memory
    row = result.rows[0]
    assert (row.quantity, row.ours, row.theirs, row.ratio) == ("time", 2, 8, 0.25)
    assert row.quartiles == ([2, 3], [4, 8])


def test_time_in_its_unit_per_item_and_repeats(timed):
    for asked, setting, expected in ((None, SETTING, 4), (None, QUICK, 1), (3, QUICK, 3)):
        calls, _ = timed([1], [1], asked, setting, repeats=4)
        assert calls.count("ours") == 1 + expected + 1
    for unit, expected in (("s", 0.5), ("ms", 500), ("us", 5e5)):
        _, result = timed([2], [4], unit=unit, per=4)
        row = result.rows[0]
        assert (row.ours, row.theirs) == (expected, 2 * expected)
        assert row.quartiles == ([expected] * 2, [2 * expected] * 2)
        assert result.details["items_per_second"] == [2, 1]


def test_bars_of_ratios_and_of_numbers_alone(timed):
    tries = ((2, SETTING, "cpu", True), (2.1, SETTING, "cpu", False))
    for ours, setting, on, met in (*tries, (9, QUICK, "cpu", None), (9, SETTING, "cuda", None)):
        _, result = timed([ours], [4], setting=setting, bars=dict(time=0.5), bars_on=(on,))
        assert result.rows[0].met is met
        assert all(row.met is None for row in result.rows[1:])
    rows = (Row("share", 0.15, ""), Row("time", 3, "s"))
    for bar, met in ((0.2, True), (0.1, False)):
        figure = Figure("f", "network", "", reading=lambda *_: Result(rows), bars=dict(share=bar))
        assert [row.met for row in measure(figure, SETTING).rows] == [met, None]


def test_bars_of_memory_and_operations():
    a, b = torch.ones(8, 32), torch.ones(32, 16)
    small, large = (
        lambda mib=mib: (np.ones(mib * MIB, np.uint8), [a @ b for _ in range(mib // 40)])
        for mib in (40, 80)
    )
    figure = of(small, large, count=True, bars=dict(memory=0.6, operations=0.4))
    result = measure(figure, SETTING)
    rows = {row.quantity: row for row in result.rows}
    operations = rows["operations"]
    assert (operations.ours, operations.theirs) == (2 * 8 * 32 * 16 / 1e9, 4 * 8 * 32 * 16 / 1e9)
    assert operations.met is False
    assert len(result.details["operations_per_second"]) == 2
    if sys.platform == "linux":
        assert rows["memory"].met is True
        figure = replace(figure, setup=lambda _: Sides(large, small))
        assert measure(figure, SETTING).rows[1].met is False


def differ(ours: int, theirs: int) -> str:
    assert ours == theirs, "1 is not 2"
    return "equal"


def test_agreement_gets_both_results_and_without_a_clone_there_is_no_figure():
    result = measure(of(lambda: 1, lambda: 2, lambda a, b: f"{a} and {b}"), SETTING)
    assert result.word == "1 and 2" and result.rows
    result = measure(Figure("f", "loss", "", lambda setting: steps.peer(setting, 2)), SETTING)
    assert result.skipped.startswith("give --peer DIR") and result.rows == ()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: torch.ones(31 * MIB, dtype=torch.uint8), 31),
        (lambda: [np.ones(31 * MIB, np.uint8).max() for _ in range(2)], 31),
        (lambda: [np.ones(MIB // 8, np.uint8) for _ in range(256)], 32),
    ],
    ids=["tensor", "two in turn", "many small ones"],
)
def test_memory_of_blocks_that_malloc_keeps_or_gives_back(call, expected):
    there = np.ones(64 * MIB, np.uint8)  # counts no more than an earlier peak does
    [np.ones(128 * MIB, np.uint8) for _ in range(2)]
    call()  # what it leaves free must not hide what the next takes
    # On a machine busy with other work one in some hundreds is off.
    peak = median(framework.peak_memory(call, CPU) for _ in range(3))
    assert peak == pytest.approx(expected * MIB, rel=0.05, abs=3 * MIB)
    assert framework.peak_memory(there.max, CPU) < MIB


def test_from_the_shell(tmp_path):
    """A figure with a comparison and one that needs a clone that is not there."""
    names = ("reference padding", "reference padding: pytorch-fcn")
    done = tool("speed.py", *names, "--quick", "--json", "out.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    for part in ("GFLOP/s in float32", "bfloat16", "threads", "skipped: give --peer DIR"):
        assert part in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "--quick: the sizes are tiny, no bar is judged; 1 skipped"
    assert "measuring 1 of 2: reference padding" in done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["machine"]["matrix_products"]["float32"] > 0
    assert report["options"]["quick"] is True and report["bars"] == {"met": 0, "of": 0}
    compared, skipped = report["figures"]
    rows = {row["quantity"]: row for row in compared["rows"]}
    assert rows["time"]["ratio"] == rows["time"]["ours"] / rows["time"]["theirs"]
    assert len(rows["time"]["quartiles"]) == 2 and "operations" in rows
    assert compared["name"] == names[0] and compared["agreement"].startswith("scores agree")
    assert skipped["skipped"] and skipped["rows"] == []


@pytest.fixture
def main(monkeypatch):
    """The tool in this process: each start takes seconds to import mmseg."""

    def call(*options: str) -> None:
        monkeypatch.setattr(sys, "argv", ["speed.py", *options])
        speed.main()

    monkeypatch.setitem(machine.SIDES, "cpu", 64)
    yield call
    logging.disable(logging.NOTSET)


def test_list_and_numbers_of_three_digits(main, capsys):
    main("--list")
    shown = capsys.readouterr()
    for name in ("training step", "reference padding", "train.py --help", "network"):
        assert name in shown.out
    assert "measuring" not in shown.err
    for value, unit, text in ((0, "s", "0 s"), (0.01234, "", "0.0123"), (12.34, "ms", "12.3 ms")):
        assert number(value, unit) == text
    assert number(1234.6, "MiB") == "1,235 MiB"


def test_check(main, capsys, monkeypatch):
    met, missed, other = "1 of 1 bars met", "0 of 1 bars met", "1 with sides that disagree"
    for bar, agree, last, fails in (
        (1e9, None, met, ()),
        (0, None, missed, ["--check"]),
        (0, differ, other, ["", "--check"]),
    ):
        figure = of(lambda: 1, lambda: 2, agree, bars=dict(time=bar))
        monkeypatch.setattr(tools, "FIGURES", [figure])
        for options in ("", "--check"):
            with pytest.raises(SystemExit, match="1") if options in fails else nullcontext():
                main("wrong", "--device", "cpu", *options.split())
            shown = capsys.readouterr().out
            assert shown.splitlines()[-1].endswith(last)
            assert ("the two sides disagree: 1 is not 2" in shown) == (agree is differ)


def test_mistakes(main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options, said in {
        "netwrk": r"did you mean 'network'\?",
        "quux": "--list shows all",
        "tools --device abacus": "--device abacus: not on this machine",
        "tools --json no/such/x.json": "no such folder; make it first",
        "tools --peer .": "no torchfcn/models in it",
    }.items():
        with pytest.raises(UserError, match=said):
            main(*options.split())


def test_time_by_kind_tells_convolution_from_the_rest():
    conv, x = torch.nn.Conv2d(32, 32, 5), torch.randn(1, 32, 64, 64)
    kinds = time_by_kind(lambda: conv(x).sum().backward(), CPU)
    assert next(iter(kinds)) == "convolution"
    assert kinds["convolution"] > 0.5 * sum(kinds.values())
    without = time_by_kind(lambda: torch.relu(x).clone(), CPU)
    assert without["relu"] > 0 and without["copies"] > 0
    assert without["convolution"] == 0
