"""The scores as an mmengine metric."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.registry import METRICS

from fcn_plugin.data.labels import save_labels
from fcn_plugin.data.numbering import KEYS, numbering_of
from fcn_plugin.data.tasks import fields, meta_of
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.boundaries import RATIO
from fcn_plugin.evaluation.counting import Counted, Counting
from fcn_plugin.evaluation.intervals import BY, HIGH, LOW, intervals
from fcn_plugin.evaluation.measures import MEASURES, Measures, summary
from fcn_plugin.evaluation.scores import ABSENT, Absent
from fcn_plugin.evaluation.tables import class_scores, score_table

# Key -> name in ``summary``.
SCORES = {
    "aAcc": "pixel_accuracy",
    "mAcc": "mean_accuracy",
    "mIoU": "mean_iu",
    "fwIoU": "frequency_weighted_iu",
    "mDice": "mean_dice",
    "mPrecision": "mean_precision",
    "mRecall": "mean_accuracy",
}
FINAL = {"score": "final"}  # only if absent classes count as zero
FSCORE = {"mFscore": "mean_fscore"}  # only if asked for
# What mmseg's IoUMetric gives for each of its ``iou_metrics``, beside aAcc.
IOU_SCORES = dict(
    mIoU=("mIoU", "mAcc"),
    mDice=("mDice", "mAcc"),
    mFscore=("mFscore", "mPrecision", "mRecall"),
)


@METRICS.register_module()
class ConfusionMatrixMetric(BaseMetric):
    """Scores of segmentation, in percent, unrounded, and a table of the classes in the log.

    Keys ``aAcc``, ``mAcc``, ``mIoU``, ``fwIoU``, ``mDice``, ``mPrecision`` and ``mRecall``. Each
    process counts into one int64 matrix and the matrices are summed at the end, so any number of
    processes gives the same scores; see ``counting``.

    Args:
        absent: what a class without any pixel does to the means: 'skip' leaves it out (VOC, FCN),
            'zero' counts 0 (MIT) and adds ``score``, the mean of pixel accuracy and mean IU.
            'exclude' leaves out every class without labelled pixels, predicted or not (SIFT Flow).
        ignore_index: true label that is not counted.
        iou_metrics: give only the keys that mmseg's ``IoUMetric`` gives for these of 'mIoU',
            'mDice' and 'mFscore'.
        nan_to_num: the value, as a fraction, of a class without any pixel, in place of ``absent``.
        beta: weight of the recall in ``mFscore``.
        output_dir: folder for the predictions as label PNGs, named like their images, in the data
            set's own numbers.
        format_only: write ``output_dir`` without scores, for images without labels.
        keep_results: no effect; mmseg's ``tools/test.py --out`` sets it.
        collect_device, prefix: as in mmengine's ``BaseMetric``.
        interval: 'image' or 'scene' adds 95 % intervals, from resamples of the images or of whole
            scenes: keys ``mIoU_low``, ``mIoU_high`` and so on, and each class's in the log.
        task: score this task of a segmentor with ``task_heads``, of the data set's classes for it;
            its name is the default prefix. Default: the main task.
        measures: what to measure besides: 'boundary' adds ``mBIoU``, the mean boundary IoU, and
            ``tAcc1`` to ``tAcc32``, the pixel accuracies in trimaps of 1 to 32 pixels around true
            borders; 'confidence' adds ``ECE``, the expected calibration error, and ``conf``, the
            mean confidence; 'errors' adds ``eMissed``, ``eBorder``, ``eInvented`` and ``eInside``,
            the wrong pixels by their kind; 'all' adds all of these.
        boundary_ratio: width of boundary regions as a fraction of the image's diagonal.

    Attributes:
        class_scores: after ``evaluate``, kind of score -> class -> percent; classes without that
            score are left out.
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
        iou_metrics: str | Sequence[str] | None = None,
        nan_to_num: float | None = None,
        beta: float = 1,
        measures: str | Sequence[str] | None = None,
        boundary_ratio: float = RATIO,
    ) -> None:
        super().__init__(collect_device, task if prefix is None else prefix)
        if absent not in ABSENT:
            raise UserError(f"ConfusionMatrixMetric: absent must be one of {ABSENT}")
        if interval not in (None, *BY):
            raise UserError(f"ConfusionMatrixMetric: interval must be one of {BY}, or None")
        if format_only and output_dir is None:
            raise UserError("ConfusionMatrixMetric: format_only needs an output_dir")
        if nan_to_num is not None and absent != "skip":
            raise UserError(
                f"ConfusionMatrixMetric: give nan_to_num or absent={absent!r}, not both"
            )
        for name, value in (("nan_to_num", nan_to_num), ("beta", beta)):
            if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise UserError(f"ConfusionMatrixMetric: {name}={value!r}; give a number from 0")
        self.absent: Absent = absent if nan_to_num is None else nan_to_num
        self.interval, self.task, self.beta = interval, task, beta
        chosen = (*MEASURES,) if measures == "all" else listed(measures or ())
        self.measures = Measures(chosen, boundary_ratio)
        self._scores = self._chosen(iou_metrics) | self.measures.keys
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.format_only = format_only
        self.ignore_index = ignore_index
        self.class_scores: dict[str, dict[str, float]] = {}
        self._forget()

    def _chosen(self, iou_metrics: str | Sequence[str] | None) -> dict[str, str]:
        """Key -> name in ``summary`` of the scores of the confusion matrix."""
        if iou_metrics is None:
            return {**SCORES, **(FINAL if self.absent == "zero" else {})}
        check_iou_metrics(iou_metrics, type(self).__name__)
        names = ["aAcc", *(key for name in listed(iou_metrics) for key in IOU_SCORES[name])]
        return {name: {**SCORES, **FSCORE}[name] for name in names}

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
        self._counting: Counting | None = None
        self._saved: dict[str, str] = {}
        self.results.clear()

    @property
    def counting(self) -> Counting:
        """What counts; made when the classes are known."""
        if self._counting is None:
            self._counting = Counting(
                len(self._meta["classes"]),
                self.ignore_index,
                self.measures,
                bool(self.interval),
                self.task,
            )
        return self._counting

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Count a batch; samples hold ``gt_sem_seg`` and ``pred_sem_seg``, integers [1, H, W], or
        those of the task.

        Raises:
            UserError: what ``Counting.add`` refuses.
        """
        for sample in data_samples:
            if self.output_dir is not None:
                self._save(sample, self.output_dir)
            # With an output_dir, images without labels are only written.
            truth = fields(self.task).truth
            if not self.format_only and (truth in sample or self.output_dir is None):
                self.counting.add(sample)
            else:
                self.counting.skip()

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

    def evaluate(self, size: int) -> dict[str, float]:
        """Scores over a data set of ``size`` samples, equal on all processes; resets the counts.

        Raises:
            UserError: what ``Counting.finish`` refuses.
        """
        if self.format_only:
            self._forget()
            return {}
        counted = self.counting.finish(size)
        self._forget()
        if self.output_dir is not None and not counted.total["matrix"].any():
            return {}  # images without labels
        metrics = self.compute_metrics([counted])
        return {f"{self.prefix}/{k}" if self.prefix else k: v for k, v in metrics.items()}

    def compute_metrics(self, results: list[Counted]) -> dict[str, float]:
        """Scores in percent from the counts of the data set; logs a table of the classes."""
        (counted,) = results
        found = None
        if self.interval:
            sample = counted.by_image, counted.paths
            found = intervals(*sample, self.interval, self.absent, beta=self.beta)
        result = summary(counted.total, self.absent, self.beta)
        metrics = {}
        for key, name in self._scores.items():
            metrics[key] = 100 * result[name]
            if found:
                low, high = found.scores[name]
                metrics |= {key + LOW: 100 * low, key + HIGH: 100 * high}
        classes = self._meta["classes"]
        self.class_scores = class_scores(classes, result)
        table = score_table(classes, result, counted.total["matrix"], found)
        title = f"Scores of {self.task}:" if self.task else ""
        MMLogger.get_current_instance().info("%s\n%s", title, table)
        return metrics


def check_iou_metrics(given: str | Sequence[str], metric: str) -> None:
    """Raise ``UserError`` if one of mmseg's ``iou_metrics`` does not exist."""
    for name in listed(given):
        if name not in IOU_SCORES:
            raise UserError(
                f"{metric}: iou_metrics {name!r} does not exist; give some of "
                f"{', '.join(IOU_SCORES)}"
            )


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple; a single one may be given alone.

    >>> listed("mIoU"), listed(["mIoU", "mDice"])
    (('mIoU',), ('mIoU', 'mDice'))
    """
    return (names,) if isinstance(names, str) else tuple(names)
