"""Labels that are pictures: indices, colours and grey, and what they stand for."""

import numpy as np
import pytest
from data.pictures import exif
from PIL import Image
from prepare.own_pictures import EYE, SIZE, image, masks, prepare, refusal

PARTS = np.arange(1200).reshape(SIZE) % 3  # 0, 1 and 2
LAYOUTS = [("JPEGImages", "SegmentationClass"), ("JPEGImages", "SegmentationClassPNG")]
LAYOUTS += [("images", folder) for folder in ("labels", "masks", "annotations")]


@pytest.mark.parametrize("layout", LAYOUTS, ids="/".join)
def test_indices(tmp_path, layout):
    label = np.array([0, 2, 255], np.uint8)[PARTS]
    masks(tmp_path / "in", label, layout=layout, classes=None)
    (tmp_path / "in/class_names.txt").write_text("_background_\ncat\ndog\n")
    for folder in layout:  # folders that are called like pictures are none
        (tmp_path / "in" / folder / "c.png").mkdir()
    made = prepare(tmp_path / "in")
    assert np.array_equal(made.label("a"), label) and np.array_equal(made.label("b"), label)
    assert made.images == ["a.jpg", "b.jpg"]
    assert "| cat        |     1 |     0 |   0 |  0.00 % |" in made.lines[0]


LABELMAP = """# label:color_rgb:parts:actions
cat:10,20,30::
background:0,0,0::
dog:200,0,7:head,tail:run
"""
TWO_COLOURS = "background:0,0,0::\nroad:255,255,255::\n"
GREYS = "background:0,0,0::\nroad:128,128,128::\ncar:64,64,64::\n"
HUES = "background:0,0,0::\nroad:128,128,128::\ntree:0,128,0::\n"
LEFT_OUT = "__ignore__:255,255,255::\n__ignore__:254,254,254::\n"


def with_labelmap(folder, label, labelmap: str, **settings) -> None:
    masks(folder, label, classes=None, **settings)
    (folder / "labelmap.txt").write_text(labelmap)


@pytest.mark.parametrize("palette", [False, True], ids=["rgb", "palette"])
def test_cvats_colours(tmp_path, palette):
    """A palette PNG goes by its colours, too: its numbers are whoever's made it."""
    colours = np.array([[0, 0, 0], [10, 20, 30], [200, 0, 7], [224, 224, 192]], np.uint8)
    label = np.arange(1200).reshape(SIZE) % 4
    with_labelmap(tmp_path / "in", colours[label], LABELMAP)
    if palette:
        for path in (tmp_path / "in/labels").iterdir():
            Image.open(path).quantize(8).save(path)
    made = prepare(tmp_path / "in")
    assert np.array_equal(made.label(), np.array([0, 1, 2, 255])[label])
    assert made.classes == ["background", "cat", "dog"]
    written = Image.open(made.root / "SegmentationClass/a.png").getpalette()
    assert written[:9] == [0, 0, 0, 10, 20, 30, 200, 0, 7]


@pytest.mark.parametrize(
    ("text", "values", "meaning"),
    [
        ("__ignore__\nwall\nsky\n", (0, 1, 2), (255, 0, 1)),  # a list of classes, as MIT's
        (TWO_COLOURS, (0, 255, 0), (0, 1, 0)),  # white is the road, and not what is left out
        (GREYS, (0, 255, 64), (0, 255, 2)),
        (HUES, (0, 128, 255), (0, 1, 255)),
        (HUES, (0, 2, 255), (0, 2, 255)),  # no colours, but numbers
        (GREYS + LEFT_OUT, (254, 128, 255), (255, 1, 255)),
        (GREYS.replace("background", "_background_"), (0, 0, 64), (0, 0, 2)),
    ],
)
def test_what_values_and_colours_mean(tmp_path, text, values, meaning):
    masks(tmp_path / "in", np.array(values, np.uint8)[PARTS], classes=None)
    (tmp_path / "in" / ("labelmap.txt" if "::" in text else "classes.txt")).write_text(text)
    made = prepare(tmp_path / "in")
    assert np.array_equal(made.label(), np.array(meaning)[PARTS])
    assert "_" not in "".join(made.classes)
    assert not any("is taken for" in note for note in made.notes)


def test_white_is_the_second_of_two_classes_where_no_label_has_numbers(tmp_path):
    masks(tmp_path / "in", 255 * EYE)
    made = prepare(tmp_path / "in")
    assert np.array_equal(made.label(), EYE)
    (note,) = made.notes
    assert "labels: 255 is taken for cat" in note
    (tmp_path / "in/classes.txt").write_text("background\nroad\ncar\n")
    refusal(tmp_path / "in", r"labels: .* 0 and 255, but .*classes.txt names 3")
    (tmp_path / "in/labelmap.txt").write_text(TWO_COLOURS)
    made = prepare(tmp_path / "in", "by colours")
    assert made.classes == ["background", "road"] and "classes.txt: not read" in made.notes[0]


def write(path: str, content: str):
    return lambda folder: (folder / path).write_text(content)


def remove(path: str):
    return lambda folder: (folder / path).unlink()


def picture(path: str, *size, **settings):
    return lambda folder: image(folder / path, *size, **settings)


def values(*three, labelmap: str = ""):
    """Labels of these values or colours."""

    def change(folder) -> None:
        masks(folder, np.array(three, np.uint8)[PARTS])
        if labelmap:
            (folder / "labelmap.txt").write_text(labelmap)

    return change


def unnamed(*three):
    return lambda folder: (values(*three)(folder), (folder / "classes.txt").unlink())


WRONG = [
    (values(2, 2, 2), r"a.png: label values 2 \(1200 px\), which .*classes.txt has no class for"),
    (values(*[(9, 9, 9)] * 3, labelmap=LABELMAP), r"a.png: colour 9,9,9 is no class of .*map.txt"),
    (values(0, 1, 255, labelmap=TWO_COLOURS), r"a.png: colour 1,1,1 is no class of .*labelmap.txt"),
    (values(0, 7, 7, labelmap=HUES), r"a.png: label values 7 .* which .*labelmap.txt has no class"),
    (unnamed(0, 1, 2), r"labels: labels have the values 0-2, and no file names .* --classes FILE"),
    (unnamed(*[(9, 8, 9)] * 3), r"labels: labels have colours, and no file names the classes"),
    (write("labelmap.txt", "a:256,0,0::"), r"'a:256,0,0::' has a level above 255"),
    (write("classes.txt", "a\nb\na\n"), r"class 'a' is there twice"),
    (write("classes.txt", "background\n"), r"1 classes, background; there have to be 2 to 255"),
    (picture("images/a.jpg", (30, 41)), r"a.png: a label of 40x30 for an image of 41x30"),
    (picture("images/a.jpg", exif=exif(6)), r"an image of 30x40; the image is turned by"),
    (remove("images/a.jpg"), r"a.png: no image a; add it, .* --images DIR"),
    (write("images/a.jpg", "\0"), r"images/a.jpg: damaged image"),
    (picture("test/c\nd.jpg"), r"a name that a list cannot hold"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_wrong_is_refused_by_name(tmp_path, change, message):
    masks(tmp_path / "in")
    change(tmp_path / "in")
    refusal(tmp_path / "in", message)
