"""benchmarks/pairs.py: what it writes, and where. Of the pairs: tests/models/test_mixing.py."""

import os
import signal

import pytest
from tools.running import REPOSITORY, tool

from fcn_plugin.errors import UserError
from pairing import checks
from pairing.backbones import BACKBONES
from pairing.checks import check
from pairing.pair import Levels, Row
from pairing.processes import each_alone
from pairing.table import BEGIN, END, GROUPS, around_tables, as_markdown, choose, write

RESNET = BACKBONES[0]
LEVELS = Levels((128, 256), (8.0, 14.22))
ROW = Row("ResNet-18", "yes", "yes", "no: a | b", LEVELS, 11_200_000, 19_000_000_000)


def test_table_of_those_that_were_tried():
    skipped = choose(["PSA"])[0].row("not run: needs mmcv")
    lines = as_markdown({row.name: row for row in (ROW, skipped)}).splitlines()
    titles = "| backbone | channels @ stride | parameters, M | GFLOP | forward | backward | ONNX |"
    assert lines[0] == titles
    assert lines[2] == "| ResNet-18 | 128 @ 8, 256 @ 14.2 | 11.2 | 19 | yes | yes | no: a / b |"
    assert lines[6] == "| PSA | - | - | - |" + " not run: needs mmcv |" * 3
    assert any(line.startswith("| LRASPP | averages 49 x 49") for line in lines)
    assert all("|  |" not in line for line in lines)  # never a blank
    rows = (ROW, skipped, ROW._replace(onnx="yes, but"))
    assert [(row.failed, row.skipped) for row in rows] == [(1, 0), (0, 1), (0, 0)]


def test_written_between_the_markers_only(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter ä\n", encoding="utf-8")
    for text in ("| new |", "| newer |"):
        write(file, text)
        assert file.read_text(encoding="utf-8") == f"before\n{BEGIN}\n{text}\n{END}\nafter ä\n"
    for content in ("no markers", f"{BEGIN}{END}{BEGIN}{END}", f"{END}\n{BEGIN}"):
        file.write_text(content)
        with pytest.raises(UserError, match=r"README\.md: .* must be in it once, in this order"):
            around_tables(file)


def work(item: str) -> str:
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "exits":
        os._exit(3)
    return item.upper()


def test_a_crash_is_one_result():
    results = dict(each_alone(work, ["a", "killed", "b", "exits", "c"], jobs=2))
    assert results == dict(a="A", b="B", c="C", killed="killed by SIGKILL", exits="ended with 3")


def test_not_run_without_its_package_and_failed_if_it_does_not_build():
    row = check(RESNET._replace(needs="no-such-package"))
    assert row.skipped and row.onnx == "not run: needs no-such-package"
    wrong = RESNET._replace(model=RESNET.model | dict(backbone=dict(type="ResNet", depth=17)))
    row = check(wrong, quick=True)
    assert row.failed and row.forward == row.onnx
    assert "invalid depth 17 for resnet" in row.forward


def test_other_labels_in_onnx_fail(monkeypatch):
    monkeypatch.setattr(checks, "export_onnx", lambda model, file, size=None: None)
    for identical, onnx in ((0.99991, "yes"), (0.9998, "no: 99.98 % of the labels agree")):
        told = [(None, identical, 0.0)]
        monkeypatch.setattr(checks, "check_onnx", lambda model, file, sizes, told=told: told)
        row = check(RESNET, quick=True)
        assert row.onnx == onnx and row.failed == (onnx != "yes")
    assert row.levels == Levels((16, 32, 64), (8.0, 16.0, 32.0)) and row.operations > 1e6


def test_list_and_mistakes(tmp_path):
    listed = tool("pairs.py", "--list", folder=tmp_path).stdout.splitlines()
    assert listed[:2] == ["ResNet-18", "ResNet-50 v1c"]
    assert len(listed) == len(set(listed)) == sum(map(len, GROUPS.values())) == len(choose([]))
    with pytest.raises(UserError, match=r"none\.md: no such file"):
        around_tables(tmp_path / "none.md")
    with pytest.raises(UserError, match=r"'resnet18': no such pair; did you mean 'ResNet-18'\?"):
        choose(["resnet18"])


@pytest.mark.slow
def test_from_the_shell(tmp_path):
    """With a real export, which takes its time."""
    done = tool("pairs.py", "--quick", "ResNet-18", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| yes | yes | yes |" in done.stdout
    assert done.stdout.splitlines()[-1] == "Done: 1 of 1 pairs passed, 0 failed, 0 not run"


def test_readme_has_a_row_for_each():
    """As it was run; what failed says so there."""
    table = (REPOSITORY / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line}
    names = {pair.name for group in GROUPS.values() for pair in group}
    assert names <= rows.keys()
    assert sum("not run" in rows[name] for name in names) <= 1  # PSA is compiled
