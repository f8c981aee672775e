"""Hooks that store the evaluation of a test, or write a page about it."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from fcn_plugin.checks.data import check_intervals
from fcn_plugin.data.display import Viewer
from fcn_plugin.data.numbering import numbering_of
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.boundaries import RATIO
from fcn_plugin.evaluation.counting import Counting
from fcn_plugin.evaluation.error_kinds import INSIDE
from fcn_plugin.evaluation.intervals import BY
from fcn_plugin.evaluation.measures import MEASURES, Measures
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.evaluation.submission import spool_of
from fcn_plugin.report import evaluation, origin
from fcn_plugin.report.evaluation import Evaluation, scored_image
from fcn_plugin.report.page import check_target, page
from fcn_plugin.report.panels import save_panels
from fcn_plugin.report.run import trained_run
from fcn_plugin.system.files import replacing
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.system.ranks import on_first_process

LABELS = ("gt_sem_seg", "pred_sem_seg")  # what a sample's pictures need


class EvaluationHook(Hook):
    """Stores a test's results in ``folder``: evaluation.json, and small pictures of each image.

    Ignored labels and the rule for absent classes are those of the test's metric. Samples that a
    distributed sampler repeats are left out, so the result does not depend on the number of
    processes; all processes must be able to write to the folder.

    Args:
        folder: an earlier evaluation in it is deleted.
        progress: called after each batch of images.
        measures: what is measured beside the confusion matrix; default: all that can be.
        boundary_ratio: as for ``ConfusionMatrixMetric``.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress = silent,
        measures: Sequence[str] | None = None,
        boundary_ratio: float = RATIO,
    ) -> None:
        self.folder, self.progress = folder, progress
        self.names = None if measures is None else tuple(measures)
        self.measures = Measures(self.names or (), boundary_ratio)

    def before_test(self, runner: Runner) -> None:
        self.dataset = runner.test_dataloader.dataset
        self.view = Viewer(self.dataset)
        metrics = runner.test_evaluator.metrics
        # The page is of the main task.
        ours = [m for m in metrics if isinstance(m, ConfusionMatrixMetric) and m.task is None]
        theirs = [metric for metric in metrics if isinstance(metric, IoUMetric)]
        values = [metric.nan_to_num for metric in theirs if metric.nan_to_num is not None]
        self.absent = ours[0].absent if ours else next(iter(values), "skip")
        self.ignore_index = (ours or theirs)[0].ignore_index if ours or theirs else 255
        self.count = 0
        self.notes: dict[str, str] = {}
        self.loading = Lock()  # a data set's own transforms may not bear several threads
        classes = len(self.dataset.metainfo["classes"])
        if self.names is None:
            # Test-time augmentation keeps no scores.
            kept = not _averages(runner.model)
            names = tuple(name for name in MEASURES if kept or name != "confidence")
            self.measures = replace(self.measures, names=names)
        self.counting = Counting(classes, self.ignore_index, self.measures, by_image=True)
        if dist.is_main_process():
            (self.folder / evaluation.FILE).unlink(missing_ok=True)
            shutil.rmtree(self.folder / evaluation.PANELS, ignore_errors=True)
        dist.barrier()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        size, world = len(self.dataset), dist.get_world_size()
        for sample in outputs or ():
            # Processes take samples in turn; the sampler fills the last round with the first ones.
            index = self.count * world + dist.get_rank()
            self.count += 1
            # Without the scores, of which many images' would wait in memory.
            labels = {name: sample.get(name) for name in LABELS if name in sample}
            shown = SegDataSample(metainfo=sample.metainfo, **labels)
            draw = partial(self._draw, index, shown) if index < size else None
            self.counting.add(sample.to_dict(), draw)
        self.progress("Scoring", min(self.count * world, size), size)

    def _draw(self, index: int, sample: SegDataSample, kinds: np.ndarray | None) -> None:
        truth, prediction = (
            labels.data.squeeze(0).cpu() for labels in (sample.gt_sem_seg, sample.pred_sem_seg)
        )
        with self.loading:
            shown = self.view(sample)
        self.notes[sample.img_path] = shown.note
        truth = truth.masked_fill(truth == self.ignore_index, 255)
        if kinds is None:  # only right or wrong
            kinds = INSIDE * ((truth != prediction) & (truth < self.counting.num_classes)).numpy()
        maps = (np.asarray(labels, np.uint8) for labels in (truth, prediction, kinds))
        save_panels(self.folder / evaluation.PANELS, index, shown.pixels, *maps)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        counted = self.counting.finish(len(self.dataset))
        parts = dist.all_gather_object(self.notes)
        if not dist.is_main_process():
            return
        notes = {path: note for part in parts for path, note in part.items()}
        regions = counted.by_image["regions"]
        images = [
            scored_image(path, counts, notes[path])
            for path, counts in zip(counted.paths, regions, strict=True)
        ]
        checkpoint, meta = Path(str(runner.cfg.load_from)), self.dataset.metainfo
        digest = evaluation.sha256(checkpoint) if checkpoint.is_file() else ""  # else a URL
        evaluation.save(
            Evaluation(
                dataset=origin.dataset_title(runner.cfg, runner.cfg.test_dataloader.dataset),
                classes=meta["classes"],
                palette=meta["palette"],
                numbers=numbering_of(meta).numbers,
                absent=self.absent,
                total=counted.total,
                by_image=counted.by_image,
                ratio=self.measures.ratio,
                images=images,
                sha256=digest,
                facts={
                    "checkpoint": str(checkpoint),
                    "SHA-256": digest,
                    "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
                    "command": shlex.join(["python", *sys.argv]),
                    "device": origin.device_name(next(runner.model.parameters()).device),
                    **origin.versions(),
                },
                folder=self.folder,
            )
        )


def _averages(model: Any) -> bool:
    """Whether a model, on one process or several, is for test-time augmentation."""
    while is_model_wrapper(model):
        model = model.module
    return isinstance(model, BaseTTAModel)


@HOOKS.register_module()
class ReportHook(EvaluationHook):
    """Writes a page about a test: scores, classes, errors, confidence, images, config.

    The page has learning curves if the checkpoint lies in its work dir. During the test, pictures
    are stored in the folder ``.NAME.spool`` beside the page.

    Args:
        file: the page; written completely or not at all.
        interval: intervals of the scores are over 'image' or 'scene'; None leaves them out. One
            image has none.
        measures, boundary_ratio: as for ``EvaluationHook``.
    """

    def __init__(
        self,
        file: str,
        interval: str | None = "image",
        measures: Sequence[str] | None = None,
        boundary_ratio: float = RATIO,
    ) -> None:
        if interval not in (None, *BY):
            raise UserError(f"ReportHook: interval must be one of {BY}, or None")
        self.file, self.interval = Path(file), interval
        check_target(self.file)
        spool = spool_of(self.file)
        super().__init__(spool, measures=measures, boundary_ratio=boundary_ratio)

    def before_test(self, runner: Runner) -> None:
        super().before_test(runner)
        if self.interval == "scene":
            check_intervals(self.dataset, self.interval)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        super().after_test_epoch(runner, metrics)
        # The other processes wait; they would delete the pictures that the page still needs.
        on_first_process(lambda: self._write(runner))
        runner.logger.info("The report is %s", self.file)

    def _write(self, runner: Runner) -> None:
        run = trained_run(Path(str(runner.cfg.load_from)).parent, runner.cfg)
        run.add(evaluation.load(self.folder), self.interval)
        with replacing(self.file) as part:
            part.write_text(page([run]), encoding="utf-8")
        shutil.rmtree(self.folder)
