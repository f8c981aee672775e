"""Label Studio's brush labels: layers by number and name, pictures by the JSON export."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare.own_pictures import SIZE, image, prepare, refusal

ROWS, COLUMNS = (index % 7 < 3 for index in np.indices(SIZE))


def layer(folder: Path, name: str, mask: np.ndarray = ROWS, value: int = 255) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * value).save(folder / f"task-{name}.png")


def export(folder: Path, *paths: str, short: bool = False) -> None:
    """Label Studio's JSON export, or its short form, of tasks from 11 on."""
    data = [dict(note="x", image=path) for path in paths]
    tasks = [
        dict(id=number) | (entry if short else dict(data=entry))
        for number, entry in enumerate(data, start=11)
    ]
    (folder / "export.json").write_text(json.dumps(tasks))


@pytest.mark.parametrize("value", [1, 255])
def test_layers_lie_in_order_of_their_numbers(tmp_path, value):
    folder, pictures = tmp_path / "in", tmp_path / "pictures"
    layer(folder, "11-annotation-3-by-1-tag-wild-cat 2-1", COLUMNS, value)
    layer(folder, "11-annotation-3-by-1-tag-dog-0", ROWS, value)
    layer(folder, "11-annotation-2-by-9-tag-ant-0", ROWS, value)
    layer(folder, "12-annotation-4-tag-dog-0", COLUMNS, value)
    layer(folder, "13-annotation-5-by-me@x.org-tag-dog-0")
    for name in ("train/a b", "train/c", "test/c"):
        image(pictures / f"{name}.jpg")
    paths = ["/data/upload/3/0a1b2c3d-a%20b.jpg", "s3://bucket/test/c.jpg?Expires=9"]
    export(folder, *paths, "/data/local-files/?d=me/train/c.jpg", short=value == 1)
    made = prepare(folder, images=pictures)
    expected = np.where(COLUMNS, 2, ROWS * 1)
    assert np.array_equal(made.label("train_a b"), expected)
    assert np.array_equal(made.label("test_c"), COLUMNS) and np.array_equal(
        made.label("train_c"), ROWS
    )
    assert (made.root / "classes.txt").read_text() == "background\ndog\nwild-cat 2\n"
    assert any("1 tasks have several annotations; the last one is" in note for note in made.notes)


def test_without_an_export_the_number_has_to_be_the_pictures_name(tmp_path):
    folder = tmp_path / "in"
    for number, name in ((7, "7"), (8, "task-8")):
        layer(folder / "brush", f"{number}-annotation-3-by-1-tag-dog-0")
        image(folder / f"images/{name}.jpg")
    assert np.array_equal(prepare(folder).label("7"), ROWS)
    (folder / "images/7.jpg").rename(folder / "images/photo.jpg")
    refusal(folder, r"task-7-.*png: nothing tells which picture task 7 is; .* JSON export")


def test_what_does_not_fit_is_refused(tmp_path):
    folder = tmp_path / "in"
    for number, name in ((11, "a"), (12, "b")):
        layer(folder, f"{number}-annotation-3-by-1-tag-dog-0", COLUMNS.T if name == "a" else ROWS)
        image(folder / f"{name}.jpg")
    export(folder, "a.jpg", "b.jpg")
    refusal(folder, r"task-11-.*png: a label of 30x40 for an image of 40x30")
    export(folder, "a.jpg", "a.jpg")
    refusal(folder, r"task-12-.*png: .*task-11-.*png is of the same image, .*a.jpg;")
    export(folder, "b.jpg", "b.jpg")
    (folder / "export.json").rename(folder / "first.json")
    export(folder, "a.jpg", "b.jpg")
    refusal(folder, r"first.json: task 11 is of b.jpg here, but of a.jpg before")
    (folder / "first.json").unlink()
    export(folder, "a.jpg", "gone.jpg")
    refusal(folder, r"task-12-.*png: no image gone.jpg; .*--images DIR")
