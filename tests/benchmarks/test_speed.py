"""benchmarks/speed.py: how figures are measured, and what the tool prints and writes of them."""

import json
import logging
import re
import sys
import time
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
import torch
from tools.running import BENCHMARKS, TOOLS, tool

from fcn_plugin.errors import UserError

sys.path += [
    str(BENCHMARKS),
    str(TOOLS),
]  # not first: tools/test.py is not the standard library's test

import speed

from figures import machine, table, tools
from figures.framework import (
    MIB,
    Figure,
    Reading,
    Row,
    Setting,
    Sides,
    Skipped,
    measure,
    peak_memory,
    quartiles,
)
from figures.kinds import time_by_kind

CPU = torch.device("cpu")
SETTING = Setting(CPU)
QUICK = Setting(CPU, quick=True)


class Clock:
    """Seconds that pass only as the sides below let them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def side(self, calls: list[str], name: str, seconds: list[float]):
        """A call that takes the next of ``seconds``, and afterwards the last of them."""
        left = list(seconds)

        def call() -> str:
            calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return name

        return call


def timed(ours: list[float], theirs: list[float], asked=None, setting=SETTING, **of_figure):
    """The order of the calls, and the result of a figure whose sides take those seconds."""
    clock, calls = Clock(), []
    sides = Sides(clock.side(calls, "ours", ours), clock.side(calls, "theirs", theirs), unit="s")
    figure = Figure("f", "loss", "theirs", lambda _: sides, **of_figure)
    return calls, measure(figure, setting, asked, clock)


class TestTime:
    def test_sides_alternate_after_one_warm_up_of_each(self):
        calls, _ = timed([1], [1], asked=3)
        memory = ["ours", "theirs"]
        assert calls == ["ours", "theirs"] + ["ours", "theirs"] * 3 + memory

    def test_medians_without_the_warm_up(self):
        _, result = timed([100, 3, 1, 2, 9, 2], [200, 8, 4, 8, 8, 1], asked=5)
        row = result.rows[0]
        assert (row.quantity, row.ours, row.theirs, row.ratio) == ("time", 2, 8, 0.25)
        assert row.quartiles == ([2, 3], [4, 8])

    @pytest.mark.parametrize(("unit", "expected"), [("s", 0.5), ("ms", 500), ("us", 5e5)])
    def test_in_its_unit_per_item(self, unit, expected):
        clock = Clock()
        sides = Sides(clock.side([], "", [2]), clock.side([], "", [4]), unit=unit, per=4)
        result = measure(Figure("f", "loss", "", lambda _: sides), SETTING, clock=clock)
        assert result.rows[0].ours == expected
        assert result.rows[0].theirs == 2 * expected
        assert result.details["items_per_second"] == [2, 1]

    @pytest.mark.parametrize(
        ("asked", "setting", "expected"),
        [(None, SETTING, 4), (None, QUICK, 1), (2, SETTING, 2), (3, QUICK, 3)],
        ids=["figure's own", "quick", "asked", "asked, quick"],
    )
    def test_repeats(self, asked, setting, expected):
        calls, _ = timed([1], [1], asked, setting, repeats=4)
        assert calls.count("ours") == 1 + expected + 1

    def test_quartiles_of_one_value(self):
        assert quartiles([3.0]) == [3, 3]


class TestBars:
    @pytest.mark.parametrize(("ours", "met"), [(1, True), (2, True), (2.1, False)])
    def test_time(self, ours, met):
        _, result = timed([ours], [4], time_bar=0.5)
        assert result.rows[0].met is met

    def test_memory(self):
        blocks = (lambda: np.ones(40 * MIB, np.uint8)), (lambda: np.ones(80 * MIB, np.uint8))
        for pair, met in ((blocks, True), (blocks[::-1], False)):
            sides = Sides(*pair)
            result = measure(Figure("f", "loss", "", lambda _, s=sides: s, memory_bar=0.6), SETTING)
            row = next(row for row in result.rows if row.quantity == "memory")
            assert row.met is met

    def test_operations_are_those_of_the_products(self):
        a, b = torch.ones(8, 32), torch.ones(32, 16)
        sides = Sides(lambda: a @ b, lambda: (a @ b, a @ b), count=True)
        figure = Figure("f", "network", "", lambda _: sides, operations_bar=0.4)
        result = measure(figure, SETTING)
        row = result.rows[-1]
        assert (row.ours, row.theirs) == (2 * 8 * 32 * 16 / 1e9, 4 * 8 * 32 * 16 / 1e9)
        assert row.met is False
        assert len(result.details["operations_per_second"]) == 2

    @pytest.mark.parametrize(("bar", "met"), [(0.2, True), (0.1, False)])
    def test_reading(self, bar, met):
        beside = (Row("time", 3, "s"),)
        figure = Figure(
            "f", "network", "", reading=lambda *_: Reading(0.15, beside=beside), value_bar=bar
        )
        result = measure(figure, SETTING)
        assert [row.met for row in result.rows] == [met, None]

    @pytest.mark.parametrize("setting", [QUICK, Setting(torch.device("cpu"))], ids=["quick", "cpu"])
    def test_none_where_they_do_not_hold(self, setting):
        _, result = timed([9], [1], setting=setting, time_bar=0.5, bars_on=("cuda",))
        assert {row.met for row in result.rows} == {None}


class TestAgreement:
    @staticmethod
    def compared(agree):
        return measure(
            Figure("f", "loss", "", lambda _: Sides(lambda: 1, lambda: 2, agree)), SETTING
        )

    def test_gets_both_results_and_gives_a_word(self):
        assert self.compared(lambda a, b: f"{a} and {b}").word == "1 and 2"

    def test_disagreement_is_no_figure(self):
        def agree(a, b):
            assert a == b, "off by one"

        result = self.compared(agree)
        assert result.disagreement == "off by one"
        assert result.rows == ()


def test_skipped_with_the_reason():
    def setup(_):
        raise Skipped("give --peer DIR")

    assert measure(Figure("f", "loss", "", setup), SETTING).skipped == "give --peer DIR"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
class TestMemory:
    """Against allocations that are known, of blocks that malloc keeps and of those it does not."""

    @pytest.mark.parametrize(
        "mib", [31, *(pytest.param(mib, marks=pytest.mark.slow) for mib in (8, 100))]
    )
    @pytest.mark.parametrize(
        ("calls", "expected"),
        [
            (lambda n: torch.ones(n, dtype=torch.uint8), 1),
            (lambda n: np.ones(n, np.uint8), 1),
            (lambda n: [np.ones(n, np.uint8), np.ones(n, np.uint8)], 2),
            (lambda n: [np.ones(n, np.uint8).max(), np.ones(n, np.uint8).max()], 1),
            (lambda n: [np.ones(n // 256, np.uint8) for _ in range(256)], 1),
        ],
        ids=["tensor", "array", "two at once", "two in turn", "many small ones"],
    )
    def test_known(self, mib, calls, expected):
        def call() -> object:
            return calls(mib * MIB)

        call()  # what it leaves free must not hide what the next takes
        # On a machine busy with other work one in some hundreds is off.
        peak = median(peak_memory(call, CPU) for _ in range(3))
        assert peak == pytest.approx(expected * mib * MIB, rel=0.05, abs=3 * MIB)

    def test_what_was_there_does_not_count(self):
        there = np.ones(64 * MIB, np.uint8)
        assert peak_memory(lambda: there.max(), CPU) < MIB

    def test_an_earlier_peak_does_not_count(self):
        np.ones(256 * MIB, np.uint8)
        assert peak_memory(lambda: np.ones(8 * MIB, np.uint8), CPU) < 10 * MIB


@pytest.fixture(scope="module")
def run_of_two(tmp_path_factory):
    """A figure with a comparison and one that needs a clone that is not there."""
    folder = tmp_path_factory.mktemp("run")
    names = ("reference padding", "reference padding: pytorch-fcn")
    done = tool("speed.py", *names, "--quick", "--json", "out.json", folder=folder)
    return done, folder / "out.json"


class TestTool:
    def test_table(self, run_of_two):
        done, _ = run_of_two
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 100
        for part in ("GFLOP/s in float32", "bfloat16", "torch ", "threads", "reference padding"):
            assert part in done.stdout
        assert "skipped: give --peer DIR" in done.stdout
        assert done.stdout.splitlines()[-1] == (
            "--quick: the sizes are tiny, no bar is judged; 1 skipped"
        )
        assert "measuring 1 of 2: reference padding" in done.stderr

    def test_json(self, run_of_two):
        found = json.loads(run_of_two[1].read_text())
        assert set(found) == {"machine", "options", "bars", "figures"}
        assert found["machine"]["torch"] == torch.__version__
        assert found["machine"]["matrix_products"]["float32"] > 0
        assert found["bars"] == {"met": 0, "of": 0}
        compared, skipped = found["figures"]
        rows = {row["quantity"]: row for row in compared["rows"]}
        assert set(rows) >= {"time", "operations"}
        assert rows["time"]["ratio"] == rows["time"]["ours"] / rows["time"]["theirs"]
        assert len(rows["time"]["quartiles"]) == 2
        assert compared["agreement"].startswith("scores agree")
        assert skipped["skipped"] and skipped["rows"] == []

    def test_misspelt_figure_ends_in_one_line(self, tmp_path):
        done = tool("speed.py", "traning step", folder=tmp_path)
        assert done.returncode == 1
        assert done.stderr == (
            "error: 'traning step': no such figure or group; did you mean 'training step'?\n"
        )


class TestMain:
    """In this process: each start of the tool takes seconds to import the host."""

    @pytest.fixture
    def main(self, monkeypatch):
        def call(*options: str) -> None:
            monkeypatch.setattr(sys, "argv", ["speed.py", *options])
            speed.main()

        yield call
        logging.disable(logging.NOTSET)

    def test_list(self, main, capsys):
        main("--list")
        shown = capsys.readouterr().out
        for name in ("training step", "reference padding", "train.py --help", "network"):
            assert name in shown
        assert "measuring" not in shown

    @pytest.mark.parametrize(
        ("bar", "last", "status"),
        [(60, "1 of 1 bars met", 0), (0, "0 of 1 bars met", 1)],
        ids=["met", "missed"],
    )
    def test_check(self, bar, last, status, main, capsys, monkeypatch, small_products):
        figures = [
            replace(figure, value_bar=bar)
            for figure in [figure for figure in tools.FIGURES if figure.name == "train.py --help"]
        ]
        monkeypatch.setattr(tools, "FIGURES", figures)
        options = ("tools", "--device", "cpu", "--repeats", "1")
        main(*options)
        assert capsys.readouterr().out.splitlines()[-1] == last
        if status:
            with pytest.raises(SystemExit, match="1"):
                main(*options, "--check")
        else:
            main(*options, "--check")

    def test_sides_that_disagree_fail_without_check(
        self, main, capsys, monkeypatch, small_products
    ):
        def agree(ours: int, theirs: int) -> None:
            assert ours == theirs, "1 is not 2"

        sides = Sides(lambda: 1, lambda: 2, agree)
        figure = Figure("wrong", "tools", "itself", lambda _: sides)
        monkeypatch.setattr(tools, "FIGURES", [figure])
        with pytest.raises(SystemExit, match="1"):
            main("wrong", "--device", "cpu")
        shown = capsys.readouterr().out
        assert "the two sides disagree: 1 is not 2" in shown
        assert shown.splitlines()[-1].endswith("1 with sides that disagree")

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (["netwrk"], "did you mean 'network'?"),
            (["quux"], "--list shows all"),
            (["tools", "--device", "abacus"], "--device abacus: not on this machine"),
            (["tools", "--json", "no/such/x.json"], "no such folder; make it first"),
            (["tools", "--peer", "."], "no torchfcn/models in it"),
        ],
        ids=["group", "nothing close", "device", "json", "peer"],
    )
    def test_mistakes(self, options, expected, main, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=re.escape(expected)):
            main(*options)


@pytest.fixture
def small_products(monkeypatch):
    monkeypatch.setitem(machine.SIDES, "cpu", 64)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0, "s", "0 s"),
        (0.01234, "", "0.0123"),
        (12.34, "ms", "12.3 ms"),
        (1234.6, "MiB", "1,235 MiB"),
    ],
)
def test_numbers_have_three_digits(value, unit, expected):
    assert table.number(value, unit) == expected


def test_rate_of_matrix_products_is_that_of_its_size(small_products):
    rates = machine.matrix_rates(CPU)
    start_of = time.perf_counter()
    a = torch.randn(64, 64)
    for _ in range(100):
        a @ a
    plain = 2 * 64**3 * 100 / (time.perf_counter() - start_of)
    assert set(rates) == {"float32", "bfloat16"}
    assert plain / 20 < rates["float32"] < plain * 20


def test_time_by_kind_tells_convolution_from_the_rest():
    conv, x = torch.nn.Conv2d(32, 32, 5), torch.randn(1, 32, 64, 64)
    kinds = time_by_kind(lambda: conv(x).sum().backward(), CPU)
    assert next(iter(kinds)) == "convolution"
    assert kinds["convolution"] > 0.5 * sum(kinds.values())
    without = time_by_kind(lambda: torch.relu(x).clone(), CPU)
    assert without["relu"] > 0 and without["copies"] > 0
    assert without["convolution"] == 0
