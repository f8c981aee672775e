"""A look at images and labels before the first iteration, for a few seconds at most.

What validation would fail by thousands of iterations later, and labels that nothing can be learned
from.
"""

import time
from collections.abc import Iterator, Sequence
from logging import Logger
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmseg.evaluation import IoUMetric

from fcn_plugin.data.labels import LoadCheckedLabel, pixel_counts
from fcn_plugin.data.numbering import IGNORED, VALUES
from fcn_plugin.data.originals import steps_of
from fcn_plugin.data.picture_files import size_and_turn
from fcn_plugin.engine.order import random_numbers
from fcn_plugin.errors import DamagedFile, UserError, some, width_by_height
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric

PATIENCE = 2.0  # seconds for each of the two that look at more than one file


def check_first_sample(name: str, dataset: Any, metrics: Sequence[BaseMetric]) -> None:
    """Load the first image that is going to be scored, as it will be.

    Raises:
        UserError: its label has another size than its prediction will have; or whatever the
            pipeline raises.
    """
    with random_numbers(0):
        loaded = dataset[0]
    samples = loaded.get("data_samples") if isinstance(loaded, dict) else None
    # Of test-time augmentation there are several.
    sample: Any = samples[0] if isinstance(samples, list) else samples
    size = getattr(sample, "ori_shape", None)
    if size is None or "gt_sem_seg" not in sample:
        return
    label = tuple(sample.gt_sem_seg.shape[-2:])
    if label != tuple(size[:2]) and any(
        isinstance(metric, ConfusionMatrixMetric | IoUMetric) for metric in metrics
    ):
        raise UserError(
            f"{sample.img_path}: predicted at its size, {width_by_height(size)}, but its label is "
            f"of {width_by_height(label)}; load the label after the resizing steps of "
            f"{name}.dataset.pipeline"
        )


def check_batches(name: str, loader: Any) -> None:
    """Raise ``UserError`` if images of different sizes come together in a batch.

    The host stacks a batch that is to be scored as it is. What the pipeline makes of a size is
    seen from one image that has it, of the others only the headers are read.
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
                header = _header(path)
                if header is None or time.monotonic() > end:
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


def _header(path: str) -> Any:
    """What decides the size of a picture once it is upright; None if Pillow cannot tell."""
    # What Pillow raises on arbitrary bytes is not documented; files are judged as they are loaded.
    try:
        return size_and_turn(path)
    except Exception:
        return None


def _shape(loaded: Any) -> tuple[int, int] | None:
    """Height and width of what a pipeline gives; of test-time augmentation the first."""
    inputs = loaded.get("inputs") if isinstance(loaded, dict) else None
    image = inputs[0] if isinstance(inputs, list) else inputs
    return None if image is None else tuple(image.shape[-2:])


def check_labels(datasets: Sequence[BaseDataset], logger: Logger) -> None:
    """Look for a pixel of every class in the labels that are trained on.

    In any order, until all classes have been met or two seconds are over. Warns of classes that
    no label has, and if time was short only tells of those that have not been met.

    Raises:
        UserError: no label has any class but the first, beside ignored pixels: masks of 0 and 255.
    """
    names = datasets[0].metainfo.get("classes") if datasets else None
    labels = [place for dataset in datasets for place in _labels(dataset)]
    if not names or not labels:
        return
    met, looked, end = np.zeros(VALUES, bool), 0, time.monotonic() + PATIENCE
    for at in np.random.default_rng(0).permutation(len(labels)):
        dataset, index, loader = labels[at]
        info = dataset.get_data_info(index)
        if not info.get("seg_map_path"):
            return
        try:
            loaded = loader.transform(dict(info, seg_fields=[]))
        except DamagedFile:  # as training is told to treat it
            continue
        label = loaded["gt_seg_map"]
        met |= pixel_counts(label) > 0
        looked += 1
        missing = [name for i, name in enumerate(names) if not met[i] and i != loader.ignore_index]
        if not missing:
            return
        if time.monotonic() > end:
            break
    if not looked:
        return
    folder = Path(info["seg_map_path"]).parent
    whole = looked == len(labels)
    if whole and met[loader.ignore_index] and met[0] and len(missing) == len(names) - 1:
        raise UserError(_nothing_to_learn(folder, looked, names, bool(info["reduce_zero_label"])))
    listed = some(missing)
    if whole:
        logger.warning(
            f"No pixel of the {looked} training labels in {folder} is of {listed}: it cannot be "
            "learned, and scores 0 or nothing"
        )
    else:
        logger.info(
            f"Not met in {looked} of {len(labels)} training labels, all that were looked at: "
            f"{listed}"
        )


def _labels(dataset: BaseDataset) -> Iterator[tuple[BaseDataset, int, LoadCheckedLabel]]:
    """Each image, and what loads its label."""
    steps = (step for step in steps_of(dataset) if isinstance(step, LoadCheckedLabel))
    loader = next(steps, None)
    if loader is not None and not getattr(dataset, "backend_args", None):
        yield from ((dataset, index, loader) for index in range(len(dataset)))


def _nothing_to_learn(folder: Path, number: int, names: Sequence[str], reduced: bool) -> str:
    if reduced:
        return (
            f"{folder}: with reduce_zero_label=True, which ignores 0, its {number} labels have no "
            f"class but {names[0]!r}; set reduce_zero_label=False, or number the classes from 1"
        )
    return (
        f"{folder}: its {number} labels hold only 0 ({names[0]!r}) and {IGNORED}, which is ignored "
        f"and no class; write 1 in place of {IGNORED} for {names[1]!r}, or have it done: "
        f"tools/prepare_data.py own, with {names[0]}:0,0,0:: and {names[1]}:255,255,255:: as the "
        "lines of labelmap.txt"
    )
