"""A learning rate that comes to its end with the training, neither before nor after."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import (
    CosineAnnealingParamScheduler,
    OneCycleParamScheduler,
    PolyParamScheduler,
)
from mmengine.runner import Runner
from mmseg.registry import HOOKS

# Those that fall until their end; a warm-up ends early, and steps are where milestones say.
FALLING = PolyParamScheduler, CosineAnnealingParamScheduler, OneCycleParamScheduler
NO_END = 10**9  # the host's, of a schedule that was given none


@HOOKS.register_module()
class ScheduleCheckHook(Hook):
    """Warns, as training begins, of a schedule with another end than the training's.

    Such is what ``train_cfg.max_iters`` alone makes of a config: the learning rate hardly falls, or
    it stays at its least for the rest.
    """

    def before_train(self, runner: Runner) -> None:
        schedulers: Any = runner.param_schedulers
        # Of several optimizers each has its own.
        groups = schedulers if isinstance(schedulers, dict) else {"": schedulers or []}
        for name, group in groups.items():
            falling = [s for s in group if isinstance(s, FALLING) and s.end < NO_END]
            if falling:
                last = max(falling, key=lambda scheduler: scheduler.end)
                place = f"{name}.{group.index(last)}".lstrip(".")
                _compare(last, f"param_scheduler.{place}", runner)


def _compare(last: Any, setting: str, runner: Runner) -> None:
    unit = "epoch" if last.by_epoch else "iteration"
    length = runner.max_epochs if last.by_epoch else runner.max_iters
    if last.end != length:
        outcome = "hardly falls" if last.end > length else "stays at its least for the rest"
        begin = f"{setting}.begin and " if last.begin >= length else ""
        runner.logger.warning(
            f"training ends with {unit} {length}, the schedule of the learning rate with "
            f"{last.end}: it {outcome}; set {begin}{setting}.end={length}"
        )
