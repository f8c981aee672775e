"""What of a run's loops, loaders and scores would stop it later, or never let it end."""

from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop
from mmseg.evaluation import IoUMetric

from fcn_plugin.engine.order import ReplacementSampler
from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric

IOU_SCORES = dict(
    mIoU=("mIoU", "mAcc"),
    mDice=("mDice", "mAcc"),
    mFscore=("mFscore", "mPrecision", "mRecall"),
)


def check_order(name: str, loader: Any, loop: object) -> None:
    """Raise ``UserError`` if the ``DataLoader`` never ends though ``loop`` waits for its end."""
    if isinstance(loader.sampler, InfiniteSampler | ReplacementSampler) and (
        name != "train_dataloader" or isinstance(loop, EpochBasedTrainLoop)
    ):
        kind, what = type(loader.sampler).__name__, type(loop).__name__
        other = (
            ", or train by iterations (train_cfg.type='IterBasedTrainLoop' with max_iters)"
            if name == "train_dataloader"
            else ""
        )
        raise UserError(
            f"{name}.sampler: {kind} never ends, and {what} would never come to the end of the "
            f"data; set {name}.sampler.type=DefaultSampler{other}"
        )


def batch_size(loader: Any) -> int:
    """Images of a batch of the ``DataLoader``; 0 if it is not known."""
    return loader.batch_size or getattr(loader.batch_sampler, "batch_size", 0)


def smallest_batch(loader: Any, loop: object) -> int:
    """Images of the smallest batch that a process is given in training; 0 if it is not known."""
    size = batch_size(loader)
    if size and isinstance(loop, EpochBasedTrainLoop) and not loader.drop_last:
        return len(loader.sampler) % size or size
    return size


def check_scores(metrics: Iterable[BaseMetric], hooks: Iterable[Hook]) -> None:
    """Raise ``UserError`` if a hook waits for a score that the metrics, all known, do not give."""
    known: set[str] = set()
    for metric in metrics:
        scores = _scores(metric)
        if scores is None:
            return
        known |= scores
    for setting, wanted in _wanted(hooks):
        if known and wanted not in known:
            hint = did_you_mean(wanted, known, "choose one of them, or add a metric")
            raise UserError(
                f"{setting}={wanted!r}, but val_evaluator gives {', '.join(sorted(known))}; {hint}"
            )


def _wanted(hooks: Iterable[Hook]) -> Iterator[tuple[str, str]]:
    for hook in hooks:
        for score in getattr(hook, "save_best", None) or ():
            if score != "auto":
                yield "default_hooks.checkpoint.save_best", score
        if (monitor := getattr(hook, "monitor", None)) is not None:
            yield f"{type(hook).__name__}.monitor", monitor


def _scores(metric: BaseMetric) -> set[str] | None:
    """The names of its scores; None of a metric that is not known here."""
    names: list[str]
    if type(metric) is ConfusionMatrixMetric:
        names = ["aAcc", "mAcc", "mIoU", "fwIoU", *(["score"] if metric.absent == "zero" else [])]
    elif type(metric) is IoUMetric:
        asked: Any = [metric.metrics] if isinstance(metric.metrics, str) else metric.metrics
        for name in asked:
            if name not in IOU_SCORES:
                raise UserError(
                    f"IoUMetric: iou_metrics {name!r} is none; give some of {', '.join(IOU_SCORES)}"
                )
        names = ["aAcc", *(score for name in asked for score in IOU_SCORES[name])]
    else:
        return None
    if metric.format_only:
        return set()
    return {f"{metric.prefix}/{name}" if metric.prefix else name for name in names}
