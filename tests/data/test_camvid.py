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


def test_frames_of_both_suffixes_are_found_and_sorted(root):
    dataset = build(root)
    assert names(dataset) == ["a.jpg", "b.png", "c.png"]
    assert dataset.get_data_info(0)["seg_map_path"] == f"{root}/trainannot/a.png"
    assert dataset.metainfo["classes"][:2] == ("sky", "building")
    assert len(dataset.metainfo["classes"]) == len(dataset.metainfo["palette"]) == 11
    (root / "some.txt").write_text("c\na\n\n")
    assert names(build(root, ann_file="some.txt")) == ["a.jpg", "c.png"]


@pytest.mark.parametrize("pipeline", [OURS, MMSEGS], ids=["ours", "mmseg's"])
def test_labels_become_classes_and_void(root, pipeline):
    label = build(root, pipeline=pipeline)[0]["gt_seg_map"]
    np.testing.assert_array_equal(label, np.where(ALL_VALUES == 11, 255, ALL_VALUES))
    some = build(root, metainfo=dict(classes=["car", "sky"]), pipeline=pipeline)
    expected = np.full((3, 4), 255)
    expected[ALL_VALUES == 8], expected[ALL_VALUES == 0] = 0, 1
    np.testing.assert_array_equal(some[0]["gt_seg_map"], expected)
    assert some.metainfo["palette"] == [[64, 0, 128], [128, 128, 128]]


@pytest.mark.parametrize("prefix", [{}, {"seg_map_path": None}])
def test_without_labels_only_for_testing(root, prefix):
    prefix = dict(img_path="train", **prefix)
    sample = build(root, data_prefix=prefix, test_mode=True, pipeline=OURS)[2]
    assert sample["img"].shape == (3, 4, 3) and "gt_seg_map" not in sample
    with pytest.raises(UserError, match=r"train: .*set data_prefix.seg_map_path"):
        build(root, data_prefix=prefix)


def without(*files: str):
    return lambda root: [file.unlink() for name in files for file in root.glob(name)]


# what happens to the tree, settings, what is said
MISTAKES = [
    (None, dict(metainfo=dict(classes=["Pedestrain"])), "no class 'Pedestrain': did you mean 'pe"),
    (None, dict(metainfo=dict(classes=["zebra"])), "no class 'zebra': choose from sky, building"),
    (without("trainannot/b.png"), {}, r"trainannot/b.png: label missing; add it or .*train/b.png"),
    (without("trainannot/b.png"), dict(test_mode=True), "trainannot/b.png: label missing"),
    (without("train/*"), {}, "/train: no file ends in .png or .jpg; unpack CamVid there"),
    (without("trainannot/*"), {}, "/trainannot: no file ends in .png; unpack CamVid there"),
    (lambda root: (root / "trainannot").rename("x"), {}, "/trainannot: no such folder; unpack"),
    (lambda root: (root / "some.txt").write_text("c\nd\n"), dict(ann_file="some.txt"),
     r"train/d: no frame .png or .jpg; .*some.txt"),
    (None, dict(ann_file="other.txt"), "other.txt: no such list; correct ann_file"),
    (lambda root: Image.new("RGB", (4, 3)).save(root / "train/b.jpg"), {},
     r"train/b\.\w+: .*train/b\.\w+ is there too; remove one"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "settings", "message"), MISTAKES)
def test_mistakes(root, monkeypatch, change, settings, message):
    monkeypatch.chdir(root)
    if change:
        change(root)
    with pytest.raises(UserError, match=message):
        build(root, **settings)
