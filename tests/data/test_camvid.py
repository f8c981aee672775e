"""CamVidDataset on tiny trees in SegNet's layout."""

import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image

from fcn_plugin.errors import UserError

ALL_VALUES = np.arange(12, dtype=np.uint8).reshape(3, 4)  # eleven classes and void
MMSEGS = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
OURS = [dict(type="LoadCheckedImage"), dict(type="LoadCheckedLabel", num_classes=11)]


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


def names(dataset) -> list[str]:
    infos = map(dataset.get_data_info, range(len(dataset)))
    return [info["img_path"].rsplit("/", 1)[1] for info in infos]


@pytest.mark.parametrize("pipeline", [OURS, MMSEGS], ids=["ours", "mmseg's"])
def test_frames_are_found_and_labels_become_classes_and_void(root, pipeline):
    dataset = build(root, pipeline=pipeline)
    assert names(dataset) == ["a.jpg", "b.png", "c.png"]
    expected = np.where(ALL_VALUES == 11, 255, ALL_VALUES)
    np.testing.assert_array_equal(dataset[0]["gt_seg_map"], expected)
    (root / "some.txt").write_text("c\na\n\n")
    chosen = dict(ann_file="some.txt", metainfo=dict(classes=["car", "sky"]))
    some = build(root, pipeline=pipeline, **chosen)
    assert names(some) == ["a.jpg", "c.png"]
    expected = np.full((3, 4), 255)
    expected[ALL_VALUES == 8], expected[ALL_VALUES == 0] = 0, 1
    np.testing.assert_array_equal(some[0]["gt_seg_map"], expected)
    assert some.metainfo["palette"] == [[64, 0, 128], [128, 128, 128]]


def test_without_labels_only_for_testing(root):
    prefix = dict(img_path="train")
    sample = build(root, data_prefix=prefix, test_mode=True, pipeline=OURS)[2]
    assert sample["img"].shape == (3, 4, 3) and "gt_seg_map" not in sample
    with pytest.raises(UserError, match=r"train: .*set data_prefix.seg_map_path"):
        build(root, data_prefix=prefix)


# files that are gone, settings, what is said
MISTAKES = [
    ("", dict(metainfo=dict(classes=["Pedestrain"])), "no class 'Pedestrain': did you mean 'pe"),
    ("trainannot/b.png", {}, r"trainannot/b.png: label missing; add it or .*train/b.png"),
    ("", dict(data_prefix=dict(img_path="x", seg_map_path="y")), "/x: no such folder; unpack"),
    ("train/a.jpg", dict(ann_file="a.txt"), r"train/a: no frame .png or .jpg; .*a.txt"),
]


@pytest.mark.parametrize(("gone", "settings", "message"), MISTAKES)
def test_mistakes(root, gone, settings, message):
    (root / "a.txt").write_text("a\n")
    for file in root.glob(gone) if gone else ():
        file.unlink()
    with pytest.raises(UserError, match=message):
        build(root, **settings)
