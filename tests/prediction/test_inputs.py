"""Files, folders and globs."""

from pathlib import Path

import pytest

from fcn_plugin.errors import UserError
from fcn_plugin.prediction.inputs import MARK, check_target, find_images

FILES = (
    "a.jpg",
    "b.PNG",
    "sub/a.jpg",
    "sub/deep/c.v2.tif",
    "other/a.jpg",
    "notes.txt",
    ".hidden.jpg",
    ".thumbs/a.jpg",
    "odd",
    "out/labels/a.png",
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in FILES:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["."], {"a": "a.jpg", "b": "b.PNG", "other/a": "other/a.jpg", "sub/a": "sub/a.jpg"}),
        (["sub", "b.PNG"], {"a": "sub/a.jpg", "deep/c.v2": "sub/deep/c.v2.tif", "b": "b.PNG"}),
        (["odd"], {"odd": "odd"}),
        (["*/a.jpg"], {"other/a": "other/a.jpg", "sub/a": "sub/a.jpg"}),
        (["sub/**/*"], {"a": "sub/a.jpg", "deep/c.v2": "sub/deep/c.v2.tif"}),
        (["*.jpg", "a.jpg"], {"a": "a.jpg"}),
    ],
    ids=["folder", "order", "any suffix", "glob", "deep glob", "twice"],
)
def test_found(here, given, found):
    if given == ["."]:
        found = {**found, "sub/deep/c.v2": "sub/deep/c.v2.tif"}
    images = find_images(given, Path("out"))
    assert {str(name): str(file) for name, file in images.items()} == found
    assert [str(name) for name in images] == list(found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["none.jpg"], "none.jpg: no such image or folder"),
        (["*.bmp"], r"\*\.bmp: no images there; give files, folders or globs of \.bmp"),
        (["out"], "out: no images there"),
        (["a.jpg", "sub/a.jpg"], "sub/a.jpg: a.jpg has the same name, .* give the folder above"),
    ],
)
def test_refused(here, given, message):
    with pytest.raises(UserError, match=message):
        find_images(given, Path("out"))


@pytest.mark.parametrize("out", [".", "sub"])
def test_predictions_may_go_where_the_images_are(here, out):
    written = Path(out, "overlays", "a.jpg")
    written.parent.mkdir()
    written.touch()
    assert list(find_images(["sub"], Path(out))) == [Path("a"), Path("deep/c.v2")]


def test_labels_of_someone_else_are_not_overwritten(here):
    check_target(Path("new"))
    check_target(Path("sub"))
    with pytest.raises(UserError, match="out/labels: is there and has no predictions"):
        check_target(Path("out"))
    Path("out", MARK).touch()
    check_target(Path("out"))
    with pytest.raises(UserError, match=r"a\.jpg: is a file"):
        check_target(Path("a.jpg"))


def test_a_brackets_name_is_a_file_first(here):
    Path("a[1].jpg").touch()
    assert find_images(["a[1].jpg"], Path("out")) == {Path("a[1]"): Path("a[1].jpg")}
