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


def lists(source, place="ImageSets/Segmentation", /, **texts):
    """Lists named SPLIT, or by a whole file name where that is one."""
    (source / place).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        (source / place / f"{name}.txt").write_bytes(content)


WHOLE = dict(train="cafb", val="d", test="e")


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Train", "Validation", "Test"),
        ("TRAINING", "valid", "Testing"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("place", ["ImageSets/Segmentation", "ImageSets", "."])
def test_a_stated_split_is_kept_whatever_its_names(source, names, place):
    texts = ("\n".join(ids) for ids in WHOLE.values())
    lists(source, place, **dict(zip(names, texts, strict=True)))
    made = prepare(source)
    assert made.splits == WHOLE
    assert made.lines[-1].endswith("out: train 4, val 1, test 1 images, 2 classes")
    told = "\n".join(made.notes)
    assert "2 labelled images are in no list" in told and "without a label" in told
    assert made.images == [f"{name}.jpg" for name in "abcdef"]


WAYS = {
    "Windows' ends of lines": "c\r\na\r\n",
    "a byte order mark": "\ufeffc\na\n",
    "UTF-16, as Windows' shell writes": "c\r\na\r\n".encode("utf-16"),
    "blank lines and ends": "\n c \n\n\ta\n\n",
    "suffixes": "c.jpg\na.PNG\n",
    "folders": "images/c.jpg\n./labels/a.png\n",
    "folders of Windows": "images\\c\nlabels\\a.png\n",
    "images and labels": "images/c.jpg labels/c.png\nimages/a.jpg\tlabels/a.png\n",
}


def test_ways_to_write_a_list(source):
    whole = f"{(source / 'images/c.jpg').resolve()}\na\n"
    for number, text in enumerate((*WAYS.values(), whole)):
        lists(source, train=text, val="d\n")
        assert prepare(source, f"out{number}").splits == dict(train="ca", val="d"), text


PARTS = {
    "train and test: val comes of train": (
        dict(train="a\nb\nc\nd\ne\n", test="f\ng\nh\n"),
        lambda found: sorted(found["train"] + found["val"]) == list("abcde"),
        "fgh",
        "1 of its images are drawn to score on",
    ),
    "test alone: both come of the others": (
        dict(test="f\ng\nh\n"),
        lambda found: sorted(found["train"] + found["val"]) == list("abcde"),
        "fgh",
        "5 images are in no list, and trained on, or drawn to score on",
    ),
    "val alone: the others are trained on": (
        dict(val="b\nc\n"),
        lambda found: found["train"] == "adefgh" and found["val"] == "bc",
        None,
        "6 images are in no list, and trained on",
    ),
    "trainval and val": (
        dict(trainval="a\nb\nc\n", val="b\n"),
        lambda found: found == dict(train="ac", val="b"),
        None,
        "5 labelled images are in no list",
    ),
    "trainval and test": (
        dict(trainval="a\nb\nc\n", test="h\n"),
        lambda found: sorted(found["train"] + found["val"]) == list("abc"),
        "h",
        "1 of its images are drawn",
    ),
    "all three of VOC's": (
        dict(train="a\nc\n", trainval="a\nb\nc\n", val="b\n"),
        lambda found: found == dict(train="ac", val="b"),
        None,
        "5 labelled images are in no list",
    ),
    "a list of all is no split": (
        dict(default="a\nb\n"),
        lambda found: sorted(found["train"] + found["val"]) == list(NAMES),
        None,
        "without a label are left out",
    ),
    "test with a picture without a label": (
        dict(train="a\nb\n", val="c\n", test="d\nu\n"),
        lambda found: found["train"] == "ab",
        "du",
        "1 of 2 test images have a label",
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_a_split(source, part):
    texts, holds, test, line = PARTS[part]
    lists(source, **texts)
    made = prepare(source)
    assert holds(made.splits), made.splits
    assert made.splits.get("test") == test
    assert line in "\n".join(made.notes)


def test_a_labelled_test_split_is_scored(source):
    lists(source, train="a\nb\n", val="c\n", test="d\ne\n")
    cfg = Config.fromfile(next(prepare(source).root.glob("*scratch.py")))
    test = cfg.test_dataloader.dataset.to_dict() | cfg.splits.test.to_dict()
    samples = DATASETS.build(test)
    assert len(samples) == 2 and samples[0]["data_samples"].gt_sem_seg.shape == SIZE


WRONG = {
    "in train and test": (dict(train="a\nb\n", Test="c\nb\n"), r".*txt: 'b' is in \w+.txt, too"),
    "in val and test": (dict(val="a\n", test="a\n"), r".*txt: 'a' is in \w+.txt, too"),
    "not there": (dict(train="a\nnone\n"), r"train.txt: 'none' is no picture in "),
    "in a folder that is not read": (dict(train="a\nsub/b\n"), r"train.txt: 'sub/b' is no picture"),
    "escape sequences": (dict(train="a\n\x1b[2Jb\n"), r"train.txt: '\\x1b\[2Jb' is no picture"),
    "two names for one": (dict(train="a\nimages/a.jpg\n"), r"train.txt: 'a' is there twice"),
    "without a label": (dict(val="u\n"), r"val.txt: 'u' has no label"),
    "empty": (dict(train="a\nb\n", test="\n"), r"test.txt: no names in it"),
    "one to train on": (dict(train="a\n", test="b\n"), r"train.txt: 1 labelled image; at least 2"),
    "all to score on": (
        dict(val="\n".join(NAMES)),
        r"val.txt: names all labelled images, none is left to train on",
    ),
    "two lists of one split": (dict(val="a\n", Validation="b\n"), r"val.txt: Validation.txt is of"),
    "no list of a split": (dict(Cars="a\n"), r"Cars.txt: not named like a split"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_split_that_cannot_be_kept_is_refused(source, wrong):
    texts, message = WRONG[wrong]
    lists(source, **texts)
    refusal(source, rf"{source}.*{message}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ImageSets/Segmentation/train.txt", "ImageSets/test.txt"),
        ("ImageSets/Segmentation/val.txt", "test.txt"),
        ("ImageSets/Train.txt", "train.txt"),
    ],
)
def test_lists_in_two_places_are_refused(source, one, other):
    for path, text in ((one, "a\nb\nc\n"), (other, "d\n")):
        lists(source, Path(path).parent, **{Path(path).stem: text})
    refusal(source, f"{source / other}: {source / one} is a list of the same pictures")


@pytest.mark.parametrize("folder", ["val", "Training", "images/train", "test/images"])
def test_a_folder_of_a_split_is_not_passed_over(source, folder):
    image(source / folder / "x.jpg")
    refusal(source, "is not read; move its files")


def test_a_folder_of_test_images_in_any_case(source):
    image(source / "Testing/x.jpg")
    assert prepare(source).splits["test"] == "x"


def test_labelmes_files_by_lists(tmp_path):
    labelme(tmp_path / "in", NAMES)
    lists(tmp_path / "in", Train="a.json\nb.jpg\n", Validation="c\n", Test="d\n")
    made = prepare(tmp_path / "in")
    assert made.splits == dict(train="ab", val="c", test="d")
    assert "4 labelled images are in no list" in made.notes[0]
