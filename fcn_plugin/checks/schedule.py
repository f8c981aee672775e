"""A learning rate that comes to its end with the training, neither before nor after."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import (
    CosineAnnealingParamScheduler,
    OneCycleParamScheduler,
    PolyParamScheduler,
)
from mmengine.runner import IterBasedTrainLoop, Runner
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
            if (last := _last(group, runner)) is not None:
                remedy = _remedy(last, *_setting(name, group.index(last), runner), runner)
                late = _reach(last, runner) > 1
                outcome = "hardly falls" if late else "stays at its least for the rest"
                unit = "epoch" if last.by_epoch else "iteration"
                runner.logger.warning(
                    f"training ends with {unit} {_length(last, runner)}, the schedule of the "
                    f"learning rate with {last.end}: it {outcome}; {remedy}"
                )


def _last(group: list[Any], runner: Runner) -> Any:
    """What brings the learning rate down, if it does so too late or too early."""
    rates = [scheduler for scheduler in group if scheduler.param_name == "lr"]
    falling = [s for s in rates if isinstance(s, FALLING) and s.end < NO_END]
    last = max(falling, key=lambda scheduler: _reach(scheduler, runner), default=None)
    if last is None or (reach := _reach(last, runner)) == 1:
        return None
    goes_on = any(_reach(scheduler, runner) > reach for scheduler in rates)
    return None if reach < 1 and goes_on else last


def _length(scheduler: Any, runner: Runner) -> int:
    return runner.max_epochs if scheduler.by_epoch else runner.max_iters


def _reach(scheduler: Any, runner: Runner) -> float:
    """Its end, of the training's."""
    return scheduler.end / _length(scheduler, runner)


def _setting(name: str, index: int, runner: Runner) -> tuple[str, dict]:
    """Where a scheduler stands in the config, and what stands there."""
    place, settings = "param_scheduler", runner.cfg.get("param_scheduler")
    for key in (name, index):
        if isinstance(settings, dict) and key in settings:
            place, settings = f"{place}.{key}", settings[key]
        elif isinstance(settings, list | tuple) and key == index:
            place, settings = f"{place}.{key}", settings[index]
    return place, settings if isinstance(settings, dict) else {}


def _remedy(last: Any, place: str, settings: dict, runner: Runner) -> str:
    if last.last_step > 0:
        return "it is the checkpoint's; for the config's begin a new run, with load_from"
    if last.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
        return f"set {place}.by_epoch=False, and begin and end in iterations"
    by_epoch = settings.get("convert_to_iter_based")
    length = runner.max_epochs if by_epoch else _length(last, runner)
    begin = f"{place}.begin and " if last.begin >= _length(last, runner) else ""
    return f"set {begin}{place}.end={length}"
