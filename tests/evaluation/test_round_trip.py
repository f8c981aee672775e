"""Each shipped data set: label files, pipeline and metric to files that score.py scores alike.

The files, the predictions and what they must become are made by the classes' names, from what the
publishers say of their numbers.
"""

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

from fcn_plugin.checks.ignored import unify_ignored
from fcn_plugin.data.camvid import CLASSES as CAMVID
from fcn_plugin.data.numbering import set_colours
from fcn_plugin.data.nyud import NYUDv2Dataset
from fcn_plugin.data.siftflow import SEMANTIC
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
    "_base_/datasets/nyud": (NYUDv2Dataset.METAINFO["classes"], 1, 0, ("voc", 40, 0, 1)),
    "_base_/datasets/pascal_context": (CONTEXT, 0, 255, ("voc", 60)),
    "_base_/datasets/shapes": (SHAPES, 0, 255, ("voc", 5)),
    "_base_/datasets/siftflow": (SEMANTIC, 1, 0, ()),
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


def shipped(name: str) -> Config:
    return Config.fromfile(CONFIGS / f"{name}.py")


def own(**settings: Any) -> Config:
    """One's own: mud is left out, the others stand in another order."""
    dataset = dict(
        type="OwnRoundTrip",
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


def stored(cfg: Config, root: Path, values: list[int]) -> list[np.ndarray]:
    """Images and labels of these values on the disk, where the config then looks for them.

    Further tasks have labels of nothing but void.
    """
    dataset, chance = cfg.test_dataloader.dataset, np.random.default_rng(0)
    dataset.data_root = str(root)
    images, labels = (root / dataset.data_prefix[key] for key in ("img_path", "seg_map_path"))
    names = root / dataset.get("ann_file", "list")
    suffix = ".png" if dataset.type == "NYUDv2Dataset" else ".jpg"
    further = [root / path for key, path in dataset.data_prefix.items() if key.endswith("_path")]
    further = [folder for folder in further if folder not in (images, labels)]
    for folder in (images, labels, names.parent, *further):
        folder.mkdir(parents=True, exist_ok=True)
    names.write_text("a\nb\nc\n")
    made = [chance.choice(values, SIZE).astype(np.uint8) for _ in "abc"]
    for name, label in zip("abc", made, strict=True):
        Image.fromarray(label).save(labels / f"{name}.png")
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(images / f"{name}{suffix}")
        for folder in further:
            Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / f"{name}.png")
    return made


def predicted(cfg: Config, wanted: list[np.ndarray], numbers: dict[str, int], out: Path) -> dict:
    """The scores of a network that predicts the classes of ``wanted``; the files are in ``out``."""
    set_colours(cfg.test_dataloader)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    index = np.zeros(256, np.int64)
    for i, name in enumerate(dataset.metainfo["classes"]):
        index[numbers[name]] = i
    of_tasks = cfg.test_evaluator
    metric = of_tasks[0] if isinstance(of_tasks, list) else of_tasks
    evaluator = Evaluator([dict(metric, output_dir=str(out))])
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
        mDice=100 * found.mean_dice,
        mPrecision=100 * found.mean_precision,
        mRecall=100 * found.mean_accuracy,
    )
    if rule.absent == "zero":
        percent["score"] = (percent["aAcc"] + percent["mIoU"]) / 2
    return percent


CASES = [(shipped(name), *facts) for name, facts in DATA_SETS.items()]
CASES += [(own(), OWN, 0, 255, ()), (own(reduce_zero_label=True), OWN, 1, 0, ())]


@pytest.mark.parametrize(("cfg", "classes", "first", "void", "options"), CASES)
def test_what_is_written_scores_as_it_was_scored(tmp_path, cfg, classes, first, void, options):
    """And the files are indexed PNGs with the labels wanted, in the data set's colours."""
    numbers = {name: first + i for i, name in enumerate(classes)}
    there = [number for name, number in numbers.items() if name != "mud"]
    truths = stored(cfg, tmp_path / "data", [*numbers.values(), void])
    chance = np.random.default_rng(1)
    wanted = []
    for truth in truths:
        right = np.isin(truth, there) & (chance.random(SIZE) < 0.6)
        wanted.append(np.where(right, truth, chance.choice(there[:-1], SIZE)).astype(np.uint8))
    found = predicted(cfg, wanted, numbers, tmp_path / "out")
    assert 30 < found["mIoU"] < 100
    dataset = cfg.test_dataloader.dataset
    palette = getattr(DATASETS.get(dataset.type), "METAINFO", {}).get("palette")
    colours = dict(zip(numbers.values(), palette or dataset.metainfo.palette, strict=True))
    for file, labels in zip("abc", wanted, strict=True):
        image = Image.open(tmp_path / f"out/{file}.png")
        assert np.array_equal(np.asarray(image), labels)
        levels = np.reshape(image.getpalette(), (-1, 3)).tolist()
        assert all(levels[number] == [*colours[number]] for number in np.unique(labels))
    for rule in (protocol_of(cfg), *([protocol(*options)] if options else [])):
        assert scored(cfg, tmp_path / "out", rule) == found


@pytest.mark.parametrize("metric", ["ConfusionMatrixMetric", "IoUMetric"])
def test_the_value_of_an_absent_class_is_the_metrics(metric):
    cfg = own()
    cfg.test_evaluator = dict(type=metric, nan_to_num=0.25)
    assert protocol_of(cfg).absent == 0.25


def test_a_class_that_the_heads_ignore(tmp_path):
    """As truth it is not scored; as prediction it is wrong."""
    cfg = own()
    cfg.model = dict(decode_head=dict(type="FCNHead", ignore_index=2))
    unify_ignored(cfg)
    numbers = {name: OWN.index(name) for name in cfg.test_dataloader.dataset.metainfo.classes}
    wanted = stored(cfg, tmp_path / "data", [*numbers.values()])
    for labels in wanted:
        labels[::5] = numbers["grass"]
    found = predicted(cfg, wanted, numbers, tmp_path / "out")
    assert 70 < found["mAcc"] < 90
    assert scored(cfg, tmp_path / "out", protocol_of(cfg)) == found
