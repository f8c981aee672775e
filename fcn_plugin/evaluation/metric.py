"""The paper's scores as an mmengine metric."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.registry import METRICS
from torch import Tensor

from fcn_plugin.data.labels import save_labels
from fcn_plugin.data.numbering import KEYS, numbering_of
from fcn_plugin.data.tasks import fields, meta_of
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.intervals import BY, HIGH, LOW, Intervals, intervals
from fcn_plugin.evaluation.scores import ABSENT, class_counts, confusion_matrix, scores
from fcn_plugin.evaluation.tables import score_table

# Images per check, by device type: reading a count makes the CPU wait for a GPU.
CHECKED_TOGETHER = {"cpu": 1}
CHECKED_TOGETHER_ELSEWHERE = 64
# Key -> attribute of Scores.
SCORES = {
    "aAcc": "pixel_accuracy",
    "mAcc": "mean_accuracy",
    "mIoU": "mean_iu",
    "fwIoU": "frequency_weighted_iu",
}
FINAL = {"score": "final"}  # only if absent classes count as zero


@METRICS.register_module()
class ConfusionMatrixMetric(BaseMetric):
    """Pixel accuracy, mean accuracy, mean IU and frequency-weighted IU, in percent, unrounded.

    Keys ``aAcc``, ``mAcc``, ``mIoU``, ``fwIoU``. Each process counts into one int64 matrix and the
    matrices are summed at the end, so any number of processes gives the same scores. A sample that
    a distributed sampler repeats to fill the last round counts once. The counts stay on the
    predictions' device. Labels outside the classes raise an error: on the CPU at each image, on
    other devices every 64 images, to avoid waiting for the device after each.

    Args:
        absent: what a class without any pixel does to the means: 'skip' leaves it out (VOC, FCN),
            'zero' counts 0 (MIT) and adds ``score``, the mean of pixel accuracy and mean IU.
            'exclude' leaves out every class without labelled pixels, predicted or not (SIFT Flow).
        ignore_index: true label that is not counted.
        output_dir: folder for the predictions as label PNGs, named like their images, in the data
            set's own numbers.
        format_only: write ``output_dir`` without scores, for images without labels.
        keep_results: no effect; mmseg's ``tools/test.py --out`` sets it.
        collect_device, prefix: as in mmengine's ``BaseMetric``.
        interval: 'image' or 'scene' adds 95 % intervals, from resamples of the images or of whole
            scenes: keys ``mIoU_low``, ``mIoU_high`` and so on, and each class's in the log.
        task: score this task of a segmentor with ``task_heads``, of the data set's classes for it;
            its name is the default prefix. Default: the main task.
    """

    default_prefix = ""  # no prefix; None would make mmengine warn

    def __init__(
        self,
        absent: str = "skip",
        ignore_index: int = 255,
        output_dir: str | None = None,
        format_only: bool = False,
        keep_results: bool = True,
        collect_device: str = "cpu",
        prefix: str | None = None,
        interval: str | None = None,
        task: str | None = None,
    ) -> None:
        super().__init__(collect_device, task if prefix is None else prefix)
        if absent not in ABSENT:
            raise UserError(f"ConfusionMatrixMetric: absent must be one of {ABSENT}")
        if interval not in (None, *BY):
            raise UserError(f"ConfusionMatrixMetric: interval must be one of {BY}, or None")
        if format_only and output_dir is None:
            raise UserError("ConfusionMatrixMetric: format_only needs an output_dir")
        self.absent, self.interval, self.task = absent, interval, task
        self._scores = {**SCORES, **(FINAL if absent == "zero" else {})}
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.format_only = format_only
        self.ignore_index = ignore_index
        self._forget()

    @property
    def keys(self) -> list[str]:
        """The keys of the scores, without prefix."""
        endings = ("", LOW, HIGH) if self.interval else ("",)
        return [key + ending for key in self._scores for ending in endings]

    @property
    def _meta(self) -> Mapping[str, Any]:
        """The classes, their colours and numbers."""
        return meta_of(self.dataset_meta, self.task)

    def _forget(self) -> None:
        self._counted: Tensor | None = None
        self._last: Tensor | None = None
        self._unchecked: list[tuple[str, Tensor]] = []
        self._samples = 0
        # Path and class_counts of each image, by its number on this process; only for intervals.
        self._by_image: dict[int, tuple[str, Tensor]] = {}
        self._saved: dict[str, str] = {}
        self.results.clear()

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Count a batch; samples hold ``gt_sem_seg`` and ``pred_sem_seg``, integers [1, H, W], or
        those of the task.

        Raises:
            UserError: a sample has no label or a label of another size than the prediction, or
                labels are outside the classes (raised up to 64 samples later, or by ``evaluate``).
        """
        for sample in data_samples:
            if self.output_dir is not None:
                self._save(sample, self.output_dir)
            # With an output_dir, images without labels are only written.
            truth = fields(self.task).truth
            if not self.format_only and (truth in sample or self.output_dir is None):
                self._count(sample)
            self._samples += 1

    def _count(self, sample: dict) -> None:
        name, names = sample.get("img_path", "an image without img_path"), fields(self.task)
        if names.prediction not in sample:
            raise UserError(
                f"ConfusionMatrixMetric(task={self.task!r}): the network predicts no such task; "
                "add it to model.task_heads, or take the metric out"
            )
        if names.truth not in sample:
            raise UserError(
                f"{name}: no label to score against; add the label, or give --out (output_dir) "
                "to write the predictions of images without labels"
            )
        prediction = sample[names.prediction]["data"].squeeze(0)
        truth = sample[names.truth]["data"].squeeze(0)
        if truth.shape != prediction.shape:
            raise UserError(
                f"{name}: label is {tuple(truth.shape)}, prediction {tuple(prediction.shape)}; "
                "load the label after the resizing steps of the test pipeline"
            )
        # Only to the GPU: a non-blocking copy to the CPU may be read before it is finished.
        truth = truth.to(prediction.device, non_blocking=prediction.is_cuda)
        classes = len(self._meta["classes"])
        matrix = confusion_matrix(truth, prediction, classes, self.ignore_index)
        outside = torch.stack((matrix[classes].sum(), matrix[:, classes].sum()))
        self._unchecked.append((name, outside))
        together = CHECKED_TOGETHER.get(matrix.device.type, CHECKED_TOGETHER_ELSEWHERE)
        if len(self._unchecked) >= together:
            self._refuse_illegal()
        self._counted = matrix if self._counted is None else self._counted + matrix
        if self.interval:
            counts = class_counts(matrix[:classes, :classes])
            self._by_image[self._samples] = (name, counts)
        self._last = matrix  # a sampler repeats only last samples

    def _save(self, sample: dict, folder: Path) -> None:
        prediction = sample[fields(self.task).prediction]["data"]
        indices = prediction.squeeze(0).cpu().numpy().astype(np.uint8)
        # If several data sets are scored together, each sample has its own numbering.
        own = {key: sample[key] for key in KEYS if key in sample and self.task is None}
        numbering = numbering_of({**self._meta, **own})
        stem = Path(sample["img_path"]).stem
        if self._saved.setdefault(stem, sample["img_path"]) != sample["img_path"]:
            raise UserError(
                f"{sample['img_path']}: {self._saved[stem]} has the same name, and one prediction "
                "would overwrite the other; write them to different folders"
            )
        palette = numbering.palette(self._meta["palette"])
        save_labels(numbering.labels(indices), folder / f"{stem}.png", palette)

    def _refuse_illegal(self) -> None:
        """Check all unchecked images with one transfer from the device."""
        if not self._unchecked:
            return
        names, outside = zip(*self._unchecked, strict=True)
        self._unchecked = []
        classes = len(self._meta["classes"])
        for name, (truth, prediction) in zip(names, torch.stack(outside).tolist(), strict=True):
            if truth or prediction:
                self._forget()  # the next evaluation starts from zero
            if truth:
                raise UserError(
                    f"{name}: {truth} pixels of its label are neither one of the {classes} classes "
                    "nor ignored; check the label file and the data set's classes"
                )
            if prediction:
                raise UserError(
                    f"{name}: {prediction} pixels are predicted outside the {classes} classes of "
                    "the data set; set the decode head's num_classes to the data set's"
                )

    def evaluate(self, size: int) -> dict[str, float]:
        """Scores over a data set of ``size`` samples, equal on all processes; resets the counts.

        Raises:
            UserError: labels are outside the classes, or the sampler distributed the samples in
                an unknown way, so that repeated ones cannot be found.
        """
        self._refuse_illegal()
        if self.format_only:
            self._forget()
            return {}
        # On every process, even one without samples: each waits for the others.
        repeated = self._last_is_repeated(size)
        images = self._all_images(size) if self.interval else {}
        matrix = self._counted
        if matrix is None:
            side = len(self._meta["classes"]) + 1
            matrix = torch.zeros(side, side, dtype=torch.int64)
        if repeated and self._last is not None:
            matrix = matrix - self._last
        self._forget()
        dist.all_reduce(matrix)
        if self.output_dir is not None and not matrix.any():
            return {}  # images without labels
        found = None
        if self.interval:
            paths, counts = zip(*(images[number] for number in sorted(images)), strict=True)
            found = intervals(np.stack(counts), paths, self.interval, self.absent)
        metrics = self.compute_metrics([matrix[:-1, :-1].cpu().numpy()], found)
        return {f"{self.prefix}/{k}" if self.prefix else k: v for k, v in metrics.items()}

    def _last_is_repeated(self, size: int) -> bool:
        """Whether another process has counted this process's last sample, too.

        The distributed samplers of torch and mmengine deal samples out in turn and fill the last
        round from the start of the data set: 5 samples on 3 processes are 0 3, 1 4, 2 0.
        """
        world = dist.get_world_size()
        if world == 1:
            return False
        dealt = [int(n) for n in dist.all_gather(torch.tensor(self._samples))]
        repeated = sum(dealt) - size
        if repeated <= 0:
            return False
        if repeated >= world or len(set(dealt)) > 1:
            raise UserError(
                f"ConfusionMatrixMetric: the processes scored {dealt} samples of a data set of "
                f"{size}; use DefaultSampler with shuffle=False in val_dataloader and "
                "test_dataloader"
            )
        return dist.get_rank() >= world - repeated

    def _all_images(self, size: int) -> dict[int, tuple[str, np.ndarray]]:
        """Path and counts of each image by its place in the data set, the same on all processes."""
        world, rank = dist.get_world_size(), dist.get_rank()
        own = {}
        if self._by_image:
            paths, tensors = zip(*self._by_image.values(), strict=True)
            counts = torch.stack(tensors).cpu().numpy()  # one transfer from the device
            places = [number * world + rank for number in self._by_image]
            own = dict(zip(places, zip(paths, counts, strict=True), strict=True))
        parts = dist.all_gather_object(own)
        return {place: image for part in parts for place, image in part.items() if place < size}

    def compute_metrics(
        self, results: list[np.ndarray], found: Intervals | None = None
    ) -> dict[str, float]:
        """Scores in percent from int64 matrices [C, C]; logs a table of the classes."""
        matrix = np.sum(results, axis=0)
        result = scores(matrix, self.absent)
        metrics = {}
        for key, attribute in self._scores.items():
            metrics[key] = 100 * getattr(result, attribute)
            if found:
                low, high = found.scores[attribute]
                metrics |= {key + LOW: 100 * low, key + HIGH: 100 * high}
        table = score_table(self._meta["classes"], result, matrix, found)
        title = f"Scores of {self.task}:" if self.task else ""
        MMLogger.get_current_instance().info("%s\n%s", title, table)
        return metrics
