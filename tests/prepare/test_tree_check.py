"""All that is wrong with a tree is listed, each fault by the file that has it."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from prepare.archives_of_sets import SETS, picture
from scipy.io import savemat

from fcn_plugin.prepare.tree_check import check

LISTS = "ImageSets/Segmentation"


def relabel(path: Path, value: int) -> None:
    labels = np.asarray(Image.open(path)).copy()
    labels[0, :2] = value
    Image.fromarray(labels).save(path)


def faults_of(root: Path, name: str, subset: bool = True) -> list[str]:
    return check(root, name, subset)[1]


def test_a_whole_tree_has_none(whole):
    assert [faults_of(whole, name) for name in SETS] == [[], [], []]


def test_all_faults_at_once(root):
    folder = root / "VOCdevkit/VOC2012"
    images, labels = folder / "JPEGImages", folder / "SegmentationClass"
    (images / "t0.jpg").write_bytes(picture("t0")[:-500])
    (images / "s1.jpg").unlink()
    (labels / "t1.png").unlink()
    relabel(labels / "t2.png", 21)
    Image.open(labels / "v0.png").convert("RGB").save(labels / "v0.png")
    Image.open(labels / "v1.png").resize((20, 20)).save(labels / "v1.png")
    relabel(folder / "SegmentationClassAug/s0.png", 33)
    with (folder / LISTS / "trainaug.txt").open("a") as file:
        file.write("v1\ns0\n")
    expected = [
        ("t0.jpg", "truncated"),
        ("s1.jpg: no such image", "/aug.txt has it"),
        ("s1.jpg: no such image", "trainaug.txt has it"),
        ("t1.png", "no such label"),
        ("SegmentationClass/t2.png", "label values 21 (2 px)"),
        ("v0.png", "label in colour"),
        ("v1.png", "label of 20x20"),
        ("SegmentationClassAug/s0.png", "label values 33"),
        ("trainaug.txt", "s0 more than once"),
        ("VOC2012/ImageSets/Segmentation/val.txt: 1 of its images are trained on", "v1"),
        ("seg11valid.txt: 1 of its images are trained on", "v1"),
    ]
    faults = faults_of(root, "voc2012")
    for where, what in expected:
        assert [fault for fault in faults if where in fault and what in fault], (where, what)
    assert len(faults) == len(expected), faults


def test_a_set_without_a_class_0_and_folders_that_are_not_there(make, tmp_path):
    make(tmp_path, "ade20k")
    folder = tmp_path / "ade/ADEChallengeData2016"
    (folder / "images/training/ADE_train_00000001.jpg").write_bytes(b"x")
    relabel(folder / "annotations/training/ADE_train_00000001.png", 151)
    image, label = faults_of(tmp_path, "ade20k")  # two faults, though the image is damaged
    assert "ADE_train_00000001.jpg: " in image and "151 (2 px)" in label and "0-150" in label
    (folder / "images/validation").rename(tmp_path / "elsewhere")
    assert "images/validation: no such folder" in faults_of(tmp_path, "ade20k")[0]
    (fault,) = faults_of(tmp_path, "sbd")
    assert fault == f"{tmp_path}/sbd: no such folder; run fcn-plugin prepare_data sbd"


def test_the_published_numbers_and_the_order_of_seg11valid(root):
    path = root / "VOCdevkit/VOC2011" / LISTS / "seg11valid.txt"
    path.write_text("".join(f"n{index}\n" for index in range(736)))  # others: the hash tells
    found = faults_of(root, "voc2011", subset=False)
    assert found[0].endswith("train.txt: 1 images, published are 1,112")
    assert any("seg11valid.txt: md5 of the names is" in fault for fault in found)


def test_the_raw_labels_of_sbd(root):
    cut, other = root / "sbd/cls/s0.mat", root / "sbd/cls/t1.mat"
    cut.write_bytes(cut.read_bytes()[:-300])
    high = np.zeros((1, 1), dtype=[("Segmentation", object)])
    high[0, 0]["Segmentation"] = np.full((3, 3), 21, np.uint8)
    savemat(other, {"GTcls": high})
    faults = sorted(faults_of(root, "sbd"))
    assert [fault.partition(": ")[0] for fault in faults] == [str(cut), str(other)]
    # Once the PNGs are made, the raw labels may be gone.
    shutil.rmtree(root / "sbd/cls")
    assert faults_of(root, "sbd") == []
