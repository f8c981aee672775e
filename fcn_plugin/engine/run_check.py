"""What of a run's loops, loaders and scores would stop it later, or never let it end."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop
from mmseg.evaluation import IoUMetric

from fcn_plugin.config import type_name
from fcn_plugin.engine.sampling import ReplacementSampler
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric

# What belongs together in a config: the runner wants all of a row or none.
TOGETHER = (
    ("train_dataloader", "train_cfg", "optim_wrapper"),
    ("val_dataloader", "val_cfg", "val_evaluator"),
    ("test_dataloader", "test_cfg", "test_evaluator"),
)
# The packages of mmengine's backends that may be absent: any of a row will do.
BACKENDS = dict(
    TensorboardVisBackend=("tensorboard", "tensorboardX"),
    WandbVisBackend=("wandb",),
    MLflowVisBackend=("mlflow",),
    ClearMLVisBackend=("clearml",),
    NeptuneVisBackend=("neptune",),
    DVCLiveVisBackend=("dvclive",),
    AimVisBackend=("aim",),
)
IOU_SCORES = dict(
    mIoU=("mIoU", "mAcc"),
    mDice=("mDice", "mAcc"),
    mFscore=("mFscore", "mPrecision", "mRecall"),
)


def check_settings(cfg: Config) -> None:
    """Raise ``UserError`` for what of ``cfg`` a runner cannot be built of."""
    for row in TOGETHER:
        given = [key for key in row if cfg.get(key) is not None]
        missing = [key for key in row if cfg.get(key) is None]
        if given and missing:
            raise UserError(
                f"the config has {' and '.join(given)}, but no {' and no '.join(missing)}; add it, "
                f"or set {'=None '.join(given)}=None"
            )
    backends = (cfg.get("visualizer") or {}).get("vis_backends") or ()
    for index, backend in enumerate(backends):
        packages = BACKENDS.get(type_name(backend), ())
        if packages and not any(_is_installed(package) for package in packages):
            raise UserError(
                f"visualizer.vis_backends.{index}: {type_name(backend)} needs {packages[0]}, which "
                f"is not installed; pip install {packages[0]}, or take it out of the list"
            )


def _is_installed(package: str) -> bool:
    """A folder of that name, such as one that wandb leaves, is no package."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


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
            spellings = {name.lower(): name for name in known}
            close = get_close_matches(wanted.lower(), spellings, n=1)
            hint = (
                f"did you mean {spellings[close[0]]!r}?"
                if close
                else "choose one of them, or add a metric"
            )
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
