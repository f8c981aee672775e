"""A user's own pictures: from labelme, VOC's and flat folders to a data set with configs."""

import base64
import io
import json
import os
import random
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS
from PIL import ExifTags, Image, ImageDraw

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.configs import shipped_configs
from fcn_plugin.prepare.own.dataset import prepare_own
from fcn_plugin.prepare.own.polygons import KINDS, Shape, draw
from fcn_plugin.prepare.own.source import Tell

SIZE = (30, 40)  # height, width
BOX = dict(label="cat", shape_type="rectangle", points=[[5, 6], [14, 15]])
MASK = np.tri(10, 8, dtype=bool)


def png(array: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def image(path: Path, size=SIZE, **settings) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **settings)
    return path


def labelme(folder: Path, name: str, shapes=(BOX,), suffix=".jpg", **changes) -> Path:
    """A file of labelme's and its image; without shapes it is another's."""
    image(folder / f"{name}{suffix}")
    document = dict(
        version="5.5.0",
        flags={},
        shapes=list(shapes) or None,
        imagePath=f"{name}{suffix}",
        imageData=None,
        imageHeight=SIZE[0],
        imageWidth=SIZE[1],
    )
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document | changes))
    return path


def masks(folder: Path, label: np.ndarray, names=("a", "b"), layout=("images", "labels")) -> None:
    for name in names:
        image(folder / layout[0] / f"{name}.jpg", label.shape[:2])
        path = folder / layout[1] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(label).save(path)


def stored(root: Path, name: str) -> np.ndarray:
    return np.array(Image.open(root / "SegmentationClass" / f"{name}.png"))


def listed(root: Path, split: str) -> list[str]:
    return (root / f"ImageSets/Segmentation/{split}.txt").read_text().split()


def tree(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


# --- shapes ---------------------------------------------------------------------------------------


def of_labelme(kind: str, points, size=SIZE) -> np.ndarray:
    """What labelme's converter makes of a shape: a mask on its own canvas, each by its rule."""
    canvas = Image.new("1", size[::-1])
    brush = ImageDraw.Draw(canvas)
    flat = [tuple(point) for point in points]
    if kind == "polygon":
        brush.polygon(xy=flat, outline=1, fill=1)
    elif kind == "rectangle":
        brush.rectangle(flat, outline=1, fill=1)
    elif kind == "circle":
        (x, y), (u, v) = flat
        d = ((x - u) ** 2 + (y - v) ** 2) ** 0.5
        brush.ellipse([x - d, y - d, x + d, y + d], outline=1, fill=1)
    elif kind in ("line", "linestrip"):
        brush.line(xy=flat, fill=1, width=10)
    elif kind == "point":
        ((x, y),) = flat
        brush.ellipse([x - 5, y - 5, x + 5, y + 5], outline=1, fill=1)
    return np.array(canvas)


POINTS = {
    "polygon": [[2.5, 3.5], [30.2, 8.9], [12, 28.7], [-4, 20]],
    "rectangle": [[3.4, 5.6], [25.5, 19.1]],
    "circle": [[20.3, 15.2], [26.1, 18.8]],
    "line": [[3, 3], [33.3, 22]],
    "linestrip": [[3, 3], [33.3, 22], [8, 25]],
    "point": [[18.2, 11.7]],
}


@pytest.mark.parametrize("kind", POINTS)
def test_a_shape_covers_what_labelmes_converter_gives_it(kind):
    label = draw([Shape("cat", kind, POINTS[kind], None)], SIZE, {"background": 0, "cat": 7})
    expected = of_labelme(kind, POINTS[kind])
    assert expected.any() and not expected.all()
    assert np.array_equal(label, 7 * expected.astype(np.uint8))
    moved = [[x + 1, y] for x, y in POINTS[kind]]
    assert not np.array_equal(label, 7 * of_labelme(kind, moved).astype(np.uint8))


def test_corners_in_any_order_and_four_of_them(tmp_path):
    numbers = {"background": 0, "cat": 1}
    label = draw([Shape("cat", "rectangle", [(3, 5), (20, 9)], None)], SIZE, numbers)
    for corners in ([(20, 9), (3, 5)], [(3, 9), (20, 5)], [(3, 5), (20, 5), (20, 9), (3, 9)]):
        assert np.array_equal(
            draw([Shape("cat", "rectangle", corners, None)], SIZE, numbers), label
        )


def test_masks_order_background_and_what_is_left_out(tmp_path):
    mask = dict(label="dog", shape_type="mask", points=[[10, 4], [17, 13]], mask=png(MASK))
    shapes = [
        dict(label="cat", shape_type="rectangle", points=[[0, 0], [20, 20]]),
        mask,
        dict(label="__ignore__", points=[[0, 0], [4, 0], [4, 4], [0, 4]]),
        dict(label="_background_", shape_type="rectangle", points=[[18, 18], [19, 19]]),
    ]
    for name in "ab":
        labelme(tmp_path / "in", name, shapes)
    lines = prepare_own(tmp_path / "in", tmp_path / "out")
    expected = np.zeros(SIZE, np.uint8)
    expected[:21, :21] = 1
    expected[4:14, 10:18][MASK] = 2
    expected[:5, :5] = 255
    expected[18:20, 18:20] = 0
    assert np.array_equal(stored(tmp_path / "out", "a"), expected)
    assert (tmp_path / "out/classes.txt").read_text() == "background\ncat\ndog\n"
    assert "(left out)" in lines[0] and f"{100 * 25 / 1200:.2f} %" in lines[0]


@pytest.mark.parametrize("version", ["3.16.7", "4.5.6", "5.0.1", "6.0.0"])
def test_old_and_new_files(tmp_path, version):
    """Without kinds and sizes, with lineColor, with the image inside, a path from Windows."""
    old = version < "5"
    shapes = [dict(label="cat", points=[[1, 1], [9, 1], [9, 9]]) | ({} if old else BOX)]
    for name in "ab":
        path = labelme(tmp_path, name, shapes, version=version, lineColor=[0, 255, 0, 128])
        document = json.loads(path.read_text())
        if old:
            del document["imageHeight"], document["imageWidth"]
            content = (tmp_path / f"{name}.jpg").read_bytes()
            document["imageData"] = base64.b64encode(content).decode()
            (tmp_path / f"{name}.jpg").unlink()
        else:
            document["imagePath"] = f"..\\{tmp_path.name}\\{name}.jpg"
        path.write_text(json.dumps(document))
    prepare_own(tmp_path, tmp_path / "out")
    assert (stored(tmp_path / "out", "a") == 1).sum() == (45 if old else 100)
    assert len(list((tmp_path / "out/JPEGImages").glob("*.jpg"))) == 2


FAULTS = {
    "a polygon of two points": (
        dict(shapes=[dict(label="cat", points=[[1, 2], [3, 4]])]),
        r"a.json: shape 1 \(cat\) is a polygon of 2 points, not 3 or more",
    ),
    "a circle of three": (
        dict(shapes=[BOX, BOX | dict(shape_type="circle", points=[[1, 2], [3, 4], [5, 6]])]),
        r"a.json: shape 2 \(cat\) is a circle of 3 points, not 2",
    ),
    "an unknown kind": (dict(shapes=[BOX | dict(shape_type="blob")]), r"is a 'blob'; draw it as"),
    "a kind that is no text": (dict(shapes=[BOX | dict(shape_type=["polygon"])]), r"draw it as"),
    "a label of two lines": (
        dict(shapes=[BOX | dict(label="a\nb")]),
        r"'a\\nb' cannot be the name",
    ),
    "no label": (dict(shapes=[BOX | dict(label="")]), r"shape 1 has no label"),
    "points that are none": (dict(shapes=[BOX | dict(points=[[1], 2])]), r"no pairs of numbers"),
    "not a number": (
        dict(shapes=[BOX | dict(points=[[1, 2], [3, "nan"]])]),
        r"no pairs of numbers",
    ),
    "a mask that is none": (
        dict(shapes=[BOX | dict(shape_type="mask", mask="xyz")]),
        r"has a damaged mask",
    ),
    "a mask without any": (dict(shapes=[BOX | dict(shape_type="mask")]), r"has a damaged mask"),
    "a mask of another size": (
        dict(shapes=[BOX | dict(shape_type="mask", mask=png(MASK))]),
        r"mask that does not fill its box",
    ),
    "another size": (
        dict(imageWidth=41),
        r"a.json: a label of 41x30 for an image of 40x30; put the image there that was labelled",
    ),
    "no image": (dict(imagePath="c.jpg"), r"a.json: its image 'c.jpg' is not there"),
    "an image that is none": (
        dict(imagePath="", imageData="AAAA"),
        r"a.json: damaged image, no image format is recognised",
    ),
    "image data that are none": (dict(imagePath="", imageData="A%"), r"\(imageData\) is damaged"),
    "the image of another": (dict(imagePath="b.jpg"), r"b.json: a.json is of the same image"),
    "no labelme": (dict(shapes=()), r"a.json: no file of labelme's"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_by_name(tmp_path, fault):
    changes, message = FAULTS[fault]
    labelme(tmp_path / "in", "a", **changes)
    labelme(tmp_path / "in", "b")
    with pytest.raises(UserError, match=message) as error:
        prepare_own(tmp_path / "in", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    labelme(tmp_path / "in", "a")
    os.mkfifo(tmp_path / "in" / "x.json")
    with pytest.raises(UserError, match=r"x\.json: a pipe"):
        prepare_own(tmp_path / "in", tmp_path / "out")


def test_paths_of_another_machine_and_sizes_as_text(tmp_path):
    """The image beside the file is the one that is meant."""
    for name in "ab":
        path = rf"C:\pictures\{name}.jpg"
        labelme(tmp_path / "in", name, imagePath=path, imageHeight="30", imageWidth="40")
    prepare_own(tmp_path / "in", tmp_path / "out")
    assert (stored(tmp_path / "out", "a") == 1).sum() == 100


def test_folders_that_are_called_like_pictures_are_none(tmp_path):
    masks(tmp_path / "in", np.eye(*SIZE, dtype=np.uint8))
    (tmp_path / "in/classes.txt").write_text("background\ncat\n")
    for folder in ("images/c.jpg", "labels/c.png"):
        (tmp_path / "in" / folder).mkdir()
    prepare_own(tmp_path / "in", tmp_path / "out")
    assert sorted(path.stem for path in (tmp_path / "out/JPEGImages").iterdir()) == ["a", "b"]


def test_faults_of_several_files_are_all_told(tmp_path):
    for name in "abc":
        labelme(tmp_path / "in", name, imagePath="gone.jpg" if name != "b" else "b.jpg")
    (tmp_path / "in/d.json").write_bytes(b'{"shapes": [')
    told: list[str] = []
    with pytest.raises(UserError, match="3 files have faults"):
        prepare_own(tmp_path / "in", tmp_path / "out", tell=Tell(told.append))
    assert [Path(line.split(":")[0]).name for line in told] == ["a.json", "c.json", "d.json"]


def test_any_bytes_are_refused_or_read(tmp_path):
    """300 files with bytes changed, cut or put in: a line, or a label of the image's size."""
    content = labelme(tmp_path / "in", "a").read_bytes()
    labelme(tmp_path / "in", "b")
    rng, refused = random.Random(0), 0
    for number in range(300):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.choice((0, 1, 1, 40))] = rng.randbytes(rng.choice((0, 1)))
        (tmp_path / "in/a.json").write_bytes(damaged)
        try:
            prepare_own(tmp_path / "in", tmp_path / f"out{number}")
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
            assert not (tmp_path / f"out{number}").exists()
        else:
            assert stored(tmp_path / f"out{number}", "a").shape == SIZE
    assert 50 < refused < 300


# --- classes --------------------------------------------------------------------------------------


def test_a_list_of_classes_and_a_label_that_is_not_in_it(tmp_path):
    for name in "ab":
        labelme(tmp_path / "in", name)
    classes = tmp_path / "labels.txt"
    classes.write_text("__ignore__\n_background_\ndog\ncat\n")
    prepare_own(tmp_path / "in", tmp_path / "out", classes)
    assert set(np.unique(stored(tmp_path / "out", "a"))) == {0, 2}
    assert (tmp_path / "out/classes.txt").read_text() == "background\ndog\ncat\n"
    classes.write_text("cats\ndog\n")
    with pytest.raises(UserError, match=r"'cat' is not in .*labels.txt; did you mean 'cats'"):
        prepare_own(tmp_path / "in", tmp_path / "other", classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\na\n", "class 'a' is there twice"),
        ("background\n", "1 classes, background; there have to be 2 to 255"),
        ("\n".join(map(str, range(256))), "256 classes"),
        ("", "no name at all"),
    ],
    ids=["twice", "one", "too many", "none"],
)
def test_lists_of_classes_that_will_not_do(tmp_path, text, message):
    masks(tmp_path / "in", np.zeros(SIZE, np.uint8))
    (tmp_path / "in/classes.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        prepare_own(tmp_path / "in", tmp_path / "out")


# --- labels that are pictures ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout",
    [
        ("JPEGImages", "SegmentationClass"),
        ("JPEGImages", "SegmentationClassPNG"),
        ("images", "masks"),
    ],
    ids="/".join,
)
def test_indices(tmp_path, layout):
    label = np.arange(1200, dtype=np.uint8).reshape(SIZE) % 3
    label[0] = 255
    masks(tmp_path / "in", label, layout=layout)
    (tmp_path / "in/class_names.txt").write_text("_background_\ncat\ndog\n")
    prepare_own(tmp_path / "in", tmp_path / "out")
    for name in "ab":
        assert np.array_equal(stored(tmp_path / "out", name), label)


def test_mits_grey_labels_whose_0_is_left_out(tmp_path):
    label = np.arange(1200, dtype=np.uint8).reshape(SIZE) % 3
    masks(tmp_path / "in", label)
    (tmp_path / "in/classes.txt").write_text("__ignore__\nwall\nsky\n")
    prepare_own(tmp_path / "in", tmp_path / "out")
    assert np.array_equal(stored(tmp_path / "out", "a"), np.array([255, 0, 1])[label])


LABELMAP = """# label:color_rgb:parts:actions
cat:10,20,30::
background:0,0,0::
dog:200,0,7:head,tail:run
"""


@pytest.mark.parametrize("palette", [False, True], ids=["rgb", "palette"])
def test_cvats_colours(tmp_path, palette):
    """A palette PNG goes by its colours, too: its numbers are whoever's made it."""
    colours = np.array([[0, 0, 0], [10, 20, 30], [200, 0, 7], [224, 224, 192]], np.uint8)
    label = np.arange(1200).reshape(SIZE) % 4
    layout = ("JPEGImages", "SegmentationClass")
    masks(tmp_path / "in", colours[label], layout=layout)
    if palette:
        for path in (tmp_path / "in/SegmentationClass").iterdir():
            Image.open(path).quantize(8).save(path)
    (tmp_path / "in/labelmap.txt").write_text(LABELMAP)
    prepare_own(tmp_path / "in", tmp_path / "out")
    assert np.array_equal(stored(tmp_path / "out", "a"), np.array([0, 1, 2, 255])[label])
    assert (tmp_path / "out/classes.txt").read_text() == "background\ncat\ndog\n"
    palette_out = Image.open(tmp_path / "out/SegmentationClass/a.png").getpalette()
    assert palette_out[:9] == [0, 0, 0, 10, 20, 30, 200, 0, 7]


def write(path: str, content: str):
    return lambda folder: (folder / path).write_text(content)


def colour(folder: Path) -> None:
    masks(folder, np.full((*SIZE, 3), 9, np.uint8))
    (folder / "labelmap.txt").write_text(LABELMAP)


def turned(folder: Path) -> None:
    """An image that is stored lying, with a label of the same."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image(folder / "images/a.jpg", exif=exif)


def animation(folder: Path) -> None:
    (folder / "labels/a.png").write_bytes((folder / "labels/a.png").read_bytes()[:-30])


WRONG = {
    "a value without a class": (
        lambda folder: masks(folder, np.full(SIZE, 2, np.uint8)),
        r"a.png: label values 2 \(1200 px\), which .*classes.txt has no class for",
    ),
    "a colour without a class": (colour, r"a.png: colour 9,9,9 is no class of .*labelmap.txt"),
    "colours without a list of them": (
        lambda folder: masks(folder, np.full((*SIZE, 3), 9, np.uint8)),
        r"a.png: label in colour",
    ),
    "nothing says the classes": (
        lambda folder: (folder / "classes.txt").unlink(),
        r"nothing says what its labels are; give --classes",
    ),
    "a bad labelmap": (write("labelmap.txt", "cat;1,2"), r"'cat;1,2' is not name:red,green,blue::"),
    "a colour out of range": (write("labelmap.txt", "a:256,0,0::"), r"'a:256,0,0::' is not name:"),
    "a class without a name": (
        write("labelmap.txt", "a:0,0,0::\n:9,0,0::\n"),
        r"'' cannot be the name of a class",
    ),
    "a colour twice": (
        write("labelmap.txt", "a:0,0,0::\nb:0,0,0::\n"),
        r"'b:0,0,0::' has another class's colour",
    ),
    "another size": (
        lambda folder: image(folder / "images/a.jpg", (30, 41)),
        r"a.png: a label of 40x30 for an image of 41x30",
    ),
    "turned by EXIF": (turned, r"a label of 40x30 for an image of 30x40; the image is turned by"),
    "a label without its image": (
        lambda folder: (folder / "images/a.jpg").unlink(),
        r"a.png: no image a in ",
    ),
    "two of a name": (
        lambda folder: image(folder / "images/a.png"),
        r"images/a.png: a.jpg has the same name",
    ),
    "a test image of a name": (
        lambda folder: image(folder / "test/a.jpg"),
        r"test/a.jpg: .*images/a.jpg has the same name",
    ),
    "labels of test images": (
        lambda folder: labelme(folder / "test", "c"),
        r"test: is not read, for it has labels; .* name them in .*Segmentation/test.txt",
    ),
    "one image": (
        lambda folder: (folder / "labels/a.png").unlink(),
        r"1 labelled image; at least 2 are needed",
    ),
    "nothing but folders": (
        lambda folder: (folder / "images").rename(folder / "below"),
        r"with the files right in them",
    ),
    "a damaged label": (animation, r"a.png: damaged label"),
    "a damaged image": (write("images/a.jpg", "\0"), r"images/a.jpg: damaged image"),
    "a name with an end of line": (
        lambda folder: image(folder / "test/c\nd.jpg"),
        r"a name that a list cannot hold",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused_by_name(tmp_path, wrong):
    change, message = WRONG[wrong]
    masks(tmp_path / "in", np.eye(*SIZE, dtype=np.uint8))
    (tmp_path / "in/classes.txt").write_text("background\ncat\n")
    change(tmp_path / "in")
    with pytest.raises(UserError) as error:
        prepare_own(tmp_path / "in", tmp_path / "out", tell=Tell())
    assert not (tmp_path / "out").exists()
    said = str(error.value)
    if "files have faults" in said:  # both labels are wrong: the first is told as a note
        told: list[str] = []
        with pytest.raises(UserError):
            prepare_own(tmp_path / "in", tmp_path / "out", tell=Tell(told.append))
        said = next(line for line in told if "not read" not in line)
    assert re.search(message, said), said


def test_a_turned_image_with_a_label_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name in "ab":
        labelme(tmp_path / "in", name, imageHeight=SIZE[1], imageWidth=SIZE[0])
        image(tmp_path / f"in/{name}.jpg", exif=exif)
    prepare_own(tmp_path / "in", tmp_path / "out")
    assert stored(tmp_path / "out", "a").shape == SIZE[::-1]


def test_a_class_that_no_training_image_has_is_told(tmp_path):
    label = np.zeros(SIZE, np.uint8)
    label[5:9], label[0] = 2, 255
    masks(tmp_path / "in", label)
    (tmp_path / "in/classes.txt").write_text("background\ncat\ndog\n")
    told: list[str] = []
    prepare_own(tmp_path / "in", tmp_path / "out", tell=Tell(told.append))
    (line,) = told
    assert "no training image has cat (value 1); 255 is no class" in line


# --- splits, formats, the finished tree -----------------------------------------------------------


def test_a_split_is_drawn_and_stays_when_images_are_added(tmp_path):
    names = [f"n{number}" for number in range(20)]
    masks(tmp_path / "in", np.eye(*SIZE, dtype=np.uint8), names)
    (tmp_path / "in/classes.txt").write_text("background\ncat\n")
    prepare_own(tmp_path / "in", tmp_path / "out")
    train, val = listed(tmp_path / "out", "train"), listed(tmp_path / "out", "val")
    assert len(val) == 4 and sorted(train + val) == sorted(names)
    prepare_own(tmp_path / "in", tmp_path / "other" / "out")
    assert tree(tmp_path / "other" / "out").keys() == tree(tmp_path / "out").keys()
    assert listed(tmp_path / "other" / "out", "val") == val
    prepare_own(tmp_path / "in", tmp_path / "seed", seed=1)
    assert listed(tmp_path / "seed", "val") != val
    masks(tmp_path / "in", np.eye(*SIZE, dtype=np.uint8), ["more"])
    prepare_own(tmp_path / "in", tmp_path / "more")
    assert len(set(listed(tmp_path / "more", "val")) & set(val)) >= 3


def test_lists_of_ones_own(tmp_path):
    masks(tmp_path / "in", np.eye(*SIZE, dtype=np.uint8), "abcd")
    image(tmp_path / "in/images/e.jpg")
    (tmp_path / "in/classes.txt").write_text("background\ncat\n")
    lists = tmp_path / "in/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for name, text in dict(train="c\na\n", val="d\n", test="e\n").items():
        (lists / f"{name}.txt").write_text(text)
    lines = prepare_own(tmp_path / "in", tmp_path / "out")
    assert listed(tmp_path / "out", "train") == ["c", "a"]
    assert lines[-1].endswith("out: train 2, val 1, test 1 images, 2 classes")
    assert not (tmp_path / "out/JPEGImages/b.jpg").exists()
    for text, message in {
        "a\n": "'a' is in train.txt, too",
        "f\n": "'f' is no picture in ",
        "b\ne\n": "'e' is in test.txt, too",
        "": "no names in it",
        "d\nd\n": "'d' is there twice",
    }.items():
        (lists / "val.txt").write_text(text)
        with pytest.raises(UserError, match=f"val.txt: {message}"):
            prepare_own(tmp_path / "in", tmp_path / "other")


def test_images_of_several_formats_become_png_with_the_same_pixels(tmp_path):
    masks(tmp_path / "in", np.eye(*SIZE, dtype=np.uint8), "abc")
    (tmp_path / "in/classes.txt").write_text("background\ncat\n")
    (tmp_path / "in/images/b.jpg").unlink()
    image(tmp_path / "in/images/b.bmp")
    told: list[str] = []
    prepare_own(tmp_path / "in", tmp_path / "out", tell=Tell(told.append))
    assert told == ["2 of 3 images are JPEG; all are PNG now"]
    made = sorted((tmp_path / "out/JPEGImages").iterdir())
    assert [path.name for path in made] == ["a.png", "b.png", "c.png"]
    for path, source in zip(made, ("a.jpg", "b.bmp", "c.jpg"), strict=True):
        original = np.asarray(Image.open(tmp_path / "in/images" / source), np.int16)
        # OpenCV and Pillow may round a JPEG's colours differently.
        assert np.abs(np.asarray(Image.open(path), np.int16) - original).max() <= 3


def test_a_finished_tree_is_left_and_another_is_not_overwritten(tmp_path):
    masks(tmp_path / "in", np.eye(*SIZE, dtype=np.uint8))
    (tmp_path / "in/classes.txt").write_text("background\ncat\n")
    lines = prepare_own(tmp_path / "in", tmp_path / "out")
    before = tree(tmp_path / "out")
    (tmp_path / "out/classes.txt").touch()
    assert prepare_own(tmp_path / "in", tmp_path / "out") == lines
    (tmp_path / "in/classes.txt").write_text("background\ndog\n")
    with pytest.raises(UserError, match="was made of other files or options"):
        prepare_own(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UserError, match="is no data set made by this command"):
        prepare_own(tmp_path / "in", tmp_path / "in")
    assert tree(tmp_path / "out") == before


def test_what_a_killed_run_left_is_cleared(tmp_path):
    masks(tmp_path / "in", np.eye(*SIZE, dtype=np.uint8))
    (tmp_path / "in/classes.txt").write_text("background\ncat\n")
    stale = tmp_path / ".out.partial/JPEGImages/stale.jpg"
    stale.parent.mkdir(parents=True)
    stale.touch()
    prepare_own(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / ".out.partial").exists()
    assert sorted(path.name for path in (tmp_path / "out/JPEGImages").iterdir()) == [
        "a.jpg",
        "b.jpg",
    ]


# --- the configs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SIZE, (1200, 900)], ids=["small", "large"])
def test_the_configs_are_whole_and_fit(tmp_path, size):
    masks(tmp_path / "in", np.zeros(size, np.uint8), "ab")
    image(tmp_path / "in/test/new.jpg", size)
    (tmp_path / "in/classes.txt").write_text('it\'s\n"thing"\n')
    told: list[str] = []
    *_, commands, _ = prepare_own(tmp_path / "in", tmp_path / "my data.1", tell=Tell(told.append))
    assert Path(shlex.split(commands)[-1]).is_file()  # as a shell takes it
    assert any('no training image has "thing" (value 1)' in line for line in told)
    configs = sorted((tmp_path / "my data.1").glob("fcn8s*.py"))
    names = ["fcn8s_vgg16-bn_my-data-1-scratch.py", "fcn8s_vgg16_my-data-1.py"]
    assert [path.name for path in configs] == names
    for path in configs:
        cfg = Config.fromfile(path)
        height, width = cfg.crop_size
        assert (height, width) == (SIZE if size == SIZE else (512, 512))
        assert cfg.model.data_preprocessor.size == (height, width)
        assert cfg.model.decode_head.num_classes == 2
        assert cfg.train_cfg.max_iters >= 400
        train = DATASETS.build(cfg.train_dataloader.dataset)
        assert train.metainfo["classes"] == ["it's", '"thing"']
        # An image that was made small by chance is smaller than a crop, and padded later.
        assert np.all(np.array(train[0]["inputs"].shape[1:]) <= (height, width))
        val = DATASETS.build(cfg.val_dataloader.dataset)
        assert val[0]["inputs"].shape[1:] == size
        assert val[0]["data_samples"].gt_sem_seg.shape == size
        test = cfg.test_dataloader.dataset.to_dict() | cfg.splits.test.to_dict()
        assert "gt_sem_seg" not in DATASETS.build(test | dict(test_mode=True))[0]["data_samples"]
    cfg.model.backbone.init_cfg = None
    cfg.model.backbone.update(base_channels=2, fc_channels=4)
    cfg.model.decode_head.in_channels = (8, 16, 4)
    MODELS.build(cfg.model)


def test_the_shipped_configs_are_found_and_named_so_that_a_clone_can_be_moved(tmp_path):
    assert (shipped_configs() / "_base_/runtime.py").is_file()
    from fcn_plugin.prepare.own.configs import _base_folder

    inside = shipped_configs().parent / "data/mine"
    assert _base_folder(inside) == "../../configs"
    assert _base_folder(tmp_path) == shipped_configs().as_posix()


def test_every_kind_of_shape_is_drawn_by_something():
    assert set(POINTS) | {"mask", "points", "oriented_rectangle"} == set(KINDS)
