"""Every command, piece of Python and output in the documentation, page by page."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from docs.small import BEFORE, cached_imagenet_weights, stand_ins
from docs.walk import FILE, Walk, blocks, clone, in_small, run
from families import NEWER_TORCH
from tools.running import REPOSITORY

QUICK = ("docs/tutorial.md", "docs/api/index.md")
# A file, or the first word after a tool. A name with a star stands for any number of them.
NAME = r"([\w{},-]+_[\w{},-]+_[\w{},-]+)"
CONFIG = re.compile(rf"(?<![\w/.*-])(?:configs/)?{NAME}\.py|fcn-plugin \w+ {NAME}(?![\w{{./-])")
DOCS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((REPOSITORY / "docs/notebooks").glob("*.ipynb"))
# Of Sphinx's directives no page consists alone.
PAGES = {
    str(page.relative_to(REPOSITORY)): found
    for page in DOCS
    if (found := [block for block in blocks(page) if not block.language.startswith("{")])
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(name, marks=NEWER_TORCH if name in QUICK else pytest.mark.slow)
        for name in PAGES
    ],
)
def test_does_as_it_says(page, tmp_path, monkeypatch):
    stand_ins(clone(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for command in BEFORE.get(page, ()):
        assert run(in_small(command), tmp_path).returncode == 0
    Walk(REPOSITORY / page, tmp_path).follow()


@pytest.mark.slow
def test_the_tutorial_as_it_stands(tmp_path, monkeypatch):
    """From an empty folder to predictions, nothing in small."""
    monkeypatch.setattr("tools.running.PATIENCE", 1800)  # seconds
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    cached_imagenet_weights(tmp_path / "torch")
    walk = Walk(REPOSITORY / "docs/tutorial.md", clone(tmp_path), less=False)
    walk.follow()
    assert not walk.in_small
    # Of a new picture, which shows everything that there is to be found.
    labels = walk.names["prediction"].labels
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert len(list((tmp_path / "predictions/mine/overlays").iterdir())) == 6


def braces(name: str) -> list[str]:
    """What a shell makes of {a,b}."""
    return ["".join(choice) for choice in product(*(p.split(",") for p in re.split("[{}]", name)))]


def test_every_config_that_is_named_is_there():
    """In commands, tables and text; but for those that the pages or prepare_data.py write."""
    named, written = set(), set()
    for page in (*DOCS, *NOTEBOOKS):
        named |= {
            name for found in CONFIG.findall(page.read_text()) for name in braces("".join(found))
        }
        files = (FILE.match(block.text) for block in blocks(page) if block.language == "python")
        written |= {Path(file[1]).stem for file in files if file}
    there = {path.stem for path in (REPOSITORY / "configs").glob("*.py")}
    assert len(named & there) > 20
    assert {name for name in named - there - written if "_mine" not in name} == set()
