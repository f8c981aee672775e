"""Check that model, data and scores agree on the further tasks of a segmentor."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from torch import nn

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
    tasks = list(task_heads(model))
    for dataset in datasets if tasks else ():
        steps = steps_of(dataset)
        if steps and len(dataset):
            with random_numbers(0):
                for _ in range(TRIES):
                    _follow(dataset, steps, tasks)


def _follow(dataset: BaseDataset, steps: Sequence[Any], tasks: Sequence[str]) -> None:
    """Send one picture of noise through the steps as every label; all must stay alike."""
    results = dataset.get_data_info(0)
    keys, alike = [fields(task).truth for task in tasks], False
    for step in steps:
        try:
            results = step(results)
        except DamagedFile:  # train_cfg.unreadable decides in training
            return
        if results is None:
            return
        if not {"gt_seg_map", *keys} <= results.keys():
            continue
        main = results["gt_seg_map"]
        if not alike:  # all are loaded
            picture = np.random.default_rng(0).integers(0, 2, main.shape, dtype=np.uint8)
            results.update({key: picture.copy() for key in ("gt_seg_map", *keys)})
            alike = True
        elif others := [key for key in keys if not np.array_equal(results[key], main)]:
            raise UserError(
                f"{type(step).__name__} in train_dataloader.dataset.pipeline changes gt_seg_map "
                f"and not {others[0]} in the same way; take a step that moves all seg_fields, such "
                "as FastRandomFlip, FastRandomCrop and mmseg's Resize"
            )
    for task, key in zip(tasks, keys, strict=True):
        if "data_samples" in results and key not in results["data_samples"]:
            raise UserError(
                f"model.task_heads.{task}: no label {key} comes out of "
                "train_dataloader.dataset.pipeline; load it by dict(type='LoadCheckedLabel', "
                f"task={task!r}, num_classes=...) and pack it by FastPackSegInputs"
            )


def task_heads(model: nn.Module) -> dict[str, Any]:
    """The further heads of an ``FCNSegmentor`` by the names of their tasks; {} of others."""
    return dict(getattr(model, "task_heads", None) or {})
