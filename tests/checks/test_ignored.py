"""Pixels that do not count have one number in a whole config."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from engine.runs import same
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from tools.running import config

from fcn_plugin.checks.ignored import refuse_other_ignored, unify_ignored
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.shapes import write_shapes

# Rotation, padding and a second head, all of which put 255 into labels or look for it.
EVERYWHERE = """
train_dataloader["dataset"] = dict(pipeline=[
    dict(type="LoadCheckedImage"),
    dict(type="LoadCheckedLabel", num_classes=5),
    dict(type="RandomRotate", prob=1.0, degree=45.0),
    dict(type="Pad", size=(40, 40)),
    dict(type="FastRandomCrop", crop_size=(36, 36), cat_max_ratio=0.75),
    dict(type="FastPackSegInputs"),
])
model["data_preprocessor"] = dict(size=(48, 48))
model["auxiliary_head"] = dict(
    type="FCNHead", in_channels=8, in_index=0, channels=4, num_convs=1, num_classes=5,
    loss_decode=[dict(type="CrossEntropyLoss"), dict(type="DiceLoss", loss_name="loss_dice")],
)
"""
SETTINGS = [
    "model.auxiliary_head.ignore_index",
    "model.auxiliary_head.loss_decode.1.ignore_index",
    "model.data_preprocessor.seg_pad_val",
    "val_evaluator.ignore_index",
    "test_evaluator.ignore_index",
    "train_dataloader.dataset.pipeline.1.ignore_index",
    "train_dataloader.dataset.pipeline.2.seg_pad_val",
    "train_dataloader.dataset.pipeline.3.pad_val.seg",
    "train_dataloader.dataset.pipeline.4.ignore_index",
    "val_dataloader.dataset.pipeline.1.ignore_index",
    "test_dataloader.dataset.pipeline.1.ignore_index",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Shapes of which the upper rows are void."""
    folder = tmp_path_factory.mktemp("void")
    write_shapes(folder / "data/shapes", train=4, val=2, size=32)
    for path in (folder / "data/shapes/SegmentationClass").glob("*.png"):
        relabel(path, (slice(8), slice(None)), 255)
    return folder


def relabel(path: Path, where: object, number: int) -> None:
    label = np.asarray(Image.open(path)).copy()
    label[label == where if isinstance(where, int) else where] = number
    Image.fromarray(label).save(path)


def settled(folder: Path, *extra: str, number: int = 254) -> Config:
    head = f"model['decode_head'].update(ignore_index={number})"
    return Config.fromfile(config(folder, "\n".join([EVERYWHERE, head, *extra])))


def test_another_number_in_one_place_trains_and_scores_the_same(folder, monkeypatch):
    """Whether the label files have 255 or that number."""
    monkeypatch.chdir(folder)
    results = []
    for number in (255, 254):
        if number == 254:  # in half of the files
            relabel(folder / "data/shapes/SegmentationClass/val_00000.png", 255, 254)
        cfg = settled(folder, number=number)
        cfg.work_dir = f"run_{number}"
        unify_ignored(cfg)
        run = Runner.from_cfg(cfg)
        run.train()
        results.append((run.model.state_dict(), run.message_hub.get_info("best_score")))
    assert same(*results)


def test_every_setting_follows(folder):
    cfg = settled(folder, number=7)
    before = deepcopy(cfg.to_dict())
    with pytest.raises(UserError) as error:
        refuse_other_ignored(cfg)
    assert cfg.to_dict() == before
    assert {word.rstrip(",") for word in str(error.value).split() if ".pipeline" in word} == {
        f"{setting}=7" for setting in SETTINGS if ".pipeline" in setting
    }
    unify_ignored(cfg)
    for setting in SETTINGS:
        value = cfg
        for key in setting.split("."):
            value = value[int(key)] if key.isdigit() else value[key]
        assert value == 7, setting
    refuse_other_ignored(cfg)


class Pad:
    """Another package's transform of mmcv's name."""

    def __init__(self, pad_val: int = 0) -> None:
        self.pad_val = pad_val


def test_what_was_chosen_stays(folder):
    """Padding that is to be learned, a class that one loss leaves out, somebody else's padding."""
    cfg = settled(
        folder,
        "model['data_preprocessor'].update(seg_pad_val=0)",
        "model['auxiliary_head']['loss_decode'][1].update(ignore_index=0)",
    )
    steps = cfg.train_dataloader.dataset.pipeline
    steps[3:4] = [dict(type=Pad, pad_val=0), dict(type="Pad", size=(40, 40), pad_val=9)]
    unify_ignored(cfg)
    assert cfg.model.data_preprocessor.seg_pad_val == 0
    assert cfg.model.auxiliary_head.loss_decode[1].ignore_index == 0
    assert steps[3] == dict(type=Pad, pad_val=0)
    assert steps[4]["pad_val"] == dict(img=9, seg=254)


@pytest.mark.parametrize("number", [254, 255])
def test_a_metric_with_a_number_of_its_own(folder, number):
    """mmseg's may have one, since it leaves out whatever is no class."""
    with pytest.raises(UserError, match=rf"val_evaluator.ignore_index=0.*{number}"):
        unify_ignored(settled(folder, "val_evaluator = dict(ignore_index=0)", number=number))
    theirs = "val_evaluator = dict(type='IoUMetric', ignore_index=0)"
    unify_ignored(cfg := settled(folder, theirs, number=255))
    assert cfg.val_evaluator.ignore_index == 0
