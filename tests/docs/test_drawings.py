"""The drawings of docs/how_it_works.md, as their scripts draw them now."""

import re
import runpy
from pathlib import Path

import pytest
from tools.running import REPOSITORY

# Its numbers, among others: a drawing's texts are paths, each below a comment that has it in words.
DRAWINGS = {
    "geometry": ("pool3: 88 pixels, x at 8 x - 95.5, 9 + 9 cut", "31 + 37 cut"),
    "blockwise_loss": ("70 x 54, 21 classes: 0.3 MB", "picture: 500 x 375, in 12 blocks"),
}


def texts(drawing: Path) -> list[str]:
    return re.findall("<!-- (.*?) -->", drawing.read_text())


@pytest.mark.parametrize("name", DRAWINGS)
def test_shows_what_the_package_computes(name, tmp_path, monkeypatch):
    drawn = tmp_path / "new" / f"{name}.svg"
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--out", str(drawn)])
    runpy.run_path(str(REPOSITORY / f"docs/figures/{name}.py"))["main"]()
    assert texts(drawn) == texts(REPOSITORY / f"docs/_static/{name}.svg")
    for shown in DRAWINGS[name]:
        assert shown in "\n".join(texts(drawn))


@pytest.mark.parametrize("name", DRAWINGS)
def test_refuses_other_kinds_of_files(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--out", str(tmp_path / "new.jpg")])
    with pytest.raises(SystemExit):
        runpy.run_path(str(REPOSITORY / f"docs/figures/{name}.py"))["main"]()
    assert "a name in .svg or .png" in capsys.readouterr().err
