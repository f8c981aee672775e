"""labelme's files: what is drawn of them, of every version, and what is refused."""

import base64
import contextlib
import io
import json
import os
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw
from prepare.own_pictures import BOX, SIZE, labelme, prepare, refusal

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.dataset import prepare_own
from fcn_plugin.prepare.own.labelme_shapes import KINDS, Shape, draw
from fcn_plugin.prepare.own.source import Job

MASK = np.tri(10, 8, dtype=bool)
NUMBERS = {"background": 0, "cat": 7}


def png(array: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def of_labelme(kind: str, points) -> np.ndarray:
    """What labelme's converter makes of a shape: a mask on its own canvas, each by its rule."""
    canvas = Image.new("1", SIZE[::-1])
    brush = ImageDraw.Draw(canvas)
    flat = [tuple(point) for point in points]
    (x, y), (u, v) = flat[0], flat[-1]
    if kind == "polygon":
        brush.polygon(xy=flat, outline=1, fill=1)
    elif kind == "rectangle":
        brush.rectangle(flat, outline=1, fill=1)
    elif kind in ("line", "linestrip"):
        brush.line(xy=flat, fill=1, width=10)
    else:  # circle and point
        d = ((x - u) ** 2 + (y - v) ** 2) ** 0.5 if kind == "circle" else 5
        brush.ellipse([x - d, y - d, x + d, y + d], outline=1, fill=1)
    return np.array(canvas)


POINTS = {
    "polygon": [[2.5, 3.5], [30.2, 8.9], [12, 28.7], [-4, 20]],
    "rectangle": [[3.4, 5.6], [25.5, 19.1]],
    "circle": [[20.3, 15.2], [26.1, 18.8]],
    "line": [[3, 3], [33.3, 22]],
    "linestrip": [[3, 3], [33.3, 22], [8, 25]],
    "point": [[18.2, 11.7]],
}


def drawn(kind: str, points) -> np.ndarray:
    return draw([Shape("cat", kind, points, None)], SIZE, NUMBERS)


def test_a_shape_covers_what_labelmes_converter_gives_it():
    assert set(POINTS) | {"mask", "points", "oriented_rectangle", "rotation"} == set(KINDS)
    for kind, points in POINTS.items():
        expected = of_labelme(kind, points)
        assert expected.any() and not expected.all()
        assert np.array_equal(drawn(kind, points), 7 * expected.astype(np.uint8)), kind
    box = drawn("rectangle", [(3, 5), (20, 9)])
    for corners in ([(20, 9), (3, 5)], [(3, 9), (20, 5)], [(3, 5), (20, 5), (20, 9), (3, 9)]):
        assert np.array_equal(drawn("rectangle", corners), box)
    turned = [(9, 2), (20, 10), (13, 20), (2, 12)]
    for kind in ("oriented_rectangle", "rotation"):  # labelme's and X-AnyLabeling's
        assert np.array_equal(drawn(kind, turned), drawn("polygon", turned))
    both = np.maximum(drawn("point", [(8, 9)]), drawn("point", [(30, 20)]))
    assert np.array_equal(drawn("points", [(8, 9), (30, 20)]), both)


def test_masks_order_background_and_what_is_left_out(tmp_path):
    shapes = [
        dict(label="cat", shape_type="rectangle", points=[[0, 0], [20, 20]]),
        dict(label="dog", shape_type="mask", points=[[10, 4], [17, 13]], mask=png(MASK)),
        dict(label="__ignore__", points=[[0, 0], [4, 0], [4, 4], [0, 4]]),
        dict(label="_background_", shape_type="rectangle", points=[[18, 18], [19, 19]]),
    ]
    labelme(tmp_path / "in", shapes=shapes)
    made = prepare(tmp_path / "in")
    expected = np.zeros(SIZE, np.uint8)
    expected[:21, :21] = 1
    expected[4:14, 10:18][MASK] = 2
    expected[:5, :5] = 255
    expected[18:20, 18:20] = 0
    assert np.array_equal(made.label(), expected)
    assert made.classes == ["background", "cat", "dog"]
    assert "(left out)" in made.lines[0] and f"{100 * 25 / 1200:.2f} %" in made.lines[0]


def test_files_of_old_and_other_versions(tmp_path):
    """Without kind and size, with the image inside; or with sizes as text and a Windows path."""
    labelme(tmp_path / "in", shapes=[dict(label="cat", points=[[1, 1], [9, 1], [9, 9]])])
    old, other = (tmp_path / f"in/{name}.json" for name in "ab")
    image = base64.b64encode(old.with_suffix(".jpg").read_bytes()).decode()
    old.with_suffix(".jpg").unlink()
    changes = {old: dict(imageHeight=None, imageWidth=None, imageData=image)}
    changes[other] = dict(imagePath=r"C:\pictures\b.jpg", imageHeight="30", imageWidth="40")
    for path, change in changes.items():
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    made = prepare(tmp_path / "in")
    assert (made.label("a") == 1).sum() == (made.label("b") == 1).sum() == 45
    assert made.images == ["a.jpg", "b.jpg"]


def test_the_split_may_be_in_the_pictures_folders_only(tmp_path):
    for name, split in (("a", "val"), ("b", "train")):
        labelme(tmp_path / "in/json", name, imagePath=f"../images/{split}2017/{name}.jpg")
        picture = tmp_path / f"in/images/{split}2017/{name}.jpg"
        picture.parent.mkdir(parents=True)
        (tmp_path / f"in/json/{name}.jpg").rename(picture)
    assert prepare(tmp_path / "in").splits == dict(train="b", val="a")


def shape(**changes) -> dict:
    return dict(shapes=[BOX, BOX | changes])


FAULTS = [
    (shape(shape_type="circle", points=[[1, 2]]), r"a.json: shape 2 \(cat\) is a circle of 1 poin"),
    (shape(shape_type=["polygon"]), r"draw it as"),
    (shape(points=[[1], 2]), r"no pairs of numbers"),
    (shape(shape_type="mask", mask="xyz"), r"has a damaged mask"),
    (shape(shape_type="mask", mask=png(MASK)), r"mask that does not fill its box"),
    (dict(imageWidth=41), r"a.json: a label of 41x30 for an image of 40x30; put the image there"),
    (dict(imagePath="", imageData="A%"), r"\(imageData\) is damaged"),
    (dict(imagePath="b.jpg"), r"b.json: .*a.json is of the same image"),
    (dict(shapes=()), r"a.json: not a labelme file"),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS)
def test_a_fault_is_refused_by_name(tmp_path, changes, message):
    labelme(tmp_path / "in", "a", **changes)
    labelme(tmp_path / "in", "b")
    refusal(tmp_path / "in", message)


def test_faults_of_several_files_are_all_noted(tmp_path):
    labelme(tmp_path / "in", "ac", imagePath="gone.jpg")
    labelme(tmp_path / "in", "b")
    os.mkfifo(tmp_path / "in/x.json")  # is no file to read
    notes: list[str] = []
    with pytest.raises(UserError, match="2 files have faults"):
        prepare_own(Job(tmp_path / "in", tmp_path / "out", note=notes.append))
    said = [note.rpartition("/")[2][:12] for note in notes]
    assert said == ["a.json: no i", "c.json: no i"]


def test_any_bytes_are_refused_or_read(tmp_path):
    """Files with bytes changed, cut or put in: an error for the user, or a label of its size."""
    labelme(tmp_path / "in")
    path = tmp_path / "in/a.json"
    content, chance = path.read_bytes(), random.Random(0)
    for number in range(120):
        place, other = (chance.randrange(len(content)) for _ in range(2))
        more = content[other : other + 1] + chance.randbytes(number % 2)
        path.write_bytes(content[:place] + more + content[place + number % 3 :])
        with contextlib.suppress(UserError):
            assert prepare(tmp_path / "in", f"out{number}").label().shape == SIZE
    assert 5 < len(list(tmp_path.glob("out*"))) < 100


def test_a_list_of_classes_is_kept_to(tmp_path):
    labelme(tmp_path / "in", shapes=[BOX, BOX | dict(label="ant")])
    (tmp_path / "in/labels.txt").write_text("not read, for another file is given")
    path = tmp_path / "given"
    path.write_bytes(b"\xef\xbb\xbf__ignore__\r\n_background_\r\ncat\r\nant\r\n")
    made = prepare(tmp_path / "in", classes_file=path)
    assert made.classes == ["background", "cat", "ant"]
    assert set(np.unique(made.label())) == {0, 2}
    path.write_text("cats\nant\n")
    match = "a.json: label 'cat' is not in .*given; did you mean 'cats'"
    refusal(tmp_path / "in", match, classes_file=path)
