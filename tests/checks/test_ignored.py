"""Pixels that do not count have one number in a whole config."""

from contextlib import nullcontext
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


def settled(folder: Path, *extra: str, number: int = 254) -> Config:
    head = f"model['decode_head'].update(ignore_index={number})"
    return Config.fromfile(config(folder, "\n".join([EVERYWHERE, head, *extra])))


def test_another_number_in_one_place_trains_and_scores_the_same(tmp_path, monkeypatch):
    """Whether the label files have 255 or that number, here in their upper rows."""
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "data/shapes", train=4, val=2, size=32)
    results = []
    for number in (255, 254):
        for path in sorted(tmp_path.rglob("SegmentationClass/*.png"))[number == 254 :]:
            label = np.asarray(Image.open(path)).copy()
            label[:8] = number
            Image.fromarray(label).save(path)
        cfg = settled(tmp_path, number=number)
        cfg.work_dir = f"run_{number}"
        before = deepcopy(cfg.to_dict())
        with pytest.raises(UserError) if number == 254 else nullcontext():
            refuse_other_ignored(cfg)
        assert cfg.to_dict() == before
        unify_ignored(cfg)
        refuse_other_ignored(cfg)
        run = Runner.from_cfg(cfg)
        run.train()
        best = run.message_hub.get_info("best_score")
        results.append((run.model.state_dict(), best, run.test()))
    assert same(*results)


def test_what_was_chosen_stays(tmp_path):
    """Padding that is to be learned, a class that one loss leaves out, colours of padding."""
    cfg = settled(
        tmp_path,
        "model['data_preprocessor'].update(seg_pad_val=0)",
        "model['auxiliary_head']['loss_decode'][1].update(ignore_index=0)",
    )
    cfg.train_dataloader.dataset.pipeline[3].pad_val = 9
    unify_ignored(cfg)
    assert cfg.model.data_preprocessor.seg_pad_val == 0
    assert cfg.model.auxiliary_head.loss_decode[1].ignore_index == 0
    assert cfg.train_dataloader.dataset.pipeline[3].pad_val == dict(img=9, seg=254)


@pytest.mark.parametrize("number", [254, 255])
def test_a_metric_with_a_number_of_its_own(tmp_path, number):
    """mmseg's may have one, since it leaves out whatever is no class."""
    with pytest.raises(UserError, match=rf"val_evaluator.ignore_index=0.*{number}"):
        unify_ignored(settled(tmp_path, "val_evaluator = dict(ignore_index=0)", number=number))
    theirs = "val_evaluator = dict(type='IoUMetric', ignore_index=0)"
    unify_ignored(cfg := settled(tmp_path, theirs, number=255))
    assert cfg.val_evaluator.ignore_index == 0
