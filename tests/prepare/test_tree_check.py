"""All that is wrong with a tree is listed, each fault by the file that has it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare.archives_of_sets import jpeg, write_archives

from fcn_plugin.prepare.job import Preparation
from fcn_plugin.prepare.published import prepare
from fcn_plugin.prepare.tree_check import check

LISTS = "ImageSets/Segmentation"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """VOC 2012 with trainaug, VOC 2011 with seg11valid, SBD, ADE20K."""
    folder = tmp_path_factory.mktemp("whole")
    archives = write_archives(folder / "archives")
    for name in ("voc2012", "voc2011", "sbd", "ade20k"):
        prepare(Preparation(folder / "data", name, True, lambda _: None), archives[name])
    return folder / "data"


@pytest.fixture
def root(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "data")


def relabel(path: Path, value: int) -> None:
    labels = np.asarray(Image.open(path)).copy()
    labels[0, :2] = value
    Image.fromarray(labels).save(path)


def test_a_whole_tree_has_none(root):
    seen = []
    for name in ("voc2012", "voc2011", "sbd", "ade20k"):
        assert check(root, name, subset=True)[1] == []
    counts, _ = check(root, "voc2012", True, lambda step, done, total: seen.append((done, total)))
    assert counts == {"train": 3, "val": 2, "test": 2, "aug": 3, "trainaug": 6}
    assert seen[-1][0] == seen[-1][1] == len(seen) > 7


def test_all_faults_at_once(root):
    folder = root / "VOCdevkit/VOC2012"
    images, labels = folder / "JPEGImages", folder / "SegmentationClass"
    (images / "t0.jpg").write_bytes(jpeg("t0")[:-500])
    (images / "s1.jpg").unlink()
    (labels / "t1.png").unlink()
    relabel(labels / "t2.png", 21)
    Image.open(labels / "v0.png").convert("RGB").save(labels / "v0.png")
    Image.open(labels / "v1.png").resize((20, 20)).save(labels / "v1.png")
    (images / "q1.jpg").write_bytes(b"")
    with (folder / LISTS / "trainaug.txt").open("a") as file:
        file.write("v1\ns0\n")
    (folder / LISTS / "aug.txt").write_text("")

    _, faults = check(root, "voc2012", subset=True)
    expected = [
        ("t0.jpg", "truncated"),
        ("s1.jpg", "no such image"),
        ("t1.png", "no such label"),
        ("t2.png", "label values 21 (2 px)"),
        ("v0.png", "label in colour"),
        ("v1.png", "label of 20x20"),
        ("q1.jpg", "the file is empty"),
        ("trainaug.txt", "s0 more than once"),
        ("aug.txt", "no images"),
        ("VOC2012/ImageSets/Segmentation/val.txt: 1 of its images are trained on", "v1"),
        ("seg11valid.txt: 1 of its images are trained on", "v1"),
    ]
    for where, what in expected:
        assert [fault for fault in faults if where in fault and what in fault], (where, what)
    assert len(faults) == len(expected), faults


def test_a_damaged_image_and_its_label_are_two_faults(root):
    folder = root / "ade/ADEChallengeData2016"
    (folder / "images/training/ADE_train_00000001.jpg").write_bytes(b"x")
    relabel(folder / "annotations/training/ADE_train_00000001.png", 151)
    _, faults = check(root, "ade20k", subset=True)
    assert len(faults) == 2
    assert "151 (2 px)" in faults[1] and "0-150" in faults[1]


def test_the_published_numbers(root):
    _, faults = check(root, "voc2011")
    assert [fault.rpartition("/")[2] for fault in faults] == [
        "train.txt: 1 images, published are 1,112",
        "val.txt: 3 images, published are 1,111",
        "seg11valid.txt: 2 images, published are 736",
    ]


def test_the_published_order_of_seg11valid(root, monkeypatch):
    """As many names, but others: the hash tells."""
    path = root / "VOCdevkit/VOC2011" / LISTS / "seg11valid.txt"
    path.write_text("".join(f"n{index}\n" for index in range(736)))
    _, faults = check(root, "voc2011")
    assert any("seg11valid.txt: md5 of the names is" in fault for fault in faults)


def test_folders_that_are_not_there(root, tmp_path):
    assert check(tmp_path, "sbd")[1] == [
        f"{tmp_path}/sbd: no such folder; run tools/prepare_data.py sbd"
    ]
    (root / "sbd/SegmentationClass").rename(root / "sbd/Labels")
    _, faults = check(root, "sbd", subset=True)
    assert len(faults) == 2 and all("SegmentationClass: no such folder" in f for f in faults)
    (root / "ade/ADEChallengeData2016/images/validation").rename(root / "elsewhere")
    _, faults = check(root, "ade20k", subset=True)
    assert len(faults) == 1 and "images/validation: no such folder" in faults[0]


def test_the_raw_labels_of_sbd(root):
    (root / "sbd/cls/t1.mat").write_bytes(b"")
    _, faults = check(root, "sbd", subset=True)
    assert len(faults) == 1 and "cls/t1.mat: no label of SBD" in faults[0]
    # Once the PNGs are made, the raw labels may be gone.
    shutil.rmtree(root / "sbd/cls")
    assert check(root, "sbd", subset=True)[1] == []


def test_every_label_of_an_image(root):
    """VOC's own and SBD's."""
    relabel(root / "VOCdevkit/VOC2012/SegmentationClassAug/s0.png", 33)
    relabel(root / "VOCdevkit/VOC2012/SegmentationClass/v0.png", 44)
    _, faults = check(root, "voc2012", subset=True)
    assert len(faults) == 2
    assert "SegmentationClass/v0.png: label values 44" in faults[0]
    assert "SegmentationClassAug/s0.png: label values 33" in faults[1]
