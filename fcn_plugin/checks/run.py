"""Check that the loops, data loaders, scores and schedules of a run fit together."""

from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.optim import (
    CosineAnnealingParamScheduler,
    LinearParamScheduler,
    OneCycleParamScheduler,
    PolyParamScheduler,
)
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmseg.evaluation import IoUMetric
from mmseg.registry import HOOKS

from fcn_plugin.engine.order import ReplacementSampler
from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.evaluation.metric import (
    IOU_SCORES,
    ConfusionMatrixMetric,
    check_iou_metrics,
    listed,
)

# These fall until their end. Warm-ups end early, and steps fall at their milestones.
FALLING = PolyParamScheduler, CosineAnnealingParamScheduler, OneCycleParamScheduler
NO_END = 10**9  # mmengine's default end of a schedule


def check_order(name: str, loader: Any, loop: object) -> None:
    """Raise ``UserError`` if the ``DataLoader`` never ends though ``loop`` waits for its end."""
    training = name == "train_dataloader"
    if training and not isinstance(loop, EpochBasedTrainLoop):
        return
    if isinstance(loader.sampler, InfiniteSampler | ReplacementSampler):
        instead = ", or train by iterations (train_cfg.type='IterBasedTrainLoop' with max_iters)"
        raise UserError(
            f"{name}.sampler: {type(loader.sampler).__name__} never ends, and "
            f"{type(loop).__name__} would never come to the end of the data; set "
            f"{name}.sampler.type=DefaultSampler{instead if training else ''}"
        )


def batch_size(loader: Any) -> int:
    """Images in a batch of the ``DataLoader``; 0 if unknown."""
    return loader.batch_size or getattr(loader.batch_sampler, "batch_size", 0)


def smallest_batch(loader: Any, loop: object) -> int:
    """Images in the smallest training batch of a process; 0 if unknown."""
    size = batch_size(loader)
    if size and isinstance(loop, EpochBasedTrainLoop) and not loader.drop_last:
        return len(loader.sampler) % size or size
    return size


# --- scores --------------------------------------------------------------------------------------


def check_scores(metrics: Iterable[BaseMetric], hooks: Iterable[Hook]) -> None:
    """Raise ``UserError`` if a hook waits for a score that no metric gives, if all are known."""
    names: set[str] = set()
    for metric in metrics:
        scores = _scores(metric)
        if scores is None:
            return
        names |= scores
    for setting, wanted in _wanted(hooks):
        if names and wanted not in names:
            hint = did_you_mean(wanted, names, "choose one of them, or add a metric")
            raise UserError(
                f"{setting}={wanted!r}, but val_evaluator gives {', '.join(sorted(names))}; {hint}"
            )


def _wanted(hooks: Iterable[Hook]) -> Iterator[tuple[str, str]]:
    for hook in hooks:
        for score in getattr(hook, "save_best", None) or ():
            if score != "auto":
                yield "default_hooks.checkpoint.save_best", score
        if (monitor := getattr(hook, "monitor", None)) is not None:
            yield f"{type(hook).__name__}.monitor", monitor


def _scores(metric: BaseMetric) -> set[str] | None:
    """The names of a metric's scores; None if the metric is unknown here."""
    names: list[str]
    if type(metric) is ConfusionMatrixMetric:
        names = metric.keys
    elif type(metric) is IoUMetric:
        check_iou_metrics(metric.metrics, "IoUMetric")
        asked = listed(metric.metrics)
        names = ["aAcc", *(score for name in asked for score in IOU_SCORES[name])]
    else:
        return None
    if metric.format_only:
        return set()
    return {f"{metric.prefix}/{name}" if metric.prefix else name for name in names}


# --- schedules -----------------------------------------------------------------------------------


@HOOKS.register_module()
class ScheduleCheckHook(Hook):
    """Warns before training if the learning rate's schedule does not fit the training's length.

    This happens when only ``train_cfg.max_iters`` was changed: the learning rate hardly falls, or
    it stays at its minimum for the rest; or when only the fall was moved, into the warm-up.
    """

    def before_train(self, runner: Runner) -> None:
        schedulers: Any = runner.param_schedulers
        # Several optimizers have a list of schedulers each.
        groups = schedulers if isinstance(schedulers, dict) else {"": schedulers or []}
        for name, group in groups.items():
            if (last := _misfit(group, runner)) is not None:
                late = last.end > _length(last, runner)
                outcome = "hardly falls" if late else "stays at its minimum for the rest"
                unit = "epoch" if last.by_epoch else "iteration"
                runner.logger.warning(
                    f"training ends with {unit} {_length(last, runner)}, the schedule of the "
                    f"learning rate with {last.end}: it {outcome}; "
                    f"{_remedy(last, name, group.index(last), runner)}"
                )
            elif (pair := _overlap(group)) is not None:
                warm_up, last = pair
                path, _ = _in_config(name, group.index(warm_up), runner)
                _, falling = _in_config(name, group.index(last), runner)
                begin = falling["begin"] if isinstance(falling, dict) else last.begin
                runner.logger.warning(
                    f"the learning rate still rises until iteration {warm_up.end}, though it "
                    f"falls from {last.begin} on, and both factors are multiplied; set "
                    f"{path}.end={begin}"
                )


def _misfit(group: list[Any], runner: Runner) -> Any:
    """The scheduler that brings the learning rate down, if it ends too late or too early."""

    def reach(scheduler: Any) -> float:
        return scheduler.end / _length(scheduler, runner)

    rates = [scheduler for scheduler in group if scheduler.param_name == "lr"]
    falling = [s for s in rates if isinstance(s, FALLING) and s.end < NO_END]
    last = max(falling, key=reach, default=None)
    if last is None or reach(last) == 1:
        return None
    goes_on = any(reach(scheduler) > reach(last) for scheduler in rates)
    return None if reach(last) < 1 and goes_on else last


def _overlap(group: list[Any]) -> tuple[Any, Any] | None:
    """A warm-up that goes on while the learning rate falls, and what brings it down."""
    rates = [scheduler for scheduler in group if scheduler.param_name == "lr"]
    rises = [scheduler for scheduler in rates if isinstance(scheduler, LinearParamScheduler)]
    falls = [scheduler for scheduler in rates if isinstance(scheduler, FALLING)]
    pairs = ((rise, fall) for rise in rises for fall in falls)
    return next((p for p in pairs if p[0].begin < p[1].begin < p[0].end < NO_END), None)


def _length(scheduler: Any, runner: Runner) -> int:
    return runner.max_epochs if scheduler.by_epoch else runner.max_iters


def _remedy(last: Any, name: str, index: int, runner: Runner) -> str:
    if last.last_step > 0:
        return "it is the checkpoint's; for the config's begin a new run, with load_from"
    path, settings = _in_config(name, index, runner)
    if last.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
        return f"set {path}.by_epoch=False, and begin and end in iterations"
    by_epoch = isinstance(settings, dict) and settings.get("convert_to_iter_based")
    length = runner.max_epochs if by_epoch else _length(last, runner)
    begin = f"{path}.begin and " if last.begin >= _length(last, runner) else ""
    return f"set {begin}{path}.end={length}"


def _in_config(name: str, index: int, runner: Runner) -> tuple[str, Any]:
    """The path of a scheduler in the config, and its settings there, in the config's own unit."""
    path, settings = "param_scheduler", runner.cfg.get("param_scheduler")
    if isinstance(settings, dict) and name in settings:
        path, settings = f"{path}.{name}", settings[name]
    if isinstance(settings, list | tuple):
        path, settings = f"{path}.{index}", settings[index]
    return path, settings
