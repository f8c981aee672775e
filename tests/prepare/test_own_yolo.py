"""YOLO's segmentation labels: what is drawn, by whose split and names, and what is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from prepare.own_pictures import SIZE, image, prepare, refusal

YAML = "path: ../datasets/x\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"
BOX = "0 0.5 0.5 0.2 0.2"


def rectangle(number: int, left, top, right, bottom) -> str:
    """A line for the pixels left <= x <= right, top <= y <= bottom."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) + 0.3
    fractions = (corners / SIZE[::-1]).ravel()
    return " ".join([str(number), *(f"{fraction:.6f}" for fraction in fractions)])


CAT, DOG = rectangle(0, 4, 5, 19, 24), rectangle(1, 10, 10, 12, 14)


def yolo(folder: Path, yaml: str | None = YAML, layout="images/{}", **texts: str | None) -> Path:
    """A picture for each name that begins with its split, ``train_a``, and its text unless None."""
    for name, text in texts.items():
        picture = folder / layout.format(name.partition("_")[0]) / f"{name[-1]}.jpg"
        image(picture)
        if text is not None:
            labels = Path(str(picture.parent.relative_to(folder)).replace("images", "labels"))
            (folder / labels).mkdir(parents=True, exist_ok=True)
            (folder / labels / f"{name[-1]}.txt").write_text(text)
    if yaml is not None:
        (folder / "data.yaml").write_text(yaml)
    return folder


def test_polygons_are_filled_as_ultralytics_fills_them_the_smaller_on_top(tmp_path):
    points = np.random.default_rng(0).uniform(-0.009, 1.009, (7, 2))
    line = " ".join(["1", *map(str, points.ravel())])
    folder = yolo(tmp_path / "in", train_a=f"{DOG}\n\n{CAT}\n", train_b="", val_c=line)
    image(folder / "images/train/d.jpg")
    image(folder / "cover.png")
    made = prepare(folder)
    expected = np.zeros(SIZE, np.uint8)
    expected[5:25, 4:20] = 1
    expected[10:15, 10:13] = 2
    assert np.array_equal(made.label("a"), expected)
    mask = np.zeros(SIZE, np.uint8)
    pixels = (points.clip(0, 1) * SIZE[::-1]).astype(np.int32)
    assert np.array_equal(made.label("c"), cv2.fillPoly(mask, [pixels.reshape(1, -1, 2)], 2))
    assert not made.label("b").any() and not made.label("d").any()
    assert made.splits == dict(train="abd", val="c") and made.classes == [
        "background",
        "cat",
        "dog",
    ]
    said = " ".join((made.layout, *made.notes))
    assert "2 pictures without a polygon are all background" in said and "3 files" in said
    assert "1 images without a label are left out" in said


SPLITS = {
    "images/{}": "path: C:\\me\\x\ntrain: [images/train]\nval: images/val\n",
    "{}/images": "train: /content/x/train/images\nval: ../val/images\ntest: ../test/images\n",
    "images": "train: train.txt\nval: ./second.txt\n",
    "data/images/{}": "path: ./data\ntrain: images/train\nval: images/val\n",
}


@pytest.mark.parametrize("layout", SPLITS)
def test_the_split_is_that_of_data_yaml_whatever_machine_its_paths_are_of(tmp_path, layout):
    names = "names: [cat, dog]\nnc: 2\n"
    folder = yolo(tmp_path / "in", SPLITS[layout] + names, layout, train_a=CAT, val_b=DOG)
    if layout == "images":
        (folder / "train.txt").write_text("data/images/a.jpg\n")
        (folder / "second.txt").write_text("/home/me/x/images/b.jpg\n")
    made = prepare(folder)
    assert made.splits == dict(train="a", val="b")
    assert ("test: '../test/images' is not there" in " ".join(made.notes)) == (
        "test" in SPLITS[layout]
    )


def test_test_pictures_without_texts_have_no_label_and_names_come_from_classes_txt(tmp_path):
    """Not that all of them are background; and pictures may be elsewhere."""
    folder = yolo(tmp_path / "in", None, train_a=CAT, val_b=DOG, test_c=None)
    (folder / "classes.txt").write_text("cat\ndog\n")
    made = prepare(folder)
    assert made.splits == dict(train="a", val="b", test="c")
    assert not (made.root / "SegmentationClass/c.png").exists()
    (folder / "images").rename(tmp_path / "pictures")
    refusal(folder, r"a.txt: no image a; .* --images DIR")
    other = prepare(folder, "other", images=tmp_path / "pictures")
    assert other.splits == dict(train="a", val="b", test="c")
    assert np.array_equal(other.label("b"), made.label("b")) and other.label("b").max() == 2


def test_another_picture_of_the_same_name_is_not_taken(tmp_path):
    """Neither for a line of a list nor for a text; and folders with a year are splits."""
    lists = "names: [cat, dog]\ntrain: tr.txt\nval: va.txt\n"
    folder = yolo(tmp_path / "in", lists, train_1=CAT, train_2=DOG, val_3=DOG)
    (folder / "tr.txt").write_text("images/train/1.jpg\n")
    (folder / "va.txt").write_text("images/val/3.jpg\n/train/images/val/2.jpg\n")
    refusal(
        folder, r"va.txt: no image /train/images/val/2.jpg \(.*train/2.jpg is in another folder; "
    )
    (folder / "va.txt").write_text("x/a/3.jpg\nx/b/3.jpg\n")
    refusal(folder, r"va.txt: 'x/b/3.jpg', and 'x/a/3.jpg' in va.txt, would both be .*3.jpg")
    other = yolo(tmp_path / "other", None, "images/{}2017", val_1=CAT, train_2=DOG)
    (other / "classes.txt").write_text("cat\ndog\n")
    assert prepare(other).splits == dict(train="2", val="1")
    (other / "images").rename(tmp_path / "pictures")
    (tmp_path / "pictures/val2017/1.jpg").unlink()
    image(tmp_path / "pictures/train2017/1.jpg")
    refusal(other, r"val2017/1.txt: no image 1 ", images=tmp_path / "pictures")
    for place in ("a", "b"):
        two = yolo(tmp_path / "two", "names: [cat, dog]", f"images/{place}", train_1=CAT)
    (two / "images/b/1.jpg").unlink()
    refusal(two, r"b/1.txt: no image 1 .*a/1.jpg is in another folder")
    (two / "images").rename(tmp_path / "elsewhere")
    refusal(two, r"b/1.txt: .*a/1.txt is of the same", images=tmp_path / "elsewhere")


def test_boxes_are_left_out_and_only_boxes_refused(tmp_path):
    folder = yolo(tmp_path / "in", train_a=f"{BOX}\n{CAT}", val_b=BOX)
    made = prepare(folder)
    assert (made.label("a") > 0).sum() == 20 * 16 and not made.label("b").any()
    assert any("2 boxes are left out" in note for note in made.notes)
    (folder / "labels/train/a.txt").write_text(BOX)
    refusal(folder, "2 boxes and no polygon; outline the objects")


TEXTS = {
    f"{CAT}\n2{CAT[1:]}": r"a.txt: line 2 does not begin with the number of a class in .*data.yaml",
    CAT[2:]: r"line 1 does not begin",
    f"{CAT} x": r"line 1 does not begin with .* or has something else than numbers",
    f"{CAT} 0.5": r"line 1 has 9 numbers after the class; give x and y of three points",
    "0 0.1 0.2 0.3": r"line 1 has 3 numbers",
    "0 0.1 0.2 nan 0.4 0.5 0.5": r"line 1 has points outside the picture",
    "0 10 12 30 14 15 25": r"outside the picture; give fractions of its width and height",
}
YAMLS = {
    YAML + "nc: 3": r"data.yaml: nc is 3, but names has 2",
    "names: cat\ntrain: images": r"data.yaml: names is no list",
    "names: [cat\n": r"data.yaml: cannot be read \(while parsing",
    YAML.replace("val: images/val", "val: images/train"): r"a.jpg is of train and of val",
    YAML.replace("images/train", "pictures"): r"train: 'pictures' is not there; correct the path",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_line_that_is_no_polygon_is_refused(tmp_path, text):
    refusal(yolo(tmp_path / "in", train_a=text, val_b=DOG), TEXTS[text])


@pytest.mark.parametrize("yaml", [*YAMLS, None])
def test_a_table_of_classes_that_does_not_fit_is_refused(tmp_path, yaml):
    message = YAMLS.get(yaml, r"no data.yaml names the classes; .* or give --classes FILE")
    refusal(yolo(tmp_path / "in", yaml, train_a=CAT, val_b=DOG), message)
