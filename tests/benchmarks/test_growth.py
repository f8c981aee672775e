"""benchmarks/growth.py: exponents of known laws, points of known cost, a record that goes on."""

import json
import os
import signal
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import growth
import numpy as np
import pytest
from tools.running import ran, tool

from figures.framework import MIB
from figures.growth import choose
from figures.growth.curve import CPU, Curve, Setting, measured
from figures.growth.laws import law
from figures.machine import describe

SIZES = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
X = np.array(SIZES, float)
ONE_OF_EACH = ("step classes", "evaluate", "evaluate processes", "score", "prepare own")


@pytest.mark.parametrize("exponent", [-1, 0, 0.5, 1, 2])
def test_a_power_law_is_recovered(exponent):
    """Beside noise of 2 %."""
    noise = 1 + 0.02 * np.random.default_rng(0).standard_normal(len(SIZES))
    exact, noisy = law(SIZES, 3 * X**exponent), law(SIZES, 3 * X**exponent * noise)
    assert exact[:2] == pytest.approx((exponent, exponent), abs=1e-10)
    assert noisy[:2] == pytest.approx((exponent, exponent), abs=0.03)
    assert abs(noisy.upper - exponent) < 3 * noisy.error
    assert exact.is_faster_than_linear == (exponent == 2)


def test_the_upper_half_tells_what_comes_in_the_end():
    """It begins at the middle of the logarithms, which is neither that of sizes nor of points."""
    begun_late = law(SIZES, X + 100 * (X / 3_000) ** 2)
    assert begun_late.whole < 1.1 and begun_late.is_faster_than_linear
    constant_first = law(SIZES, 1_000 + X)
    assert constant_first.whole < 0.6 and 0.8 < constant_first.upper <= 1
    crowded = law([1, 2, 3, 4, 5, 10, 30, 100], [1, 1, 1, 1, 1, 10, 30, 100])
    assert crowded.start == 10 and crowded.upper == pytest.approx(1)
    assert law([1, 2], [1, 2]) is None


def taking(mib: int, setting: Setting) -> Callable[[], object]:
    """Setups and earlier calls are not to count."""
    kept = [np.ones(100 * MIB, np.uint8)]
    return lambda: (len(kept), np.ones(mib * MIB, np.uint8))


def killed(at: int, setting: Setting) -> Callable[[], object]:
    return partial(os.kill, os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's memory")
def test_memory_is_that_of_the_point_alone():
    curve = Curve("taking", "", "MiB", (40, 80, 10**9), taking)
    for mib in (80, 40):
        _, memory = measured(curve, mib, Setting(2))
        assert memory / MIB == pytest.approx(mib, abs=4)
    assert measured(curve, 10**9, Setting(2)).startswith("more memory than is free")
    assert measured(Curve("", "", "", (1,), killed), 1, Setting(2)).startswith("killed")


def test_rounds_of_what_is_missing_in_random_orders():
    curve = Curve("a", "", "images", SIZES)
    points = [(curve, at) for at in curve.points]
    record = {"a": {"10": dict(seconds=[1, 1, 1]), "30": dict(seconds=[1]), "100": dict(failed="")}}
    left = [at for _, at in growth.to_measure(points, record, Namespace(repeats=3, seed=0))]
    assert Counter(left) == {30: 2} | dict.fromkeys(SIZES[3:], 3)
    first, second, third = (left[i:j] for i, j in ((0, 6), (6, 13), (13, 20)))
    assert set(first) == {*SIZES[3:]} and set(second) == set(third) == {30, *SIZES[3:]}
    assert sorted(second) != second != third
    other = [at for _, at in growth.to_measure(points, record, Namespace(repeats=3, seed=1))]
    assert sorted(other) == sorted(left) and other != left


def recorded(file: Path, **exponents: float) -> None:
    """A record whose curves of images grow with these exponents, of other options than ours."""
    points = {
        name: {str(at): dict(seconds=[1e-6 * float(at) ** power]) for at in SIZES}
        for name, power in exponents.items()
    }
    record = dict(machine=describe(CPU), options=dict(width=64, quick=False), points=points)
    file.write_text(json.dumps(record))


def test_the_table_and_the_plots_of_a_record_alone(tmp_path):
    recorded(tmp_path / "record.json", score=1, evaluate=1.5)
    done = ran("growth.py --table --json record.json --plots plots", folder=tmp_path)
    assert "exponent 1.50 from 10, 1.50 ± 0.00 from 1,000; grows faster" in done.stdout
    assert "exponent 1.00 from 10, 1.00 ± 0.00 from 1,000\n" in done.stdout
    assert "Faster than linear: evaluate (time)\n" in done.stdout
    assert "measuring" not in done.stderr
    for group in ("scoring", "evaluation"):
        assert ElementTree.parse(tmp_path / "plots" / f"{group}.svg").getroot().tag.endswith("svg")
    other = tool("growth.py score --json record.json", folder=tmp_path)
    assert other.returncode == 1 and "of width 64, not 8; set it back" in other.stderr


def test_a_record_goes_on(tmp_path):
    command = "growth.py score --quick --up-to 30 --json record.json"
    file = tmp_path / "record.json"
    ran(command, folder=tmp_path)
    record = json.loads(file.read_text())
    points = record["points"]["score"]
    assert points.keys() == {"10", "30"} and points["10"]["seconds"][0] > 0
    points["10"]["seconds"] = [77.0]
    del points["30"]
    file.write_text(json.dumps(record))
    done = ran(command, folder=tmp_path)
    assert "measuring 1 of 1: score, 30 images" in done.stderr
    again = json.loads(file.read_text())["points"]["score"]
    assert again["10"]["seconds"] == [77.0] and len(again["30"]["seconds"]) == 1


def test_one_of_each_from_the_shell(tmp_path):
    done = ran("growth.py", *ONE_OF_EACH, "--quick", "--up-to", "10", folder=tmp_path)
    assert "Done: 5 curves, 9 points\nNext: " in done.stdout
    wrong = tool("growth.py scores", folder=tmp_path)
    assert wrong.returncode == 1 and "did you mean 'score'?" in wrong.stderr


@pytest.mark.slow
def test_every_curve_from_the_shell(tmp_path):
    options = "--quick --json record.json --plots plots"
    ran(f"growth.py {options}", folder=tmp_path)
    record = json.loads((tmp_path / "record.json").read_text())
    curves = choose([])
    assert record["points"].keys() == {curve.name for curve in curves}
    assert "failed" not in json.dumps(record)
    groups = {curve.group for curve in curves}
    assert {file.stem for file in (tmp_path / "plots").iterdir()} == groups
