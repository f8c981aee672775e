"""The split of a user's own pictures: what the source says of it is kept to."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS
from prepare.own_pictures import SIZE, image, labelme, masks, prepare, refusal

NAMES = "abcdefgh"


@pytest.fixture
def source(tmp_path):
    """Images a to h with their labels, and u, which has none."""
    masks(tmp_path / "in", names=NAMES)
    image(tmp_path / "in/images/u.jpg")
    return tmp_path / "in"


def lists(source, place="ImageSets/Segmentation", /, **texts) -> None:
    """Lists named SPLIT: a text, or names of one letter each."""
    (source / place).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        if isinstance(text, str):
            text = ("\n".join(text) if text.isalpha() else text).encode()
        (source / place / f"{name}.txt").write_bytes(text)


@pytest.mark.parametrize(
    ("names", "place"),
    [
        (("train", "val", "test"), "ImageSets/Segmentation"),
        (("Train", "Validation", "Test"), "ImageSets"),
        (("TRAINING", "valid", "Testing"), "."),
        (("train2017", "val2017", "test2017"), "."),
    ],
)
def test_a_stated_split_is_kept_whatever_its_names(source, names, place):
    whole = dict(train="cafb", val="d", test="e")
    lists(source, place, **dict(zip(names, whole.values(), strict=True)))
    made = prepare(source)
    assert made.splits == whole
    assert made.lines[-3].endswith("out: train 4, val 1, test 1 images, 2 classes")
    told = "\n".join(made.notes)
    assert "2 labelled images are in no split" in told and "without a label" in told
    assert made.images == [f"{name}.jpg" for name in "abcdef"]
    cfg = Config.fromfile(next(made.root.glob("*scratch.py")))
    test = DATASETS.build(cfg.test_dataloader.dataset.to_dict() | cfg.splits.test.to_dict())
    assert len(test) == 1 and test[0]["data_samples"].gt_sem_seg.shape == SIZE


WAYS = [
    "\ufeffc\r\na\r\n",  # a byte order mark, and Windows' ends of lines
    "c\r\na\r\n".encode("utf-16"),  # as Windows' shell writes
    "\n c \n\n\ta.PNG\n\n",
    "images\\c\n./labels/a.png\n",
    "images/c.jpg labels/c.png\nimages/a.jpg\tlabels/a.png\n",
]


def test_ways_to_write_a_list(source):
    whole = f"{(source / 'images/c.jpg').resolve()}\na\n"
    for number, text in enumerate((*WAYS, whole)):
        lists(source, train=text, val="d")
        assert prepare(source, f"out{number}").splits == dict(train="ca", val="d"), text


@pytest.mark.parametrize(
    ("texts", "splits", "line"),
    [
        (dict(train="abcde", test="fgh"), dict(drawn="abcde", test="fgh"), "drawn to score on"),
        (
            dict(test="fgh"),
            dict(drawn="abcde", test="fgh"),
            "5 images are in no split",
        ),
        (
            dict(val="bc"),
            dict(train="adefgh", val="bc"),
            "are in no split, and trained on",
        ),
        (
            dict(trainval="abc", val="b"),
            dict(train="ac", val="b"),
            "5 labelled images are",
        ),
        (dict(default="ab"), dict(drawn=NAMES), "without a label are left out"),  # no split
        (
            dict(train="ab", val="c", test="du"),
            dict(train="ab", val="c", test="du"),
            "1 of 2 test images have a label",
        ),
    ],
)
def test_parts_of_a_split(source, texts, splits, line):
    lists(source, **texts)
    made = prepare(source)
    found = dict(made.splits)
    if "drawn" in splits:  # in train or val, by chance
        found["drawn"] = "".join(sorted(found.pop("train") + found.pop("val")))
    assert found == splits
    assert line in "\n".join(made.notes)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (dict(train="ab", Test="cb"), r".*txt: 'b' is in \w+.txt, too"),
        (dict(train="a\n\x1b[2Jb\n"), r"train.txt: '\\x1b\[2Jb' is no picture"),
        (dict(train="a\nimages/a.jpg\n"), r"train.txt: 'a' is there twice"),
        (dict(val="u"), r"val.txt: 'u' has no label"),
        (dict(train="ab", test="\n"), r"test.txt: no names in it"),
        (dict(val=NAMES), r"val.txt: val has all labelled images, none is left to train on"),
        (dict(val="a", Validation="b"), r"val.txt: Validation.txt is of"),
        (dict(Cars="a"), r"Cars.txt: not named like a split"),
    ],
)
def test_a_split_that_cannot_be_kept_is_refused(source, texts, message):
    lists(source, **texts)
    refusal(source, rf"{source}.*{message}")


def test_lists_in_two_places_are_refused(source):
    one, other = Path("ImageSets/Train.txt"), Path("train.txt")
    for path, text in ((one, "abc"), (other, "d")):
        lists(source, path.parent, **{path.stem: text})
    refusal(source, f"{source / other}: {source / one} is a list of the same pictures")


def test_an_image_of_train_without_a_label_is_left_out_and_one_of_test_is_kept(source):
    image(source / "images/train/x.jpg")
    image(source / "test/a.jpg")
    made = prepare(source)
    assert "2 images without a label are left out" in made.notes[0]
    assert made.listed("test") == ["test_a"] and len(made.images) == len(NAMES) + 1


def test_labelmes_files_by_lists_and_a_folder_of_test_images(tmp_path):
    labelme(tmp_path / "in", NAMES)
    lists(tmp_path / "in", Train="a.json\nb.jpg\n", Validation="c", Test="d")
    image(tmp_path / "in/Testing/x.jpg")
    made = prepare(tmp_path / "in")
    assert made.splits == dict(train="ab", val="c", test="dx")
