"""Each shipped data set: label files, pipeline and metric to files that score.py scores alike.

The files, the predictions and what they must become are made by the classes' names, from what the
publishers say of their numbers.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.datasets import ADE20KDataset, BaseSegDataset, PascalContextDataset, PascalVOCDataset
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from PIL import Image
from tools.running import tool

from fcn_plugin.checks.ignored import unify_ignored
from fcn_plugin.data.camvid import CLASSES as CAMVID
from fcn_plugin.data.numbering import set_colours
from fcn_plugin.evaluation.folders import Tally, counted, matched
from fcn_plugin.evaluation.protocols import Protocol, protocol, protocol_of
from fcn_plugin.evaluation.scores import scores

CONFIGS = Path(__file__).parents[2] / "configs"
SIZE = (24, 31)
VOC = PascalVOCDataset.METAINFO["classes"]
CONTEXT = PascalContextDataset.METAINFO["classes"]
SHAPES = ("background", "circle", "square", "triangle", "star")
OWN = ("grass", "road", "mud", "sky", "car")

# config -> its classes in the order of their numbers, number of the first, void, score.py's options
DATA_SETS: dict[str, tuple[tuple[str, ...], int, int, tuple]] = {
    "_base_/datasets/ade20k": (ADE20KDataset.METAINFO["classes"], 1, 0, ("mit",)),
    "_base_/datasets/camvid": (tuple(CAMVID), 0, 11, ("voc", 11, 11)),
    "_base_/datasets/pascal_context": (CONTEXT, 0, 255, ("voc", 60)),
    "_base_/datasets/shapes": (SHAPES, 0, 255, ("voc", 5)),
    "_base_/datasets/voc2011": (VOC, 0, 255, ("voc",)),
    "_base_/datasets/voc2012": (VOC, 0, 255, ("voc",)),
    "_base_/datasets/voc2012_aug": (VOC, 0, 255, ("voc",)),
    "fcn8s_vgg16_pascal-context59": (CONTEXT[1:], 1, 0, ("voc", 59, 0, 1)),
}


@DATASETS.register_module()
class OwnRoundTrip(BaseSegDataset):
    METAINFO = dict(classes=OWN, palette=[[9 * i, 0, 0] for i in range(5)])


def test_every_shipped_data_set_is_here():
    shipped = {f"_base_/datasets/{path.stem}" for path in CONFIGS.glob("_base_/datasets/*.py")}
    assert len(shipped) > 6
    assert shipped - {*DATA_SETS} == {"_base_/datasets/own"}  # which has no classes yet


def shipped(name: str, folder: Path) -> Config:
    """The config, with its data under ``folder``."""
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    cfg.test_dataloader.dataset.data_root = str(folder)
    return cfg


def own(folder: Path, **settings: Any) -> Config:
    """One's own: mud is left out, the others stand in another order."""
    dataset = dict(
        type="OwnRoundTrip",
        data_root=str(folder),
        data_prefix=dict(img_path="images", seg_map_path="labels"),
        metainfo=dict(classes=("car", "sky", "grass", "road")),
        pipeline=[
            dict(type="LoadCheckedImage"),
            dict(type="LoadCheckedLabel", num_classes=4),
            dict(type="PackSegInputs"),
        ],
        **settings,
    )
    metric = dict(type="ConfusionMatrixMetric")
    return Config(dict(test_dataloader=dict(dataset=dataset), test_evaluator=metric))


def made(cfg: Config, numbers: dict[str, int], void: int) -> list[np.ndarray]:
    """Images and labels on the disk, where the config looks for them: the labels as stored."""
    dataset, chance = cfg.test_dataloader.dataset, np.random.default_rng(0)
    root = Path(dataset.data_root)
    folders = [root / dataset.data_prefix[key] for key in ("img_path", "seg_map_path")]
    for folder in folders:
        folder.mkdir(parents=True)
    if dataset.get("ann_file"):
        (root / dataset.ann_file).parent.mkdir(parents=True)
        (root / dataset.ann_file).write_text("a\nb\nc\n")
    stored = []
    for name in "abc":
        label = chance.choice([*numbers.values(), void], SIZE).astype(np.uint8)
        Image.fromarray(label).save(folders[1] / f"{name}.png")
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folders[0] / f"{name}.jpg")
        stored.append(label)
    return stored


def predicted(cfg: Config, wanted: list[np.ndarray], numbers: dict[str, int], out: Path) -> dict:
    """The scores of a network that predicts the classes of ``wanted``; the files are in ``out``."""
    set_colours(cfg.test_dataloader)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    index = np.zeros(256, np.int64)
    for i, name in enumerate(dataset.metainfo["classes"]):
        index[numbers[name]] = i
    evaluator = Evaluator([dict(cfg.test_evaluator, output_dir=str(out))])
    evaluator.dataset_meta = dataset.metainfo
    assert len(dataset) == len(wanted) == 3
    for i, labels in enumerate(wanted):
        sample: SegDataSample = dataset[i]["data_samples"]
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(index[labels])[None])
        evaluator.process([sample], None)
    return evaluator.evaluate(len(dataset))


def scored(cfg: Config, out: Path, rule: Protocol) -> dict[str, float]:
    """By score.py's functions, in the metric's words."""
    dataset = cfg.test_dataloader.dataset
    truth, total = Path(dataset.data_root) / dataset.data_prefix.seg_map_path, Tally()
    for tally in counted(matched(truth, out), rule, 1):
        total += tally
    found = scores(rule.matrix(total.counts), rule.absent)
    percent = dict(
        aAcc=100 * found.pixel_accuracy,
        mAcc=100 * found.mean_accuracy,
        mIoU=100 * found.mean_iu,
        fwIoU=100 * found.frequency_weighted_iu,
    )
    if rule.absent == "zero":
        percent["score"] = (percent["aAcc"] + percent["mIoU"]) / 2
    return percent


def refuse_other_files(out: Path, wanted: list[np.ndarray], colours: dict[int, tuple]) -> None:
    """Indexed PNGs with the labels wanted, in these colours."""
    for file, labels in zip("abc", wanted, strict=True):
        image = Image.open(out / f"{file}.png")
        assert np.array_equal(np.asarray(image), labels)
        levels = np.reshape(image.getpalette(), (-1, 3)).tolist()
        assert all(levels[number] == [*colours[number]] for number in np.unique(labels))


@pytest.mark.parametrize("name", DATA_SETS)
def test_what_is_written_scores_as_it_was_scored(tmp_path, name):
    classes, first, void, options = DATA_SETS[name]
    numbers = {each: first + i for i, each in enumerate(classes)}
    cfg = shipped(name, tmp_path / "data")
    stored = made(cfg, numbers, void)
    chance = np.random.default_rng(1)
    guesses = [chance.choice([*numbers.values()][:-1], SIZE).astype(np.uint8) for _ in stored]
    wanted = [
        np.where((label != void) & (guess % 3 > 0), label, guess)
        for label, guess in zip(stored, guesses, strict=True)
    ]
    found = predicted(cfg, wanted, numbers, tmp_path / "out")
    assert 30 < found["mIoU"] < 100
    dataset = cfg.test_dataloader.dataset
    palette = getattr(DATASETS.get(dataset.type), "METAINFO", {}).get("palette")
    palette = palette or dataset.metainfo.palette
    refuse_other_files(tmp_path / "out", wanted, dict(enumerate(palette, start=first)))
    for rule in (protocol_of(cfg), protocol(*options)):
        assert scored(cfg, tmp_path / "out", rule) == found


@pytest.mark.parametrize("reduced", [False, True])
def test_ones_own_in_another_order_and_one_left_out(tmp_path, reduced):
    numbers = {name: reduced + i for i, name in enumerate(OWN)}
    cfg = own(tmp_path / "data", reduce_zero_label=reduced)
    stored = made(cfg, numbers, void=0 if reduced else 255)
    there = [number for name, number in numbers.items() if name != "mud"]
    chance = np.random.default_rng(1)
    wanted = [chance.choice(there, SIZE).astype(np.uint8) for _ in stored]
    for labels, truth in zip(wanted, stored, strict=True):
        right = (chance.random(SIZE) < 0.5) & np.isin(truth, there)
        labels[right] = truth[right]
    found = predicted(cfg, wanted, numbers, tmp_path / "out")
    assert 30 < found["mIoU"] < 90
    colours = {number: (9 * (number - reduced), 0, 0) for number in there}
    refuse_other_files(tmp_path / "out", wanted, colours)
    assert scored(cfg, tmp_path / "out", protocol_of(cfg)) == found


def test_a_class_that_the_heads_ignore(tmp_path):
    """As truth it is not scored, by the tool neither, which has only the config; as prediction it
    is wrong."""
    cfg = own(tmp_path / "data")
    cfg.test_dataloader.dataset.type = "BaseSegDataset"  # the tool does not know the tests' own
    cfg.model = dict(decode_head=dict(type="FCNHead", ignore_index=2))
    cfg.dump(tmp_path / "own.py")
    unify_ignored(cfg)
    stored = made(cfg, {str(number): number for number in range(4)}, void=255)
    wanted = [np.where(truth == 255, 0, truth) for truth in stored]
    for labels in wanted:
        labels[::5] = 2
    numbers = {name: i for i, name in enumerate(cfg.test_dataloader.dataset.metainfo.classes)}
    found = predicted(cfg, wanted, numbers, tmp_path / "out")
    assert 70 < found["mAcc"] < 90
    assert scored(cfg, tmp_path / "out", protocol_of(cfg)) == found
    options = ["--truth", tmp_path / "data/labels", "--pred", "out", "--config", "own.py"]
    done = tool("score.py", *options, "--json", "scores.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "scores.json").read_text())
    assert 100 * told["mean_iu"] == found["mIoU"]
    assert 100 * told["pixel_accuracy"] == found["aAcc"]
