"""The names of classes that a user gives, by colours, in lists and beside labelme's files."""

import numpy as np
import pytest
from PIL import Image
from prepare.test_own import BOX, SIZE, labelme, masks, stored

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.dataset import prepare_own
from fcn_plugin.prepare.own.source import Tell

BACKGROUND_ROAD = "background:0,0,0::\nroad:255,255,255::\n"
PARTS = np.arange(1200).reshape(SIZE) % 3  # 0, 1 and 2


def prepared(tmp_path, label, labelmap=None, classes=None, save=None):
    """Two images with this label; the one that is stored, its classes and what was told."""
    masks(tmp_path / "in", label)
    if save:
        for path in (tmp_path / "in/labels").iterdir():
            save(Image.open(path)).save(path)
    for name, text in {"labelmap.txt": labelmap, "classes.txt": classes}.items():
        if text:
            (tmp_path / "in" / name).write_text(text)
    told: list[str] = []
    prepare_own(tmp_path / "in", tmp_path / "out", tell=Tell(told.append))
    names = (tmp_path / "out/classes.txt").read_text().split()
    return stored(tmp_path / "out", "a"), names, told


# --- labelmap.txt ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("save", "dtype"),
    [(None, np.uint8), (lambda mask: mask.convert("1"), np.uint8), (None, np.uint16)],
    ids=["8 bits", "1 bit", "16 bits"],
)
def test_a_grey_value_is_a_colour_of_the_labelmap(tmp_path, save, dtype):
    """White is the road, and not what is left out."""
    white = (PARTS == 1).astype(dtype)
    found, names, told = prepared(tmp_path, 255 * white, BACKGROUND_ROAD, save=save)
    assert np.array_equal(found, white) and names == ["background", "road"] and not told


def test_big_endian_numbers_are_no_colours(tmp_path):
    """TIFFs of microscopes."""
    masks(tmp_path / "in", PARTS.astype(np.uint8))
    for path in (tmp_path / "in/labels").iterdir():
        big = (127 * PARTS).astype(">u2")
        Image.frombytes("I;16B", SIZE[::-1], big.tobytes()).save(path.with_suffix(".tif"))
        path.unlink()
    labelmap = "background:0,0,0::\nroad:127,127,127::\ncar:254,254,254::\n"
    (tmp_path / "in/labelmap.txt").write_text(labelmap)
    prepare_own(tmp_path / "in", tmp_path / "out")
    assert np.array_equal(stored(tmp_path / "out", "a"), PARTS)


GREYS = "background:0,0,0::\nroad:128,128,128::\ncar:64,64,64::\n"
HUES = "background:0,0,0::\nroad:128,128,128::\ntree:0,128,0::\n"
# labelmap, the grey values of the parts, and what they mean
MEANINGS = {
    "all grey": (GREYS, (0, 128, 64), (0, 1, 2)),
    "all grey, white without a name": (GREYS, (0, 255, 64), (0, 255, 2)),
    "some grey, by colours": (HUES, (0, 128, 255), (0, 1, 255)),
    "some grey, by numbers": (HUES, (0, 2, 255), (0, 2, 255)),
    "left out by name": (GREYS.replace("car", "__ignore__"), (0, 128, 64), (0, 1, 255)),
    "white left out by name": (
        GREYS + "__ignore__:255,255,255::\n__ignore__:254,254,254::\n",
        (254, 128, 255),
        (255, 1, 255),
    ),
    "labelme's background": (GREYS.replace("background", "_background_"), (0, 0, 64), (0, 0, 2)),
}


@pytest.mark.parametrize("meaning", MEANINGS)
def test_grey_labels_with_a_labelmap(tmp_path, meaning):
    labelmap, values, expected = MEANINGS[meaning]
    found, names, _ = prepared(tmp_path, np.array(values, np.uint8)[PARTS], labelmap)
    assert np.array_equal(found, np.array(expected)[PARTS])
    assert "__ignore__" not in names and names[0] == "background"


def test_what_cvat_leaves_out_by_name_is_no_class(tmp_path):
    colours = np.array([[0, 0, 0], [10, 20, 30], [200, 0, 7]], np.uint8)
    labelmap = "__ignore__:10,20,30::\nbackground:0,0,0::\ncat:200,0,7::\n"
    found, names, _ = prepared(tmp_path, colours[PARTS], labelmap)
    assert np.array_equal(found, np.array([0, 255, 1])[PARTS]) and names == ["background", "cat"]


@pytest.mark.parametrize(
    ("labelmap", "values", "message"),
    [
        (BACKGROUND_ROAD, (0, 1, 255), r"a.png: colour 1,1,1 is no class of .*labelmap.txt"),
        (HUES + "sky:255,255,255::\n", (0, 1, 255), r"a.png: colour 1,1,1 is no class"),
        (HUES, (0, 7, 7), r"a.png: label values 7 .* which .*labelmap.txt has no class for"),
    ],
    ids=["all grey", "white named", "no number either"],
)
def test_grey_values_of_no_class(tmp_path, labelmap, values, message):
    with pytest.raises(UserError, match="files have faults"):
        prepared(tmp_path, np.array(values, np.uint8)[PARTS], labelmap)
    (tmp_path / "in/labels/b.png").unlink()
    with pytest.raises(UserError, match=message):
        prepared_one(tmp_path)


def prepared_one(tmp_path):
    """With a label b that has no fault."""
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "in/labels/b.png")
    prepare_own(tmp_path / "in", tmp_path / "out")


def test_a_list_of_classes_beside_a_labelmap_is_told(tmp_path):
    label = 255 * (PARTS == 1).astype(np.uint8)
    _, names, told = prepared(tmp_path, label, BACKGROUND_ROAD, "background\nstreet\n")
    assert names == ["background", "road"] and "classes.txt: not read" in told[0]


# --- black and white ------------------------------------------------------------------------------


def test_white_is_the_second_of_two_classes(tmp_path):
    white = (PARTS == 1).astype(np.uint8)
    found, _, told = prepared(tmp_path, 255 * white, classes="background\nroad\n")
    assert np.array_equal(found, white)
    (line,) = told
    assert "labels: 255 is taken for road" in line


@pytest.mark.parametrize("classes", ["background\nroad\ncar\n", "__ignore__\nroad\ncar\n"])
def test_black_and_white_labels_of_more_classes_are_refused(tmp_path, classes):
    label = 255 * (PARTS == 1).astype(np.uint8)
    with pytest.raises(UserError, match=r"labels: .* 0 and 255, but .*classes.txt names 3"):
        prepared(tmp_path, label, classes=classes)


def test_white_is_left_out_where_any_label_has_numbers(tmp_path):
    label = np.array([0, 1, 255], np.uint8)[PARTS]
    found, _, told = prepared(tmp_path, label, classes="background\nroad\n")
    assert np.array_equal(found, label) and not told


# --- labelme --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["classes.txt", "class_names.txt", "labels.txt"])
def test_the_list_beside_labelmes_files_is_kept_to(tmp_path, file):
    for name in "ab":
        labelme(tmp_path / "in", name, [BOX, BOX | dict(label="ant")])
    (tmp_path / "in" / file).write_bytes(
        b"\xef\xbb\xbf__ignore__\r\n_background_\r\ncat\r\nant\r\n"
    )
    prepare_own(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out/classes.txt").read_text() == "background\ncat\nant\n"
    assert set(np.unique(stored(tmp_path / "out", "a"))) == {0, 2}


def test_a_label_that_is_not_in_the_list_beside_labelmes_files(tmp_path):
    for name in "ab":
        labelme(tmp_path / "in", name)
    (tmp_path / "in/classes.txt").write_text("background\ncats\n")
    with pytest.raises(UserError, match=r"a.json: label 'cat' is not in .*; did you mean 'cats'"):
        prepare_own(tmp_path / "in", tmp_path / "out")
