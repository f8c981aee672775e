"""Check that model, data and scores agree on the further tasks of a segmentor."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from torch import nn

from fcn_plugin.data.labels import LoadCheckedLabel
from fcn_plugin.data.originals import steps_of
from fcn_plugin.data.tasks import TASKS, fields, meta_of
from fcn_plugin.engine.order import random_numbers
from fcn_plugin.errors import DamagedFile, UserError

TRIES = 8  # of a pipeline with random steps


def check_tasks(model: nn.Module, datasets: Iterable[BaseDataset]) -> None:
    """Raise ``UserError`` unless every task head has its classes in every data set."""
    for dataset in datasets:
        for task, head in task_heads(model).items():
            place, kind = f"model.task_heads.{task}", type(dataset).__name__
            if task not in (dataset.metainfo.get(TASKS) or {}):
                raise UserError(
                    f"{place}: {kind} has no task {task!r}; take a MultiTaskDataset, with the "
                    "task in metainfo.tasks"
                )
            classes = len(meta_of(dataset.metainfo, task)["classes"])
            if head.num_classes != classes:
                raise UserError(
                    f"task {task!r} of {kind} has {classes} classes, but {place} scores "
                    f"{head.num_classes}; set {place}.num_classes={classes}"
                )


def check_metrics(model: nn.Module, metrics: Iterable[BaseMetric]) -> None:
    """Raise ``UserError`` if a metric scores a task that the model does not predict."""
    for metric in metrics:
        task = getattr(metric, "task", None)
        if task is not None and task not in task_heads(model):
            raise UserError(
                f"{type(metric).__name__}(task={task!r}): the model has no such task; add it to "
                "model.task_heads, or take the metric out"
            )


def check_training_labels(model: nn.Module, datasets: Iterable[BaseDataset]) -> None:
    """Raise ``UserError`` unless training gets each task's label, moved as its image is."""
    for dataset in datasets:
        steps = steps_of(dataset)
        loaded = [step.task for step in steps if isinstance(step, LoadCheckedLabel)]
        for task in task_heads(model) if steps else ():
            if task not in loaded:
                raise UserError(
                    f"model.task_heads.{task}: no step of train_dataloader.dataset.pipeline loads "
                    f"its labels; add dict(type='LoadCheckedLabel', task={task!r}, "
                    f"num_classes={task_heads(model)[task].num_classes})"
                )
        keys = [fields(task).truth for task in loaded if task is not None]
        if keys and len(dataset):
            with random_numbers(0):
                for _ in range(TRIES):
                    _follow(dataset, steps, keys)


def _follow(dataset: BaseDataset, steps: Sequence[Any], keys: Sequence[str]) -> None:
    """Send one picture of noise through the steps as every label; all must stay alike."""
    results = dataset.get_data_info(0)
    noise = np.random.default_rng(0)
    for step in steps:
        try:
            results = step(results)
        except DamagedFile:  # train_cfg.unreadable decides in training
            return
        if results is None:
            return
        labels = [results[key] for key in ("gt_seg_map", *keys) if key in results]
        if isinstance(step, LoadCheckedLabel) and len(labels) > len(keys):
            picture = noise.integers(0, 2, labels[0].shape, dtype=np.uint8)
            results.update({key: picture.copy() for key in ("gt_seg_map", *keys)})
        elif len(labels) > len(keys):
            for key, label in zip(keys, labels[1:], strict=True):
                if not np.array_equal(label, labels[0]):
                    raise UserError(
                        f"{type(step).__name__} in train_dataloader.dataset.pipeline changes "
                        f"gt_seg_map and not {key} in the same way; take a step that moves all "
                        "seg_fields, such as FastRandomFlip, FastRandomCrop and mmseg's Resize"
                    )
    for key in keys:
        if "data_samples" in results and key not in results["data_samples"]:
            raise UserError(
                f"{type(steps[-1]).__name__} in train_dataloader.dataset.pipeline leaves out "
                f"{key}; pack by FastPackSegInputs"
            )


def task_heads(model: nn.Module) -> dict[str, Any]:
    """The further heads of an ``FCNSegmentor`` by the names of their tasks; {} of others."""
    return dict(getattr(model, "task_heads", None) or {})
