"""Schedules that end elsewhere than the training are told of, and no config's is."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engine.runs import runner
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from fcn_plugin.engine import ScheduleCheckHook

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
WARM_UP = dict(type="LinearLR", start_factor=0.1, end=2, by_epoch=False)
POLY = dict(type="PolyLR", power=0.9, by_epoch=False)
COSINE = dict(type="CosineAnnealingLR", by_epoch=False)
STEPS = dict(type="MultiStepLR", milestones=[3, 40], by_epoch=False)


def warnings(run, caplog) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        ScheduleCheckHook().before_train(run)
    return [record.getMessage() for record in caplog.records]


def begun(schedulers, iterations=8):
    """What the hook sees of a run."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    built = [
        PARAM_SCHEDULERS.build(dict(settings), default_args=dict(optimizer=optimizer))
        for settings in schedulers or ()
    ]
    return SimpleNamespace(
        param_schedulers=built, max_iters=iterations, max_epochs=1, logger=logging.getLogger()
    )


@pytest.mark.parametrize(
    ("schedulers", "said"),
    [
        ([WARM_UP, POLY | dict(begin=2, end=8)], None),
        ([WARM_UP, POLY | dict(begin=2, end=5), POLY | dict(begin=5, end=8)], None),
        ([STEPS], None),
        ([COSINE | dict(T_max=4)], None),
        (
            [WARM_UP, POLY | dict(begin=2, end=80)],
            "with 80: it hardly falls; set param_scheduler.1",
        ),
        (
            [POLY | dict(begin=8, end=80)],
            "falls; set param_scheduler.0.begin and param_scheduler.0",
        ),
        ([COSINE | dict(end=6)], "6: it stays at its least for the rest; set param_scheduler.0"),
        ([POLY | dict(by_epoch=True, end=3)], "training ends with epoch 1, the schedule"),
        (None, None),
    ],
)
def test_an_end_that_is_not_the_trainings(schedulers, said, caplog):
    found = warnings(begun(schedulers), caplog)
    assert len(found) == (said is not None)
    assert said is None or (said in found[0] and found[0].endswith((".end=8", ".end=1")))


def test_of_several_optimizers_each_has_its_own(caplog):
    run = begun([])
    run.param_schedulers = {
        name: begun([POLY | dict(end=end)]).param_schedulers
        for name, end in (("backbone", 8), ("head", 9))
    }
    (found,) = warnings(run, caplog)
    assert found.endswith("set param_scheduler.head.0.end=8")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_end_together(path, caplog):
    cfg = Config.fromfile(path)
    assert any(hook["type"] == "ScheduleCheckHook" for hook in cfg.custom_hooks)
    assert not warnings(begun(cfg.param_scheduler, cfg.train_cfg.max_iters), caplog)


def test_in_a_run(tmp_path, caplog):
    """``runner``'s schedule ends with iteration 8."""
    told = []
    for iterations in (8, 4):
        folder = tmp_path / str(iterations)
        run = runner(folder, iterations, custom_hooks=[dict(type="ScheduleCheckHook")])
        run.logger.handlers[0].setLevel(logging.WARNING)
        run.logger.addHandler(caplog.handler)
        run.train()
        told.append([r.getMessage() for r in caplog.records if "the schedule of" in r.getMessage()])
    assert told[0] == [] and len(told[1]) == 1
    assert told[1][0].startswith("training ends with iteration 4, the schedule of the learning")
