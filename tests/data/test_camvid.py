"""CamVidDataset on tiny trees in SegNet's layout."""

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS
from PIL import Image

from fcn_plugin.errors import UserError

ALL_VALUES = np.arange(12, dtype=np.uint8).reshape(3, 4)  # eleven classes and void
HOST_PIPELINE = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
PIPELINE = [dict(type="LoadCheckedImage"), dict(type="LoadCheckedLabel", num_classes=11)]


@pytest.fixture(autouse=True)
def default_scope():
    """Pipelines are built from names in the default scope, which a runner would set."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


@pytest.fixture
def root(tmp_path):
    """Three frames, two as PNG and one as JPEG, whose labels hold every value."""
    for folder in ("train", "trainannot"):
        (tmp_path / folder).mkdir()
    for name in ("b.png", "a.jpg", "c.png"):
        Image.new("RGB", (4, 3)).save(tmp_path / "train" / name)
        Image.fromarray(ALL_VALUES).save(tmp_path / "trainannot" / f"{name[0]}.png")
    return tmp_path


def build(root, **settings):
    prefix = dict(img_path="train", seg_map_path="trainannot")
    config = dict(type="CamVidDataset", data_root=str(root), data_prefix=prefix)
    return DATASETS.build(config | settings)


def names(dataset):
    return [info["img_path"].rsplit("/", 1)[1] for info in map(dataset.get_data_info, range(3))]


def test_frames_of_both_suffixes_are_found_and_sorted(root):
    dataset = build(root)
    assert len(dataset) == 3
    assert names(dataset) == ["a.jpg", "b.png", "c.png"]
    assert dataset.get_data_info(0)["seg_map_path"] == f"{root}/trainannot/a.png"
    assert dataset.metainfo["classes"][:2] == ("sky", "building")
    assert len(dataset.metainfo["classes"]) == len(dataset.metainfo["palette"]) == 11


@pytest.mark.parametrize("pipeline", [PIPELINE, HOST_PIPELINE])
def test_void_becomes_255_and_the_classes_stay(root, pipeline):
    label = build(root, pipeline=pipeline)[0]["gt_seg_map"]
    expected = np.where(ALL_VALUES == 11, 255, ALL_VALUES)
    np.testing.assert_array_equal(label, expected)


@pytest.mark.parametrize("pipeline", [PIPELINE, HOST_PIPELINE])
def test_some_classes_in_another_order(root, pipeline):
    dataset = build(root, metainfo=dict(classes=["car", "sky"]), pipeline=pipeline)
    expected = np.full((3, 4), 255)
    expected[ALL_VALUES == 8] = 0
    expected[ALL_VALUES == 0] = 1
    np.testing.assert_array_equal(dataset[0]["gt_seg_map"], expected)
    assert dataset.metainfo["palette"] == [[64, 0, 128], [128, 128, 128]]


def test_a_misspelt_class_is_named_with_the_nearest(root):
    with pytest.raises(UserError, match=r"no class 'pedestrain': did you mean 'pedestrian'"):
        build(root, metainfo=dict(classes=["car", "pedestrain"]))
    with pytest.raises(UserError, match=r"no class 'zebra': choose from sky, building"):
        build(root, metainfo=dict(classes=["zebra"]))


def test_a_frame_without_its_label(root):
    (root / "trainannot/b.png").unlink()
    with pytest.raises(UserError, match=r"trainannot/b.png: label missing; add it or .*b.png"):
        build(root)
    with pytest.raises(UserError, match=r"trainannot/b.png: label missing"):
        build(root, test_mode=True)


def test_a_frame_there_twice(root):
    Image.new("RGB", (4, 3)).save(root / "train/b.jpg")
    with pytest.raises(UserError, match=r"train/b\.\w+: .*train/b\.\w+ is there too; remove one"):
        build(root)


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_an_empty_or_missing_folder(root, folder):
    for file in (root / folder).iterdir():
        file.unlink()
    with pytest.raises(UserError, match=rf"/{folder}: no file ends in .png.*; unpack CamVid there"):
        build(root)
    (root / folder).rmdir()
    with pytest.raises(UserError, match=rf"/{folder}: no such folder; unpack CamVid there or"):
        build(root)


@pytest.mark.parametrize("prefix", [{}, {"seg_map_path": None}])
def test_without_labels_only_for_testing(root, prefix):
    prefix = dict(img_path="train", **prefix)
    dataset = build(root, data_prefix=prefix, test_mode=True, pipeline=PIPELINE)
    sample = dataset[2]
    assert sample["img"].shape == (3, 4, 3)
    assert "gt_seg_map" not in sample
    with pytest.raises(UserError, match=r"set data_prefix.seg_map_path"):
        build(root, data_prefix=prefix)


def test_a_list_of_names(root):
    (root / "some.txt").write_text("c\na\n\n")
    dataset = build(root, ann_file="some.txt")
    assert [info["img_path"][-5:] for info in map(dataset.get_data_info, range(2))] == [
        "a.jpg",
        "c.png",
    ]
    assert len(dataset) == 2
    (root / "some.txt").write_text("c\nd\n")
    with pytest.raises(UserError, match=r"train/d: no frame .png or .jpg; .*some.txt"):
        build(root, ann_file="some.txt")
    with pytest.raises(UserError, match=r"other.txt: no such list; correct ann_file"):
        build(root, ann_file="other.txt")


def test_a_lazy_data_set_reads_nothing_before_it_must(tmp_path):
    dataset = build(tmp_path / "absent", lazy_init=True)
    assert len(dataset.metainfo["classes"]) == 11
    with pytest.raises(UserError, match="absent/train: no such folder"):
        dataset.full_init()
