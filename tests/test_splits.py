"""Every split of every config loads: the right files, whole, by the test pipeline and by --tta's.

On small trees in the layouts of the data sets, which LAYOUTS describes a second time.
"""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.datasets import PascalContextDataset, PascalContextDataset59
from mmseg.registry import DATASETS
from PIL import Image

from fcn_plugin.data.pascal_context import PUBLISHED_CLASSES

FOLDER = Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
VOID = 255
SIZE = (36, 48)
VOC2012, VOC2010, CAMVID = "data/VOCdevkit/VOC2012", "data/VOCdevkit/VOC2010", "data/camvid"
ADE = "data/ade/ADEChallengeData2016"


class Split(NamedTuple):
    """Where images, labels and their list are, relative to the data set's folder."""

    names: str  # one letter each
    images: str
    labels: str | None
    ids: str | None = None  # all images in the folder


def voc(names: str, split: str, labels: str | None = "SegmentationClass", kind: str = "") -> Split:
    return Split(names, "JPEGImages", labels, f"ImageSets/Segmentation{kind}/{split}.txt")


def context(names: str, split: str) -> Split:
    return voc(names, split, "SegmentationClassContext", "Context")


LAYOUTS = {
    VOC2012: {
        "train": voc("abc", "train"),
        "val": voc("d", "val"),
        "test": voc("efgh", "test", labels=None),
        "aug": voc("ij", "aug", labels="SegmentationClassAug"),
        "trainaug": voc("abcij", "trainaug", labels="SegmentationClassAug"),
    },
    "data/VOCdevkit/VOC2011": {
        "seg11valid": voc("d", "seg11valid"),
        "train": voc("ab", "train"),
        "val": voc("cde", "val"),
    },
    "data/sbd": {"train": Split("abf", "img", "SegmentationClass", "train.txt")},
    VOC2010: {"train": context("ab", "train"), "val": context("c", "val")},
    ADE: {
        "train": Split("abc", "images/training", "annotations/training"),
        "val": Split("d", "images/validation", "annotations/validation"),
        "test": Split("ef", "images/testing", None),
    },
    CAMVID: {
        "train": Split("abc", "train", "trainannot"),
        "val": Split("d", "val", "valannot"),
        "test": Split("ef", "test", "testannot"),
    },
    "data/shapes": {"train": voc("ab", "train"), "val": voc("c", "val")},
}
# The class that each value of the label files means; the files hold all these values.
CONTEXT = PascalContextDataset.METAINFO["classes"]
PUBLISHED = [PUBLISHED_CLASSES.index(name) for name in CONTEXT]
MEANINGS = {
    "PascalVOCDataset": {stored: stored for stored in (*range(21), VOID)},
    "PascalContextDataset": dict(enumerate(PUBLISHED)),
    "PascalContextDataset59": {0: VOID}
    | {stored: index - 1 for stored, index in enumerate(PUBLISHED) if stored > 0},
    "ADE20KDataset": {0: VOID} | {stored: stored - 1 for stored in range(1, 151)},
    "CamVidDataset": {stored: stored for stored in range(11)} | {11: VOID},
    "BaseSegDataset": {stored: stored for stored in (*range(5), VOID)},  # shapes
}
VALUES = {
    VOC2010: range(60),
    ADE: range(151),
    CAMVID: range(12),
    "data/shapes": (*range(5), VOID),
}


def stored_label(root: str) -> np.ndarray:
    """What every label file of a data set holds: all its values, again and again."""
    return np.resize(np.array(VALUES.get(root, (*range(21), VOID)), np.uint8), SIZE)


@cache
def config(name: str) -> Config:
    return Config.fromfile(FOLDER / f"{name}.py")


def files(root: str, split: str) -> list[tuple[Path, Path | None]]:
    """Image and label of each sample of a split."""
    layout, suffix = LAYOUTS[root][split], ".png" if root == CAMVID else ".jpg"
    images = [Path(root, layout.images, name + suffix) for name in layout.names]
    return [
        (image, Path(root, layout.labels, f"{image.stem}.png") if layout.labels else None)
        for image in images
    ]


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Path:
    """The folder in which the data sets lie in data/."""
    folder = tmp_path_factory.mktemp("trees")
    random = np.random.default_rng(0)

    def save(pixels: np.ndarray, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    for root, layout in LAYOUTS.items():
        for name, split in layout.items():
            for image, label in files(root, name):
                save(random.integers(0, 256, (*SIZE, 3), np.uint8), folder / image)
                if label:
                    save(stored_label(root), folder / label)
            if split.ids:
                path = folder / root / split.ids
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(f"{name}\n" for name in split.names))
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder_of_data(trees, monkeypatch):
    monkeypatch.chdir(trees)


def found_files(dataset) -> list[tuple[Path, Path | None]]:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [
        (Path(info["img_path"]), Path(label) if (label := info.get("seg_map_path")) else None)
        for info in infos
    ]


def build(settings: dict, **changed):
    """The data set, not packed for several processes, which takes a third of a second."""
    return DATASETS.build({**settings, **changed, "serialize_data": False})


def build_split(cfg: Config, split: str, **changed):
    """As tools/test.py --split does it."""
    return build({**cfg.test_dataloader.dataset, **cfg.splits[split]}, **changed)


def signature(name: str, split: str) -> str:
    """All that decides what a split's samples are."""
    cfg = config(name)
    settings = {**cfg.test_dataloader.dataset.to_dict(), **cfg.splits[split].to_dict()}
    return str((settings, cfg.to_dict()["tta_pipeline"]))


# Of configs with the same data one is enough.
SPLITS = {signature(name, split): (name, split) for name in NAMES for split in config(name).splits}


@pytest.mark.parametrize(("name", "split"), SPLITS.values())
def test_loads(name, split):
    cfg = config(name)
    settings = cfg.test_dataloader.dataset
    meaning, root = MEANINGS[settings.type], settings.data_root
    label = np.vectorize(meaning.get)(stored_label(root))
    dataset = build_split(cfg, split)
    assert found_files(dataset) == files(root, split)
    if name == "fcn8s_vgg16-bn_camvid-scratch-half":
        assert dataset[0]["inputs"].shape == (3, 180, 240)
    views = build_split(cfg, split, pipeline=deepcopy(cfg.tta_pipeline))
    for alone, several, (_, label_file) in zip(dataset, views, files(root, split), strict=True):
        # One of the views is what is seen without --tta, another its mirror image.
        seen = alone["inputs"]
        same_size = [view for view in several["inputs"] if view.shape == seen.shape]
        assert [view.equal(seen) for view in same_size] == [True, False]
        assert same_size[1].equal(seen.flip(2))
        for sample in (alone["data_samples"], *several["data_samples"]):
            assert sample.ori_shape == SIZE
            # Predictions that are written without labels go by it as well.
            assert sample.reduce_zero_label == (meaning[0] == VOID)
            assert ("gt_sem_seg" in sample) == (label_file is not None)
            if label_file is not None:
                assert np.array_equal(sample.gt_sem_seg.data[0], label)


def test_what_is_scored_unless_told_otherwise_is_one_of_them():
    assert len(NAMES) > 30
    for name in NAMES:
        cfg = config(name)
        dataset = cfg.test_dataloader.dataset
        same = [split for split, entry in cfg.splits.items() if {**dataset, **entry} == dataset]
        assert same == ["seg11valid" if "VOC2011" in dataset.data_root else "val"], name
        assert cfg.val_dataloader.dataset == dataset


# config -> the folders and splits it is trained on
TRAINED_ON = {
    "fcn8s_vgg16_voc": [(VOC2012, "train"), (VOC2012, "aug")],
    "fcn8s_vgg16_voc-train": [(VOC2012, "train")],
    "fcn8s_vgg16_voc2011": [("data/sbd", "train")],
    "fcn8s_vgg16_pascal-context": [(VOC2010, "train")],
    "fcn8s_vgg16_pascal-context59": [(VOC2010, "train")],
    "fcn8s_vgg16_ade20k": [(ADE, "train")],
    "fcn8s_vgg16_camvid": [(CAMVID, "train")],
    "fcn8s_vgg16_shapes": [("data/shapes", "train")],
}


@pytest.mark.parametrize("name", TRAINED_ON)
def test_trains_on(name):
    cfg = config(name)
    dataset = cfg.train_dataloader.dataset
    parts = [build(part) for part in dataset.get("datasets", [dataset])]
    expected = [files(root, split) for root, split in TRAINED_ON[name]]
    assert [found_files(part) for part in parts] == expected
    for part in parts:
        sample = part[0]
        values = set(sample["data_samples"].gt_sem_seg.data.unique().tolist())
        assert values - {VOID} <= set(range(len(part.metainfo["classes"]))) and len(values) > 1
        assert sample["inputs"].shape[1:] == sample["data_samples"].gt_sem_seg.shape


def test_the_59_classes_are_the_published_ones_without_background():
    whole, checked = (
        build_split(config(f"fcn8s_vgg16_pascal-context{n}"), "val") for n in ("", "59")
    )
    assert whole.metainfo["classes"] == PUBLISHED_CLASSES
    assert checked.metainfo["classes"] == PUBLISHED_CLASSES[1:]
    assert checked.metainfo["palette"] == whole.metainfo["palette"][1:]
    assert PascalContextDataset59.METAINFO["classes"] == CONTEXT[1:]
    # mmseg's loader agrees.
    pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    theirs = build_split(config("fcn8s_vgg16_pascal-context59"), "val", pipeline=pipeline)
    label = checked[0]["data_samples"].gt_sem_seg.data[0].numpy()
    assert np.array_equal(label, theirs[0]["gt_seg_map"])
    assert np.array_equal(label == VOID, stored_label(VOC2010) == 0)
