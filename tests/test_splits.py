"""Every split of every config loads: the right files, whole, by the test pipeline and by --tta's.

On small trees in the layouts of the data sets, which LAYOUTS describes a second time.
"""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmseg.datasets import PascalContextDataset, PascalContextDataset59
from mmseg.registry import DATASETS, MODELS
from PIL import Image

from fcn_plugin.data.pascal_context import PUBLISHED_CLASSES

FOLDER = Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
VOID = 255
SIZE = (36, 48)


class Split(NamedTuple):
    """Where images, labels and their list are, relative to the data set's folder."""

    names: str  # one letter each
    images: str
    labels: str | None
    ids: str | None = None  # all images in the folder


def voc(names: str, split: str, labels: str | None = "SegmentationClass") -> Split:
    return Split(names, "JPEGImages", labels, f"ImageSets/Segmentation/{split}.txt")


def context(names: str, split: str) -> Split:
    folder = "SegmentationClassContext"
    return Split(names, "JPEGImages", folder, f"ImageSets/SegmentationContext/{split}.txt")


LAYOUTS = {
    "data/VOCdevkit/VOC2012": {
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
    "data/VOCdevkit/VOC2010": {"train": context("ab", "train"), "val": context("c", "val")},
    "data/ade/ADEChallengeData2016": {
        "train": Split("abc", "images/training", "annotations/training"),
        "val": Split("d", "images/validation", "annotations/validation"),
        "test": Split("ef", "images/testing", None),
    },
    "data/camvid": {
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
    "data/VOCdevkit/VOC2010": range(60),
    "data/ade/ADEChallengeData2016": range(151),
    "data/camvid": range(12),
    "data/shapes": (*range(5), VOID),
}


def stored_label(root: str) -> np.ndarray:
    """What every label file of a data set holds: all its values, again and again."""
    return np.resize(np.array(VALUES.get(root, (*range(21), VOID)), np.uint8), SIZE)


@cache
def _config(name: str) -> Config:
    return Config.fromfile(FOLDER / f"{name}.py")


def config(name: str) -> Config:
    """One's own: the host puts what it builds of tta_pipeline into the config."""
    return deepcopy(_config(name))


def splits() -> list[tuple[str, str]]:
    return [(name, split) for name in NAMES for split in _config(name).splits]


def image(root: str, split: Split, name: str) -> Path:
    return Path(root, split.images, name + (".png" if root == "data/camvid" else ".jpg"))


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Path:
    """The folder in which the data sets lie in data/."""
    folder = tmp_path_factory.mktemp("trees")
    random = np.random.default_rng(0)
    for root, layout in LAYOUTS.items():
        for split in layout.values():
            for name in split.names:
                pixels = random.integers(0, 256, (*SIZE, 3), np.uint8)
                save(pixels, folder / image(root, split, name))
                if split.labels:
                    save(stored_label(root), folder / root / split.labels / f"{name}.png")
            if split.ids:
                path = folder / root / split.ids
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(f"{name}\n" for name in split.names))
    return folder


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(autouse=True)
def _in_the_folder_of_data(trees, monkeypatch):
    monkeypatch.chdir(trees)


def files(root: str, split: str) -> list[tuple[Path, Path | None]]:
    """Image and label of each sample of a split."""
    layout = LAYOUTS[root][split]
    labels = Path(root, layout.labels) if layout.labels else None
    return [
        (image(root, layout, name), labels / f"{name}.png" if labels else None)
        for name in layout.names
    ]


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


def expected_label(dataset: dict) -> np.ndarray:
    return np.vectorize(MEANINGS[dataset["type"]].get)(stored_label(dataset["data_root"]))


@pytest.mark.parametrize("name, split", splits())
def test_loads(name, split):
    cfg = config(name)
    settings = cfg.test_dataloader.dataset
    dataset, label = build_split(cfg, split), expected_label(settings)
    expected = files(settings.data_root, split)
    assert found_files(dataset) == expected

    views = build_split(cfg, split, pipeline=cfg.tta_pipeline)
    for alone, several, (_, label_file) in zip(dataset, views, expected, strict=True):
        # One of the views is what is seen without --tta, another its mirror image.
        seen = alone["inputs"]
        same_size = [view for view in several["inputs"] if view.shape == seen.shape]
        assert [view.equal(seen) for view in same_size] == [True, False]
        assert same_size[1].equal(seen.flip(2))
        for sample in (alone["data_samples"], *several["data_samples"]):
            assert sample.ori_shape == SIZE
            # Predictions that are written without labels go by it as well.
            assert sample.reduce_zero_label == (MEANINGS[settings.type][0] == VOID)
            assert ("gt_sem_seg" in sample) == (label_file is not None)
            if label_file is not None:
                assert np.array_equal(sample.gt_sem_seg.data[0], label)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_scored_unless_told_otherwise_is_one_of_them(name):
    cfg = config(name)
    dataset = cfg.test_dataloader.dataset
    same = [split for split, entry in cfg.splits.items() if {**dataset, **entry} == dataset]
    assert same == ["seg11valid" if "VOC2011" in dataset.data_root else "val"]
    assert cfg.val_dataloader.dataset == dataset


VOC2012 = "data/VOCdevkit/VOC2012"
# config -> the folders and splits it is trained on
TRAINED_ON = {
    "fcn8s_vgg16_voc": [(VOC2012, "train"), (VOC2012, "aug")],
    "fcn8s_vgg16_voc-train": [(VOC2012, "train")],
    "fcn8s_vgg16_voc2011": [("data/sbd", "train")],
    "fcn8s_vgg16_voc2011-heavy": [("data/sbd", "train")],
    **{
        f"fcn8s_vgg16_{name}": [(root, "train")]
        for root, name in (
            ("data/VOCdevkit/VOC2010", "pascal-context-heavy"),
            ("data/VOCdevkit/VOC2010", "pascal-context"),
            ("data/VOCdevkit/VOC2010", "pascal-context59"),
            ("data/ade/ADEChallengeData2016", "ade20k"),
            ("data/camvid", "camvid"),
            ("data/shapes", "shapes"),
        )
    },
}


@pytest.mark.parametrize("name", TRAINED_ON)
def test_trains_on(name):
    dataset = config(name).train_dataloader.dataset
    parts = [build(part) for part in dataset.get("datasets", [dataset])]
    expected = [files(root, split) for root, split in TRAINED_ON[name]]
    assert [found_files(part) for part in parts] == expected
    for part in parts:
        sample = part[0]
        values = set(sample["data_samples"].gt_sem_seg.data.unique().tolist())
        assert values - {VOID} <= set(range(len(part.metainfo["classes"])))
        assert len(values) > 1
        assert sample["inputs"].shape[1:] == sample["data_samples"].gt_sem_seg.shape


def test_at_half_the_resolution_every_split_is_seen_at_240_x_180():
    cfg = config("fcn8s_vgg16-bn_camvid-scratch-half")
    for split in ("train", "val", "test"):
        assert build_split(cfg, split)[0]["inputs"].shape == (3, 180, 240)


@pytest.mark.parametrize("name", TRAINED_ON)
def test_a_dumped_config_keeps_them(name, tmp_path):
    cfg = config(name)
    cfg.dump(tmp_path / "dumped.py")
    dumped = Config.fromfile(tmp_path / "dumped.py")
    assert dumped.splits == cfg.splits
    assert dumped.to_dict() == cfg.to_dict()


# --- PASCAL-Context without background --------------------------------------------------------


def test_the_59_classes_are_the_published_ones_without_background():
    found = [config(f"fcn8s_vgg16_pascal-context{classes}") for classes in ("", "59")]
    whole, without = (build_split(cfg, "val").metainfo for cfg in found)
    assert whole["classes"] == PUBLISHED_CLASSES
    assert without["classes"] == PUBLISHED_CLASSES[1:]
    assert without["palette"] == whole["palette"][1:]
    assert PascalContextDataset59.METAINFO["classes"] == CONTEXT[1:]


def test_the_hosts_loader_agrees_about_them():
    cfg = config("fcn8s_vgg16_pascal-context59")
    checked = build_split(cfg, "val")
    pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    host = build_split(cfg, "val", pipeline=pipeline)
    label = checked[0]["data_samples"].gt_sem_seg.data[0].numpy()
    assert np.array_equal(label, host[0]["gt_seg_map"])
    background = stored_label("data/VOCdevkit/VOC2010") == 0
    assert np.array_equal(label == VOID, background)


# --- scales and mirroring ---------------------------------------------------------------------

TINY = {
    "model.backbone.base_channels": 2,
    "model.backbone.fc_channels": 8,
    "model.backbone.init_cfg": None,
    "model.decode_head.in_channels": (8, 16, 8),
}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """FCN-8s with --tta, of weights that have a class for every place."""
    torch.manual_seed(0)
    cfg = config("fcn8s_vgg16_voc")
    cfg.merge_from_dict(TINY)
    model = MODELS.build(dict(cfg.tta_model, module=cfg.model)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.kaiming_normal_(parameter)
    return model


def predict(model: torch.nn.Module, pipeline: list, path: Path) -> torch.Tensor:
    """The labels H x W of an image without labels."""
    data = Compose(deepcopy(pipeline))(dict(img_path=str(path), seg_fields=[]))
    with torch.no_grad():
        (sample,) = model.test_step(pseudo_collate([data]))
    return sample.pred_sem_seg.data.squeeze(0)


def test_the_mirror_image_is_labelled_in_mirror_image(network, tmp_path):
    """So every view is turned back, and to its own place, before the views are averaged."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    # Smooth, so that its values are much the same however it is rounded when it is resized.
    picture = np.asarray(coarse.resize((128, 96), Image.Resampling.BICUBIC))
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture[:, ::-1]).save(tmp_path / "mirrored.png")
    cfg = config("fcn8s_vgg16_voc")

    def agreement(model, pipeline) -> float:
        found, mirrored = (
            predict(model, pipeline, tmp_path / f"{name}.png") for name in ("a", "mirrored")
        )
        assert found.shape == (96, 128)
        assert len(found.unique()) > 1
        return float((found == mirrored.flip(1)).float().mean())

    assert agreement(network, cfg.tta_pipeline) > 0.99
    # The network itself is no mirror.
    assert agreement(network.module, cfg.test_pipeline) < 0.9
