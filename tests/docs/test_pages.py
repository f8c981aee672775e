"""Every command, piece of Python and output in the documentation, page by page."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from docs.small import BEFORE, LEFT_OUT, LESS, stand_ins
from docs.walk import FILE, Block, Walk, blocks, clone, commands, first, in_small, run
from tools.running import REPOSITORY

# page -> what becomes of its commands and blocks
PAGES = {
    "README.md": {"run": 8, "in small": 5, "left out": 9},
    "docs/start.md": {"run": 3, "in small": 4, "left out": 2, "written": 1, "compared": 2},
    "docs/tutorial.md": {"run": 9, "in small": 1, "written": 2, "compared": 5},
    "docs/recipe.md": {"run": 5, "in small": 10, "written": 1, "compared": 3},
    "docs/mixing.md": {"run": 2, "in small": 3, "written": 3, "compared": 2},
    "docs/prediction.md": {"run": 6, "in small": 2, "compared": 2},
    "docs/report.md": {"run": 3, "in small": 3, "compared": 1},
    "docs/export.md": {"run": 6, "in small": 2, "left out": 1, "compared": 5},
    "docs/data.md": {"in small": 3, "left out": 3},
    "docs/weights.md": {"run": 1, "in small": 3, "written": 1},
    "docs/exactness.md": {"run": 1, "left out": 3},
    "docs/speed.md": {"left out": 3},
    "docs/from_caffe.md": {"run": 5, "in small": 6, "written": 2, "compared": 3},
    "docs/from_pytorch_fcn.md": {"run": 3, "in small": 5, "compared": 3},
    "docs/api/index.md": {"run": 1},
}
QUICK = ("docs/tutorial.md", "docs/api/index.md")
# A name with a star stands for any number of them.
CONFIG = re.compile(r"(?<![\w/.*-])(?:configs/)?([\w{},-]+_[\w{},-]+_[\w{},-]+\.py)")
DOCS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
COMMANDS = [
    command
    for page in DOCS
    for block in blocks(page)
    if block.language == "shell"
    for command in commands(block.text)
]


@pytest.mark.parametrize(
    "page", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in PAGES]
)
def test_does_as_it_says(page, tmp_path):
    stand_ins(clone(tmp_path))
    for command in BEFORE.get(page, ()):
        assert run(in_small(command), tmp_path).returncode == 0
    assert Walk(REPOSITORY / page, tmp_path).follow() == PAGES[page]


@pytest.mark.slow
def test_the_tutorial_as_it_stands(tmp_path, monkeypatch):
    """From an empty folder to predictions, nothing in small."""
    monkeypatch.setattr("tools.running.PATIENCE", 1800)  # seconds
    walk = Walk(REPOSITORY / "docs/tutorial.md", clone(tmp_path), less=False)
    assert "in small" not in walk.follow()
    # Of a new picture, which shows everything that there is to be found.
    labels = walk.names["prediction"].labels
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert len(list((tmp_path / "predictions/mine/overlays").iterdir())) == 6


def test_every_page_is_followed():
    followed = {REPOSITORY / page for page in PAGES}
    assert followed == {page for page in DOCS if any(map(is_counted, blocks(page)))}


def braces(name: str) -> list[str]:
    """What a shell makes of {a,b}."""
    return ["".join(choice) for choice in product(*(p.split(",") for p in re.split("[{}]", name)))]


def is_counted(block: Block) -> bool:
    """Not a directive of Sphinx."""
    return not block.language.startswith("{")


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_passed_over(page):
    """By another count, of slow pages too: of fences, and of what shell blocks have more of."""
    text = (REPOSITORY / page).read_text()
    found = [block for block in blocks(REPOSITORY / page) if is_counted(block)]
    assert len(found) == (text.count("\n```") - 2 * text.count("\n```{")) / 2
    more = sum(len(commands(block.text)) - 1 for block in found if block.language == "shell")
    assert sum(PAGES[page].values()) == len(found) + more


@pytest.mark.parametrize("table", [LESS, LEFT_OUT], ids=["run in small", "left out"])
def test_every_row_is_of_use(table):
    used = {first(table, command) for command in COMMANDS}
    assert set(table) <= used


def test_every_config_that_is_named_is_there():
    """In commands, tables and text; but for those that the pages or prepare_data.py write."""
    named, written = set(), set()
    for page in DOCS:
        named |= {name for found in CONFIG.findall(page.read_text()) for name in braces(found)}
        files = (FILE.match(block.text) for block in blocks(page) if block.language == "python")
        written |= {Path(file[1]).name for file in files if file}
    there = {path.name for path in (REPOSITORY / "configs").glob("*.py")}
    assert len(named & there) > 20
    assert {name for name in named - there - written if "_mine" not in name} == set()
