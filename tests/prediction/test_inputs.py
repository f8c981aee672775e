"""Files, folders and globs."""

from pathlib import Path

import pytest

from fcn_plugin.errors import UserError
from fcn_plugin.prediction.inputs import MARK, check_target, find_images

FILES = "a.jpg b.PNG a[1].jpg sub/a.jpg sub/deep/c.v2.tif notes.txt odd out/labels/a.png"
HIDDEN = ".hidden.jpg .thumbs/a.jpg"


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in f"{FILES} {HIDDEN}".split():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(tmp_path)


# what is given -> name=image, in this order, or what is said of it
GIVEN = {
    ".": "a=a.jpg a[1]=a[1].jpg b=b.PNG sub/a=sub/a.jpg sub/deep/c.v2=sub/deep/c.v2.tif",
    "sub b.PNG odd": "a=sub/a.jpg deep/c.v2=sub/deep/c.v2.tif b=b.PNG odd=odd",
    "sub/**/*": "a=sub/a.jpg deep/c.v2=sub/deep/c.v2.tif",
    "*.txt": "notes=notes.txt",
    "a.jpg ./a.jpg a[1].jpg": "a=a.jpg a[1]=a[1].jpg",  # a file, though it could be a glob
    "none.jpg": r"none.jpg: no such image or folder",
    "out": r"out: no images there",
    "a.jpg sub/a.jpg": r"sub/a.jpg: a.jpg has the same name, .* give the folder above",
}


@pytest.mark.parametrize("given", GIVEN)
def test_files_folders_and_globs(here, given):
    if ":" in GIVEN[given]:
        with pytest.raises(UserError, match=GIVEN[given]):
            find_images(given.split(), Path("out"))
    else:
        images = find_images(given.split(), Path("out"))
        assert " ".join(f"{name}={file}" for name, file in images.items()) == GIVEN[given]


def test_labels_of_someone_else_are_neither_read_nor_overwritten(here):
    assert list(find_images(["out"], Path("sub"))) == [Path("labels/a")]  # not this run's
    check_target(Path("sub"))
    with pytest.raises(UserError, match=r"out/labels: .* not written by an earlier prediction"):
        check_target(Path("out"))
    Path("out", MARK).touch()
    check_target(Path("out"))
    with pytest.raises(UserError, match=r"a\.jpg: is a file"):
        check_target(Path("a.jpg"))
