"""benchmarks/pairs.py: what it writes, and where. Of the pairs: tests/models/test_mixing.py."""

import os
import signal

import pytest
from tools.running import REPOSITORY, tool

from fcn_plugin.errors import UserError
from pairing.backbones import BACKBONES
from pairing.checks import check
from pairing.processes import each_alone
from pairing.table import BEGIN, END, GROUPS, around_tables, choose, write

RESNET = BACKBONES[0]


def test_written_between_the_markers_only(tmp_path):
    file = tmp_path / "mixing.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter ä\n", encoding="utf-8")
    for text in ("| new |", "| newer |"):
        write(file, text)
        assert file.read_text(encoding="utf-8") == f"before\n{BEGIN}\n{text}\n{END}\nafter ä\n"
    for content in ("no markers", f"{BEGIN}{END}{BEGIN}{END}", f"{END}\n{BEGIN}"):
        file.write_text(content)
        with pytest.raises(UserError, match=r"mixing\.md: .* must be in it once, in this order"):
            around_tables(file)


def work(item: str) -> str:
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return item.upper()


def test_a_crash_is_one_result():
    results = dict(each_alone(work, ["a", "killed", "b"], jobs=2))
    assert results == dict(a="A", b="B", killed="killed by SIGKILL")


def test_not_run_without_its_package_and_failed_if_it_does_not_build():
    row = check(RESNET._replace(needs="no-such-package"))
    assert row.skipped and row.onnx == "not run: needs no-such-package"
    wrong = RESNET._replace(model=RESNET.model | dict(backbone=dict(type="ResNet", depth=17)))
    row = check(wrong, quick=True)
    assert row.failed and "invalid depth 17 for resnet" in row.forward


@pytest.mark.slow
def test_from_the_shell(tmp_path):
    """With a real export, which takes its time."""
    done = tool("pairs.py", "--quick", "ResNet-18", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| yes | yes | yes |" in done.stdout
    assert done.stdout.splitlines()[-1] == "Done: 1 of 1 pairs passed, 0 failed, 0 not run"


def test_the_page_has_a_row_for_each():
    """As it was run; what failed says so there."""
    table = (REPOSITORY / "docs/mixing.md").read_text().partition(BEGIN)[2].partition(END)[0]
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line}
    names = {pair.name for group in GROUPS.values() for pair in group}
    assert len(choose([])) == len(names) and names <= rows.keys()
    assert sum("not run" in rows[name] for name in names) <= 1  # PSA is compiled
