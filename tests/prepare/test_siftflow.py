"""SIFT Flow: both labels of each image as PNGs, and the published lists."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image
from prepare.archives_of_sets import (
    SIFTFLOW_KINDS,
    SIFTFLOW_TEST,
    SIFTFLOW_TRAINVAL,
    siftflow,
    siftflow_label,
    zipped,
)
from scipy.io import savemat

from fcn_plugin.data.catalogue import DATA_SETS
from fcn_plugin.data.lists import list_text, read_ids
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.mat_labels import read_siftflow
from fcn_plugin.prepare.siftflow import TEST, UNANNOTATED, lists
from fcn_plugin.prepare.tree_check import check

KINDS = dict(SemanticLabels="semantic", GeoLabels="geometric")


def test_the_test_list_is_the_published_one():
    assert hashlib.md5(list_text(TEST).encode()).hexdigest() == "af809d3c31d5983b64f18bf40c0f77bc"
    splits = {split.name: split.count for split in DATA_SETS["siftflow"].splits()}
    assert splits == {"all": 2688, "trainval": 2688 - len(TEST) - len(UNANNOTATED), "test": 200}
    assert not UNANNOTATED & set(TEST)


def test_labels_and_lists(make, tmp_path):
    said = make(tmp_path, "siftflow")
    folder = tmp_path / "siftflow"
    assert f"{folder}: all 6, trainval 3, test 2 images" in said
    assert read_ids(folder / "trainval.txt") == SIFTFLOW_TRAINVAL
    assert read_ids(folder / "test.txt") == SIFTFLOW_TEST
    for kind, name in KINDS.items():
        made = folder / "labels" / name
        assert len(list(made.iterdir())) == 5
        for image in (*SIFTFLOW_TRAINVAL, *SIFTFLOW_TEST):
            stored = np.asarray(Image.open(made / f"{image}.png"))
            np.testing.assert_array_equal(stored, siftflow_label(kind, image).clip(0))
    assert check(tmp_path, "siftflow", subset=True) == (dict(all=6, trainval=3, test=2), [])
    # A label that is lost is made again; the others are left alone.
    (folder / "labels/geometric/a_1.png").unlink()
    kept = folder / "labels/semantic/a_1.png"
    before = kept.stat().st_ino
    make(tmp_path, "siftflow")
    assert (folder / "labels/geometric/a_1.png").exists() and kept.stat().st_ino == before
    # As the data set reads it: classes from 0, void 255.
    dataset = DATASETS.build(
        dict(
            type="SIFTFlowDataset",
            data_root=str(folder),
            ann_file="test.txt",
            data_prefix=dict(
                img_path=DATA_SETS["siftflow"].split("test").images,
                seg_map_path="labels/semantic",
                geo_seg_map_path="labels/geometric",
            ),
            pipeline=[
                dict(type="LoadCheckedLabel", num_classes=33),
                dict(type="LoadCheckedLabel", num_classes=3, task="geo"),
            ],
        )
    )
    loaded = dataset[0]
    for kind, key in dict(SemanticLabels="gt_seg_map", GeoLabels="gt_geo_seg").items():
        expected = siftflow_label(kind, SIFTFLOW_TEST[0]).clip(0).astype(np.uint8) - np.uint8(1)
        np.testing.assert_array_equal(loaded[key], expected)


def test_the_whole_set_is_divided_as_published(tmp_path):
    folder = tmp_path / DATA_SETS["siftflow"].split("test").images
    folder.mkdir(parents=True)
    for name in (*TEST, *UNANNOTATED, "b", "a"):
        (folder / f"{name}.jpg").touch()
    assert lists(tmp_path) == dict(trainval=["a", "b"], test=TEST)


def test_too_few_images_and_damaged_labels(make, tmp_path):
    with pytest.raises(UserError, match="6 images, published are 2,688; fetch it again"):
        make(tmp_path, "siftflow", subset=False)
    less = {name: content for name, content in siftflow().items() if "GeoLabels" not in name}
    with pytest.raises(UserError, match=r"SIFT Flow's labels: .*labels/geometric: no such folder"):
        make(tmp_path / "less", "siftflow", [zipped(tmp_path / "less.zip", less)])
    make(tmp_path, "siftflow")
    folder = tmp_path / "siftflow"
    label = folder / "labels/geometric/a_1.png"
    shutil.copy(folder / "labels/semantic/a_1.png", label)
    (fault,) = check(tmp_path, "siftflow", subset=True)[1]
    assert fault.startswith(f"{label}: label values 28") and "num_classes=3" in fault


@pytest.mark.parametrize("kind", SIFTFLOW_KINDS)
@pytest.mark.parametrize("fault", ["high", "negative", "fraction", "flat", "empty", "cut", "other"])
def test_a_label_that_is_none(tmp_path, kind, fault):
    path = tmp_path / kind / "folder" / "a.mat"
    path.parent.mkdir(parents=True)
    most = SIFTFLOW_KINDS[kind][-1]
    labels = dict(high=[[most + 1]], negative=[[-2]], fraction=[[0.5]], flat=[[[1]]], empty=[[]])
    savemat(path, {"S" if fault != "other" else "T": labels.get(fault, [[1.0]])})
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:150])
    wrong = f"labels outside 0-{most}"
    if fault not in ("high", "negative", "fraction"):
        wrong = "no label of SIFT Flow"
    with pytest.raises(UserError, match=f"a.mat: {wrong}.*; unpack SIFT Flow's archive again"):
        read_siftflow(path)


def test_void_is_negative_in_geometric_labels_only(tmp_path):
    for kind in KINDS:
        path = Path(tmp_path, kind, "folder", "a.mat")
        path.parent.mkdir(parents=True)
        savemat(path, {"S": np.array([[-1, 1]])})
    np.testing.assert_array_equal(read_siftflow(path), [[0, 1]])
    with pytest.raises(UserError, match="labels outside 0-33"):
        read_siftflow(Path(tmp_path, "SemanticLabels", "folder", "a.mat"))
