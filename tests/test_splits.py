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
    """Where images, one letter each, labels and their list are, in the data set's folder."""

    names: str
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
VOC = {stored: stored for stored in (*range(21), VOID)}
MEANINGS = {
    VOC2010: dict(enumerate(PUBLISHED)),
    ADE: {0: VOID} | {stored: stored - 1 for stored in range(1, 151)},
    CAMVID: {stored: stored for stored in range(11)} | {11: VOID},
    "data/shapes": {stored: stored for stored in (*range(5), VOID)},
}


def stored_label(root: str) -> np.ndarray:
    """What every label file of a data set holds: all its values, again and again."""
    return np.resize(np.array([*MEANINGS.get(root, VOC)], np.uint8), SIZE)


@cache
def _config(name: str) -> Config:
    return Config.fromfile(FOLDER / f"{name}.py")


def config(name: str) -> Config:
    """One's own: mmseg puts what it builds of tta_pipeline into the config."""
    return deepcopy(_config(name))


def files(root: str, split: str) -> list[tuple[Path, Path | None]]:
    """Image and label of each sample of a split."""
    layout, suffix = LAYOUTS[root][split], ".png" if root == CAMVID else ".jpg"
    return [
        (
            Path(root, layout.images, name + suffix),
            Path(root, layout.labels, f"{name}.png") if layout.labels else None,
        )
        for name in layout.names
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
    labels = [info.get("seg_map_path") for info in infos]
    return [
        (Path(info["img_path"]), Path(label) if label else None)
        for info, label in zip(infos, labels, strict=True)
    ]


def build(settings: dict, **changed):
    """The data set, not packed for several processes, which takes a third of a second."""
    return DATASETS.build({**settings, **changed, "serialize_data": False})


def build_split(cfg: Config, split: str, **changed):
    """As tools/test.py --split does it."""
    return build({**cfg.test_dataloader.dataset, **cfg.splits[split]}, **changed)


# Of configs with the same data one is enough.
SPLITS = {
    str((cfg["test_dataloader"]["dataset"], cfg["tta_pipeline"], split, entry)): (name, split)
    for name in NAMES
    for cfg in [_config(name).to_dict()]
    for split, entry in cfg["splits"].items()
}


@pytest.mark.parametrize(("name", "split"), SPLITS.values())
def test_loads(name, split):
    cfg = config(name)
    root = cfg.test_dataloader.dataset.data_root
    meaning = MEANINGS.get(root, VOC)
    if cfg.test_dataloader.dataset.type == "PascalContextDataset59":
        meaning = {stored: index - 1 if stored else VOID for stored, index in meaning.items()}
    label = np.vectorize(meaning.get)(stored_label(root))
    dataset = build_split(cfg, split)
    assert found_files(dataset) == files(root, split)
    if name == "fcn8s_vgg16-bn_camvid-scratch-half":
        assert dataset[0]["inputs"].shape == (3, 180, 240)
    views = build_split(cfg, split, pipeline=cfg.tta_pipeline)
    for alone, several, (_, label_file) in zip(dataset, views, files(root, split), strict=True):
        # One of the views is what is seen without --tta, another its mirror image.
        seen = alone["inputs"]
        pairs = zip(several["inputs"], several["data_samples"], strict=True)
        one, other = ((view, meta) for view, meta in pairs if view.shape == seen.shape)
        assert one[0].equal(seen) and not one[1].flip
        assert other[0].equal(seen.flip(2)) and not other[0].equal(seen)
        assert (other[1].flip, other[1].flip_direction) == (True, "horizontal")
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
    "fcn8s_vgg16_pascal-context59": [(VOC2010, "train")],
    "fcn8s_vgg16_ade20k": [(ADE, "train")],
    "fcn8s_vgg16_camvid": [(CAMVID, "train")],
    "fcn8s_vgg16_shapes": [("data/shapes", "train")],
}


@pytest.mark.parametrize("name", TRAINED_ON)
def test_trains_on(name, tmp_path):
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
    cfg = config(name)
    cfg.dump(tmp_path / "dumped.py")
    assert Config.fromfile(tmp_path / "dumped.py").to_dict() == cfg.to_dict()


def test_the_59_classes_are_the_published_ones_without_background():
    whole, some = (build_split(config(f"fcn8s_vgg16_pascal-context{n}"), "val") for n in ("", "59"))
    assert whole.metainfo["classes"] == PUBLISHED_CLASSES
    assert some.metainfo["classes"] == PUBLISHED_CLASSES[1:]
    assert some.metainfo["palette"] == whole.metainfo["palette"][1:]
    assert PascalContextDataset59.METAINFO["classes"] == CONTEXT[1:]
