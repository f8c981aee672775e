"""COCO's JSON in its tools' layouts: what is drawn, against pycocotools, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from prepare.own_pictures import SIZE, image, prepare, refusal
from pycocotools import mask
from pycocotools.coco import COCO

HEIGHT, WIDTH = SIZE
ROUND = [[3.3, 4.1, 30.7, 6.2, 25.5, 27.9, 4.0, 22.2], [33, 2, 39.4, 2.5, 38, 9]]
DISC = np.hypot(*(np.indices(SIZE) - 14)) < 9


def rectangle(left, top, right, bottom) -> list[list[int]]:
    """The polygon of the pixels left <= x < right, top <= y < bottom."""
    return [[left, top, right, top, right, bottom, left, bottom]]


BOX = rectangle(0, 0, 4, 5)


def compressed(pixels: np.ndarray) -> dict:
    rle = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return dict(size=rle["size"], counts=rle["counts"].decode())


def runs(pixels: np.ndarray) -> dict:
    flat = pixels.flatten("F")
    ends = [*(np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist(), len(flat)]
    counts = np.diff([*([0] if flat[0] else []), 0, *ends]).tolist()
    return dict(size=list(pixels.shape), counts=counts)


def annotation(segmentation, category=1, image_id=1, **more) -> dict:
    return dict(image_id=image_id, category_id=category, segmentation=segmentation, **more)


def coco(file: Path, annotations, names="ab", categories=("cat", "dog"), **changes) -> None:
    """A file of pictures ``X.jpg``, whose ids and those of the categories start at 1."""
    sizes = dict(height=HEIGHT, width=WIDTH)
    document = dict(
        images=[dict(id=i, file_name=f"{name}.jpg", **sizes) for i, name in enumerate(names, 1)],
        annotations=[dict(id=i, iscrowd=0) | entry for i, entry in enumerate(annotations, 1)],
        categories=[
            dict(id=i, name=entry) if isinstance(entry, str) else entry
            for i, entry in enumerate(categories, 1)
        ],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document | changes))


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in "ab":
        image(tmp_path / f"in/images/{name}.jpg")
    return tmp_path / "in"


def test_every_kind_of_segmentation_is_what_pycocotools_makes_of_it(folder):
    """Also of crowds, which lie below, and where objects overlap: the later one is on top."""
    disc, columns = np.roll(DISC, 15, axis=1), np.indices(SIZE)[1] % 7 == 0
    entries = [
        annotation(ROUND, image_id=1),
        annotation(runs(disc), category=2),
        annotation(compressed(columns), category=1, iscrowd=1),
        annotation(rectangle(20, 10, 38, 29), category=2, image_id=2),
        annotation(compressed(columns), image_id=2),
    ]
    file = folder / "annotations/instances_default.json"
    coco(file, entries)
    made, tool = prepare(folder), COCO(str(file))
    for name, number in (("a", 1), ("b", 2)):
        expected = np.zeros(SIZE, np.uint8)
        own = tool.loadAnns(tool.getAnnIds(number))
        for entry in sorted(own, key=lambda entry: -entry["iscrowd"]):
            expected[tool.annToMask(entry) == 1] = entry["category_id"]
        assert np.array_equal(made.label(name), expected)
    assert (made.label("b")[10:29, 20:38][~columns[10:29, 20:38]] == 2).all()
    assert (made.label("a") == 2).sum() == disc.sum()
    assert made.classes == ["background", "cat", "dog"]
    assert "COCO instances, 1 file" in made.layout


@pytest.mark.parametrize("pixels", [DISC, ~DISC, np.ones(SIZE, bool), np.eye(*SIZE, dtype=bool)])
def test_run_lengths_as_text_and_as_numbers(folder, pixels):
    coco(folder / "result.json", [annotation(compressed(pixels)), annotation(runs(pixels), 2, 2)])
    made = prepare(folder)
    assert np.array_equal(made.label("a"), pixels) and np.array_equal(made.label("b"), 2 * pixels)


def test_roboflows_folders_are_the_split_and_its_first_category_is_none(tmp_path):
    categories = [dict(id=0, name="fruits-x", supercategory="none")]
    categories += [dict(id=7, name="person", supercategory="person")]
    categories += [dict(id=i, name=f"c{i}", supercategory="fruits-x") for i in (3, 9)]
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        image(tmp_path / f"in/{split}/{name}.jpg")
        entries = [annotation(BOX, 9)]
        file = tmp_path / f"in/{split}/_annotations.coco.json"
        coco(file, entries, name, categories=categories)
    made = prepare(tmp_path / "in")
    assert made.splits == dict(train="a", val="b", test="c")
    assert made.classes == ["background", "person", "c3", "c9"]
    assert (made.label("c")[:5, :4] == 3).all() and (made.label("c") == 3).sum() == 20


def test_cocos_own_tree_has_splits_in_names_and_captions_beside(tmp_path):
    """Files of one split join; subsets of CVAT's may have pictures of one name."""
    for name in ("train2017/a", "val2017/a", "train2017/c"):
        image(tmp_path / f"in/{name}.jpg")
    annotations = tmp_path / "in/annotations"
    entries = [annotation(BOX), dict(image_id=2, category_id=2)]
    coco(annotations / "instances_train2017.json", entries, "ac")
    coco(annotations / "instances_val2017.json", [annotation(BOX, 2)], "a")
    names = ("train2017/a", "train2017/c")
    coco(annotations / "instances_train_more.json", [annotation(BOX, 2, 2)], names)
    coco(annotations / "person_keypoints_train2017.json", [annotation(BOX)], categories=["person"])
    coco(annotations / "captions_train2017.json", [dict(image_id=1, caption="x")])
    made = prepare(tmp_path / "in")
    assert made.listed("train") == ["train2017_a", "train2017_c"]
    assert made.listed("val") == ["val2017_a"] and made.classes == ["background", "cat", "dog"]
    assert made.label("val2017_a")[0, 0] == 2 and made.label("train2017_c")[0, 0] == 2
    assert any("1 boxes without a segmentation are left out" in note for note in made.notes)


LARGE = dict(size=[10**6, 10**6], counts=[0, 10**12])
FAULTS = [
    (
        [annotation(BOX, 5)],
        r"instances_x.json: annotation 1 cannot be read \(category_id 5 is of none\)",
    ),
    ([annotation(BOX, 1, 9)], r"annotation 1 cannot be read \(image_id 9 is of none\)"),
    ([annotation(BOX), annotation([[0, 1, 2, 3]])], r"annotation 2 \(cat\) has a polygon"),
    ([annotation([[0, 1, 2, 3, 4, 5, 6]])], r"three points or more"),
    ([annotation([["a", 1, 2, 3, 4, 5]])], r"annotation 1 cannot be read"),
    ([annotation([[0, 1, 2, 3, 4, float("nan")]])], r"far outside its picture of 40x30"),
    ([annotation([[0, 1, 2, 3, 4, 1e9]])], r"far outside its picture"),
    ([annotation(LARGE)], r"run lengths that do not fill its picture of 40x30"),
    ([annotation(dict(size=[30, 40], counts=[2**62] * 4 + [1200]))], r"do not fill"),
    ([annotation(dict(size=[30, 40], counts="PP"))], r"do not fill"),
    ([annotation(runs(DISC[:, ::-1].T))], r"do not fill its picture"),
    ([annotation([]), dict(image_id=1, category_id=1)], r"no annotation has a segmen"),
]


@pytest.mark.parametrize(("annotations", "message"), FAULTS)
def test_a_fault_is_refused_by_name(folder, annotations, message):
    coco(folder / "annotations/instances_x.json", annotations)
    refusal(folder, message)


def test_files_that_do_not_fit_the_pictures_are_refused(folder):
    one = folder / "annotations/instances_train.json"
    coco(one, [annotation(BOX)], "abc")
    refusal(folder, r"instances_train.json: no image c.jpg; .*--images DIR")
    refusal(folder, r"no image c.jpg", images=folder / "images")
    coco(one, [annotation(BOX)], images=[dict(id=1, file_name="a.jpg", height=40, width=30)])
    refusal(folder, r"instances_train.json: a label of 30x40 for an image of 40x30; .*EXIF")
    coco(one, [annotation(BOX)])
    coco(folder / "annotations/instances_val.json", [annotation(BOX)], "b")
    refusal(folder, r"'b.jpg' is of val here, but of train in .*instances_train.json")


def test_another_picture_of_the_same_name_is_not_taken(tmp_path):
    """Whether folders in names, beside the files or of splits tell them apart."""
    root, again = tmp_path / "in", [annotation(BOX), annotation(BOX, 2, 2)]
    for name in ("a/1", "2", "val/4"):
        image(root / f"images/{name}.jpg")
    one, other = root / "annotations/instances_x.json", root / "annotations/instances_y.json"
    for names in (("a/1", "b/1"), ("b/1", "a/1"), ("1", "a/1", "b/1")):
        coco(one, again, names)
        refusal(root, r"'[ab]/1.jpg', and '[ab]/1.jpg' in instances_x.json, would both be .*a/1")
    coco(one, again, ("/x/images/a/1", "2"))
    coco(other, [annotation(BOX, 2)], ("1",))  # may be the same
    assert prepare(root).label("1")[0, 0] == 2
    coco(other, [annotation(BOX)], ("images/train/4",))
    refusal(
        root, r"instances_y.json: no image images/train/4.jpg \(.*val/4.jpg is in another folder"
    )
    coco(other, [annotation(BOX)], ("4",))
    other.rename(other.with_name("instances_y_train2014.json"))
    refusal(root, r"instances_y_train2014.json: no image 4.jpg \(.*val/4.jpg is in another folder")
    for place in ("a", "b"):
        image(tmp_path / "two" / place / f"{place}.jpg")
        coco(tmp_path / "two" / place / "result.json", again, ("1", place))
    image(tmp_path / "two/a/1.jpg")
    refusal(tmp_path / "two", r"b/result.json: '1.jpg', and '1.jpg' in result.json, would both be")


def test_an_id_of_two_is_refused(folder):
    file = folder / "annotations/instances_x.json"
    coco(file, [annotation(BOX)])
    for key, entries in json.loads(file.read_text()).items():
        if key != "annotations":
            coco(file, [annotation(BOX)], **{key: [entry | dict(id=1) for entry in entries]})
            refusal(folder, rf"instances_x.json: {key} cannot be read \(two have the id 1\)")


def test_masks_beside_are_no_test_pictures(folder):
    for name in ("images/test/c", "masks/test/d"):
        image(folder / f"{name}.jpg")
    coco(folder / "result.json", [annotation(BOX), annotation(BOX, 2, 2)])
    assert prepare(folder).splits["test"] == "c"
