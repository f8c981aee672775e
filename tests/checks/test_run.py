"""Loops, loaders, scores and schedules that do not go together, and those that do."""

import logging
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import EarlyStoppingHook
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmseg.evaluation import IoUMetric
from torch.utils.data import DataLoader

from fcn_plugin.checks import ScheduleCheckHook
from fcn_plugin.checks.ignored import refuse_other_ignored, unify_ignored
from fcn_plugin.checks.run import check_scores, smallest_batch
from fcn_plugin.engine import SnapshotHook
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.system.configs import one_or_many

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
EPOCHS, ITERATIONS = (object.__new__(kind) for kind in (EpochBasedTrainLoop, IterBasedTrainLoop))


def loader(sampler: type, images: int = 5, **settings) -> DataLoader:
    data = list(range(images))
    return DataLoader(data, batch_size=2, sampler=sampler(data), **settings)


def test_the_smallest_batch():
    """The last one of an epoch has what is left."""
    assert smallest_batch(loader(DefaultSampler), EPOCHS) == 1
    assert smallest_batch(loader(DefaultSampler, drop_last=True), EPOCHS) == 2
    assert smallest_batch(loader(DefaultSampler, 6), EPOCHS) == 2
    assert smallest_batch(loader(InfiniteSampler), ITERATIONS) == 2


class Other(ConfusionMatrixMetric):
    """Nobody knows what it gives."""


OURS, PREFIXED = ConfusionMatrixMetric(), ConfusionMatrixMetric(prefix="val")
SEVERAL = IoUMetric(iou_metrics=["mDice", "mFscore"])


@pytest.mark.parametrize(
    ("metric", "hook", "said"),
    [
        (OURS, SnapshotHook(save_best="auto"), ""),
        (OURS, SnapshotHook(save_best=["fwIoU", "aAcc"]), ""),
        (PREFIXED, SnapshotHook(save_best="val/mIoU"), ""),
        (SEVERAL, SnapshotHook(save_best=["mFscore", "mDice"]), ""),
        (Other(), SnapshotHook(save_best="mAP"), ""),
        (PREFIXED, SnapshotHook(save_best="mIoU"), "save_best='mIoU', but .*val/mIoU"),
        (IoUMetric(), SnapshotHook(save_best=["mIoU", "mRecall"]), "save_best='mRecall'"),
        (
            OURS,
            EarlyStoppingHook(monitor="mFscore", rule="greater"),
            "EarlyStoppingHook.monitor='mFscore'",
        ),
        (IoUMetric(iou_metrics=["mIOU"]), None, "'mIOU' does not exist; give some of mIoU"),
    ],
)
def test_scores_that_are_waited_for(metric, hook, said):
    with pytest.raises(UserError, match=said) if said else nullcontext():
        check_scores([metric], [hook])


# --- schedules -----------------------------------------------------------------------------------

WARM_UP = dict(type="LinearLR", start_factor=0.1, end=2, by_epoch=False)
POLY = dict(type="PolyLR", power=0.9, by_epoch=False)
COSINE = dict(type="CosineAnnealingLR", by_epoch=False)
STEPS = dict(type="MultiStepLR", milestones=[3, 40], by_epoch=False)
MOMENTUM = dict(type="PolyMomentum", power=0.9, by_epoch=False)


def begun(schedulers, iterations=8):
    """What the hook sees of a run."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    given, several = dict(optimizer=optimizer), one_or_many(schedulers)
    built = [PARAM_SCHEDULERS.build(dict(each), default_args=given) for each in several]
    return SimpleNamespace(
        param_schedulers=built,
        max_iters=iterations,
        max_epochs=1,
        train_loop=ITERATIONS,
        cfg=dict(param_scheduler=schedulers),
        logger=logging.getLogger(),
    )


def warnings(run, caplog) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        ScheduleCheckHook().before_train(run)
    return [record.getMessage() for record in caplog.records]


def test_ends_that_are_right(caplog):
    for schedulers in (
        None,
        [WARM_UP, POLY | dict(begin=2, end=5), POLY | dict(begin=5, end=8)],
        [POLY | dict(begin=2, end=5), WARM_UP | dict(begin=5, end=8)],
        [COSINE | dict(end=4), STEPS],
        [COSINE | dict(T_max=4), MOMENTUM | dict(end=4)],
    ):
        assert not warnings(begun(schedulers), caplog), schedulers


@pytest.mark.parametrize(
    ("schedulers", "said"),
    [
        ([WARM_UP, POLY | dict(begin=2, end=80)], "with 80: it hardly falls; set {}.1.end=8"),
        ([POLY | dict(begin=8, end=80)], "hardly falls; set {0}.0.begin and {0}.0.end=8"),
        (COSINE | dict(end=6), "with 6: it stays at its minimum for the rest; set {}.end=8"),
        ([POLY | dict(by_epoch=True, end=3)], "{}.0.by_epoch=False, and begin and end in iter"),
    ],
)
def test_an_end_that_is_not_the_trainings(schedulers, said, caplog):
    (found,) = warnings(begun(schedulers), caplog)
    assert found.startswith("training ends with ")
    assert said.format("param_scheduler") in found


def test_a_warm_up_that_goes_on_while_the_rate_falls(caplog):
    """As where only the fall was set to a shorter training."""
    (found,) = warnings(begun([WARM_UP | dict(end=6), POLY | dict(begin=2, end=8)]), caplog)
    assert "still rises until iteration 6, though it falls from 2 on" in found
    assert found.endswith("set param_scheduler.0.end=2")
    run = begun([WARM_UP | dict(end=6), POLY | dict(begin=2, end=8)])
    run.cfg = dict(param_scheduler=[WARM_UP, POLY | dict(begin=1)])  # in epochs of two iterations
    assert warnings(run, caplog)[0].endswith("set param_scheduler.0.end=1")


def test_no_shipped_config_is_changed_or_warned_of(caplog):
    assert len(CONFIGS) > 30
    for path in CONFIGS:
        cfg = Config.fromfile(path)
        before = deepcopy(cfg.to_dict())
        unify_ignored(cfg)
        refuse_other_ignored(cfg)
        assert cfg.to_dict() == before, path
        assert any(hook["type"] == "ScheduleCheckHook" for hook in cfg.custom_hooks), path
        assert not warnings(begun(cfg.param_scheduler, cfg.train_cfg.max_iters), caplog), path
