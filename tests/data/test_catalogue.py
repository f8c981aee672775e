"""What is published of the data sets, and the two lists that are made of others'."""

import hashlib
from pathlib import Path, PurePosixPath

import pytest

from fcn_plugin.data.catalogue import APART, DATA_SETS, command_for
from fcn_plugin.data.lists import list_text, read_ids, seg11valid, trainaug


def test_lists(tmp_path):
    assert seg11valid(["c", "a", "b"], {"a"}) == ["c", "b"]  # in val's order
    # Of VOC's train all, of SBD what is not in VOC's val, whichever of SBD's splits has it.
    assert trainaug(["t", "u"], ["v", "w"], ["s", "t", "v"]) == (["s"], ["s", "t", "u"])
    path = tmp_path / "list.txt"
    assert list_text(["a", "b"]) == "a\nb\n"
    path.write_bytes(b"\xef\xbb\xbfa \r\n\nb\n\xff\xfe")
    assert read_ids(path)[:2] == ["a", "b"] and len(read_ids(path)) == 3


def test_hashes_are_whole_and_the_splits_to_keep_apart_exist():
    splits = set()
    for name, data_set in DATA_SETS.items():
        for digest in filter(None, (part.digest for part in data_set.parts)):
            assert len(digest.digits) == 2 * hashlib.new(digest.algorithm).digest_size
        splits |= {f"{name}/{split.name}" for split in data_set.splits()}
    assert splits.issuperset(split for pair in APART for split in pair)


@pytest.mark.parametrize(
    ("name", "member", "place"),
    [
        ("voc2012", "VOC2012/JPEGImages/a.jpg", "JPEGImages/a.jpg"),
        ("voc2012", "VOCdevkit/VOC2011/JPEGImages/a.jpg", None),
        ("sbd", "benchmark_RELEASE/benchmark_code_RELEASE/demo/datadir/cls/a.mat", None),
        ("ade20k", "release_test/testing/a.jpg", "images/testing/a.jpg"),
        ("pascal-context", "trainval/a.mat", "trainval/a.mat"),
        ("pascal-context", "labels.txt", "labels.txt"),
        ("pascal-context", "Annotations_Part/a.mat", None),  # PASCAL-Part, of the same name
        ("nyud", "nyud/data/hha/img_5001.png", "data/hha/img_5001.png"),
        ("camvid", "__MACOSX/CamVid/train/a.png", None),
        ("camvid", "CamVid/train/._a.png", None),
    ],
)
def test_where_the_members_of_archives_go(name, member, place):
    """Of whole archives in prepare/test_prepare.py."""
    found = DATA_SETS[name].place(PurePosixPath(member))
    assert found == (None if place is None else PurePosixPath(place))


@pytest.mark.parametrize(
    ("folder", "missing", "commands"),
    [
        ("/mnt/data/VOCdevkit/VOC2011", "", ["voc2011"]),
        ("data/VOCdevkit/VOC2011", "ImageSets/Segmentation/seg11valid.txt", ["voc2011", "sbd"]),
        ("data/VOCdevkit/VOC2012", "SegmentationClassAug", ["voc2012", "sbd"]),
        ("data/ade/ADEChallengeData2016", "images/testing", ["ade20k --test"]),
        ("data/VOCdevkit/VOC2010", "SegmentationClassContext", ["pascal-context"]),
        ("data/VOCdevkit/VOC2007", "", None),
    ],
)
def test_the_command_for_what_is_missing(folder, missing, commands):
    expected = commands and " and ".join(f"fcn-plugin prepare_data {name}" for name in commands)
    assert command_for(Path(folder), missing) == expected
