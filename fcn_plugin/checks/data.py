"""Check images and labels before the first iteration, for a few seconds at most.

Finds files on which validation would fail thousands of iterations later, and labels from which
nothing can be learned.
"""

import time
from collections.abc import Iterator, Sequence
from logging import Logger
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmseg.datasets import PascalVOCDataset
from mmseg.evaluation import IoUMetric

from fcn_plugin.checks.config import remedy
from fcn_plugin.data.labels import LoadCheckedLabel, pixel_counts
from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.data.originals import plain_datasets, steps_of
from fcn_plugin.data.picture_files import size_and_turn
from fcn_plugin.data.side_by_side import LoadSideBySide
from fcn_plugin.data.tasks import TASKS, fields
from fcn_plugin.engine.order import random_numbers
from fcn_plugin.errors import DamagedFile, UserError, some, width_by_height
from fcn_plugin.evaluation.intervals import grouped
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric

PATIENCE = 2.0  # seconds, for check_batches and check_labels each


def check_files(dataset: BaseDataset) -> None:
    """Raise ``UserError`` if an image or its label is missing."""
    if getattr(dataset, "backend_args", None):
        return
    loads = [step for step in steps_of(dataset) if isinstance(step, LoadSideBySide)]
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        image, label = info["img_path"], info.get("seg_map_path")
        if not Path(image).is_file():
            raise UserError(f"{image}: no such image; {remedy(Path(dataset.data_root or ''))}")
        for beside in (path for load in loads for path in load.paths(image)):
            if not Path(beside).is_file():
                raise UserError(f"{beside}: no such file, though {image} is there; add it")
        further = [each["seg_map_path"] for each in (info.get(TASKS) or {}).values()]
        for file in [label, *further] if label else ():
            if not Path(file).is_file():
                raise UserError(
                    f"{file}: no such label, though {image} is there; add the label or take the "
                    "image off the list"
                )


def image_names(dataset: object) -> set[str]:
    """The images of a data set: PASCAL VOC's names without suffix, or else full paths."""
    return {
        Path(path).stem if isinstance(part, PascalVOCDataset) else str(Path(path).resolve())
        for part, path in _images(dataset)
    }


def _images(dataset: object) -> Iterator[tuple[BaseDataset, str]]:
    """Data set and path of each image."""
    for part in plain_datasets(dataset):
        for index in range(len(part)):
            yield part, part.get_data_info(index)["img_path"]


def check_first_sample(name: str, dataset: Any, metrics: Sequence[BaseMetric]) -> None:
    """Load the first image of a validation or test data set as its loop will.

    Raises:
        UserError: the label and the prediction would differ in size, or a task that is scored has
            no label. The pipeline may raise other errors.
    """
    with random_numbers(0):
        loaded = dataset[0]
    samples = loaded.get("data_samples") if isinstance(loaded, dict) else None
    # Test-time augmentation gives several.
    sample: Any = samples[0] if isinstance(samples, list) else samples
    size = getattr(sample, "ori_shape", None)
    if size is None or "gt_sem_seg" not in sample:
        return
    for metric in metrics:
        if isinstance(metric, ConfusionMatrixMetric) and fields(metric.task).truth not in sample:
            raise UserError(
                f"{sample.img_path}: no label of the task {metric.task!r}, which is scored; load "
                "it by LoadCheckedLabel and pack it by FastPackSegInputs in "
                f"{name}.dataset.pipeline"
            )
    label = tuple(sample.gt_sem_seg.shape[-2:])
    if label != tuple(size[:2]) and any(
        isinstance(metric, ConfusionMatrixMetric | IoUMetric) for metric in metrics
    ):
        raise UserError(
            f"{sample.img_path}: predicted at its size, {width_by_height(size)}, but its label is "
            f"of {width_by_height(label)}; load the label after the resizing steps of "
            f"{name}.dataset.pipeline"
        )


def check_intervals(dataset: object, by: str) -> None:
    """Raise ``UserError`` if intervals by 'image' or 'scene' cannot be taken over these images."""
    if paths := [path for _, path in _images(dataset)]:  # none are known of others' data sets
        grouped(paths, by)


def check_batches(name: str, loader: Any) -> None:
    """Raise ``UserError`` if a batch for validation or test has images of different sizes.

    mmengine stacks such a batch without padding. Only one image of each size goes through the
    pipeline; of the others only the headers are read.
    """
    dataset, end = loader.dataset, time.monotonic() + PATIENCE
    if loader.batch_size in (None, 1) or not hasattr(dataset, "get_data_info"):
        return
    if getattr(dataset, "backend_args", None):
        return
    shapes: dict[Any, Any] = {}
    with random_numbers(0):
        for batch in loader.batch_sampler:
            members: dict[Any, str] = {}
            for index in batch:
                path = dataset.get_data_info(index)["img_path"]
                try:
                    header = size_and_turn(path)
                except Exception:  # Pillow's errors are not documented; loading reports the file
                    return
                if time.monotonic() > end:
                    return
                if header not in shapes:
                    shapes[header] = _shape(dataset[index])
                members.setdefault(shapes[header], path)
            if len(members) > 1:
                (one, first), (other, second) = list(members.items())[:2]
                raise UserError(
                    f"{first} is of {width_by_height(one)} after {name}.dataset.pipeline and "
                    f"{second} of {width_by_height(other)}, in one batch of {len(batch)}; set "
                    f"{name}.batch_size=1, or resize all to one size"
                )


def _shape(loaded: Any) -> tuple[int, int] | None:
    """Height and width of a pipeline's output; the first with test-time augmentation."""
    inputs = loaded.get("inputs") if isinstance(loaded, dict) else None
    image = inputs[0] if isinstance(inputs, list) else inputs
    return None if image is None else tuple(image.shape[-2:])


def _loads_main(step: object) -> bool:
    return isinstance(step, LoadCheckedLabel) and step.task is None


def check_labels(datasets: Sequence[BaseDataset], logger: Logger) -> None:
    """Look for a pixel of every class in the training labels.

    Reads labels in random order until every class has occurred or two seconds are over. Warns of
    classes that no label has; if some labels were not read, only logs the missing classes.

    Raises:
        UserError: the labels have only the first class and ignored pixels: masks of 0 and 255.
    """
    names = datasets[0].metainfo.get("classes") if datasets else None
    labels = [
        (part, loaders[0], index)
        for part in datasets
        if not getattr(part, "backend_args", None)
        and (loaders := [step for step in steps_of(part) if _loads_main(step)])
        for index in range(len(part))
    ]
    if not names or not labels:
        return
    pixels, checked, end = np.zeros(IGNORED + 1, np.int64), 0, time.monotonic() + PATIENCE
    for number in np.random.default_rng(0).permutation(len(labels)):
        dataset, loader, index = labels[number]
        info = dataset.get_data_info(index)
        if not info.get("seg_map_path"):
            return
        try:
            label = loader.transform(dict(info, seg_fields=[]))["gt_seg_map"]
        except DamagedFile:  # train_cfg.unreadable decides in training
            continue
        pixels += pixel_counts(label)
        checked += 1
        missing = [n for i, n in enumerate(names) if not pixels[i] and i != loader.ignore_index]
        if not missing:
            return
        if time.monotonic() > end:
            break
    if not checked:
        return
    folder = Path(info["seg_map_path"]).parent
    if checked < len(labels):
        logger.info(
            f"These classes did not occur in the {checked} (of {len(labels)}) training labels "
            f"checked: {some(missing)}"
        )
        return
    if pixels[loader.ignore_index] and pixels[0] and len(missing) == len(names) - 1:
        if info["reduce_zero_label"]:
            raise UserError(
                f"{folder}: with reduce_zero_label=True, which ignores 0, its {checked} labels "
                f"have no class but {names[0]!r}; set reduce_zero_label=False, or number the "
                "classes from 1"
            )
        raise UserError(
            f"{folder}: its {checked} labels hold only 0 ({names[0]!r}) and {IGNORED}, which is "
            f"ignored and no class; write 1 in place of {IGNORED} for {names[1]!r}, or let "
            "fcn-plugin prepare_data own do it"
        )
    logger.warning(
        f"No pixel of the {checked} training labels in {folder} is of {some(missing)}: it cannot "
        "be learned, and scores 0 or nothing"
    )
