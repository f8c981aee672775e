"""Schedules that end elsewhere than the training are told of, and no config's is."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engine.runs import runner
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from fcn_plugin.checks import ScheduleCheckHook

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
WARM_UP = dict(type="LinearLR", start_factor=0.1, end=2, by_epoch=False)
POLY = dict(type="PolyLR", power=0.9, by_epoch=False)
COSINE = dict(type="CosineAnnealingLR", by_epoch=False)
STEPS = dict(type="MultiStepLR", milestones=[3, 40], by_epoch=False)
MOMENTUM = dict(type="PolyMomentum", power=0.9, by_epoch=False)


def warnings(run, caplog) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        ScheduleCheckHook().before_train(run)
    return [record.getMessage() for record in caplog.records]


def begun(schedulers, iterations=8, epochs=1, loop=IterBasedTrainLoop):
    """What the hook sees of a run."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    several = [schedulers] if isinstance(schedulers, dict) else schedulers or []
    built = [
        PARAM_SCHEDULERS.build(dict(settings), default_args=dict(optimizer=optimizer))
        for settings in several
    ]
    return SimpleNamespace(
        param_schedulers=built,
        max_iters=iterations,
        max_epochs=epochs,
        train_loop=object.__new__(loop),
        cfg=dict(param_scheduler=schedulers),
        logger=logging.getLogger(),
    )


@pytest.mark.parametrize(
    "schedulers",
    [
        None,
        [WARM_UP, POLY | dict(begin=2, end=8)],
        [WARM_UP, POLY | dict(begin=2, end=5), POLY | dict(begin=5, end=8)],
        [POLY | dict(begin=2, end=5), WARM_UP | dict(begin=5, end=8)],
        [COSINE | dict(end=4), STEPS],
        [STEPS],
        [COSINE | dict(T_max=4)],
        [MOMENTUM | dict(end=4)],
        [COSINE | dict(end=5), COSINE | dict(by_epoch=True, begin=0, end=1)],
    ],
)
def test_ends_that_are_right(schedulers, caplog):
    assert not warnings(begun(schedulers), caplog)


@pytest.mark.parametrize(
    ("schedulers", "said"),
    [
        ([WARM_UP, POLY | dict(begin=2, end=80)], "with 80: it hardly falls; set {}.1.end=8"),
        ([POLY | dict(begin=8, end=80)], "hardly falls; set {0}.0.begin and {0}.0.end=8"),
        ([COSINE | dict(end=6)], "with 6: it stays at its least for the rest; set {}.0.end=8"),
        ([COSINE | dict(end=6), MOMENTUM | dict(end=8)], "least for the rest; set {}.0.end=8"),
        (COSINE | dict(end=6), "set {}.end=8"),
        ([POLY | dict(by_epoch=True, end=3)], "{}.0.by_epoch=False, and begin and end in iter"),
    ],
)
def test_an_end_that_is_not_the_trainings(schedulers, said, caplog):
    (found,) = warnings(begun(schedulers), caplog)
    assert found.startswith("training ends with ")
    assert said.format("param_scheduler") in found


def test_ends_in_epochs(caplog):
    epochs = dict(iterations=15, epochs=3, loop=EpochBasedTrainLoop)
    converted = POLY | dict(by_epoch=True, convert_to_iter_based=True, epoch_length=5)
    assert not warnings(begun([converted | dict(end=3)], **epochs), caplog)
    for settings in (converted, POLY | dict(by_epoch=True)):
        (found,) = warnings(begun([settings | dict(end=6)], **epochs), caplog)
        assert found.endswith("set param_scheduler.0.end=3")


def test_of_several_optimizers_each_has_its_own(caplog):
    settings = dict(backbone=[POLY | dict(end=8)], head=[POLY | dict(end=9)])
    run = begun([])
    run.param_schedulers = {n: begun(each).param_schedulers for n, each in settings.items()}
    run.cfg = dict(param_scheduler=settings)
    (found,) = warnings(run, caplog)
    assert found.endswith("set param_scheduler.head.0.end=8")
    # One list for all of them.
    run.cfg = dict(param_scheduler=settings["head"])
    (found,) = warnings(run, caplog)
    assert found.endswith("set param_scheduler.0.end=8")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_end_together(path, caplog):
    cfg = Config.fromfile(path)
    assert any(hook["type"] == "ScheduleCheckHook" for hook in cfg.custom_hooks)
    assert not warnings(begun(cfg.param_scheduler, cfg.train_cfg.max_iters), caplog)


def test_in_runs(tmp_path, caplog):
    """``runner``'s schedule ends with iteration 8, and is the checkpoint's when resumed."""
    told = []
    for iterations, resume in ((8, False), (4, False), (10, True)):
        folder = tmp_path / ("short" if iterations != 8 else "whole")
        hooks = [dict(type="ScheduleCheckHook")]
        run = runner(folder, iterations, resume, custom_hooks=hooks)
        run.logger.handlers[0].setLevel(logging.WARNING)
        run.logger.addHandler(caplog.handler)
        caplog.clear()
        run.train()
        told.append([r.getMessage() for r in caplog.records if "the schedule of" in r.getMessage()])
    assert told[0] == []
    assert told[1] == [
        "training ends with iteration 4, the schedule of the learning rate with 8: it hardly "
        "falls; set param_scheduler.end=4"
    ]
    (resumed,) = told[2]
    assert resumed.endswith(
        "it is the checkpoint's; for the config's begin a new run, with load_from"
    )
