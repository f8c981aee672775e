"""Hooks that store the evaluation of a test, or write a page about it."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from fcn_plugin.checks.data import check_intervals
from fcn_plugin.data.display import Viewer
from fcn_plugin.data.numbering import numbering_of
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.intervals import BY
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.evaluation.scores import class_counts, confusion_matrix
from fcn_plugin.evaluation.submission import spool_of
from fcn_plugin.report import evaluation, origin
from fcn_plugin.report.evaluation import Evaluation, ScoredImage, scored_image
from fcn_plugin.report.page import check_target, page
from fcn_plugin.report.panels import save_panels
from fcn_plugin.report.run import trained_run
from fcn_plugin.system.files import replacing
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.system.ranks import on_first_process


class EvaluationHook(Hook):
    """Stores a test's results in ``folder``: evaluation.json, and small pictures of each image.

    Ignored labels and the rule for absent classes are those of the test's metric. Samples that a
    distributed sampler repeats are left out, so the result does not depend on the number of
    processes; all processes must be able to write to the folder.

    Args:
        folder: an earlier evaluation in it is deleted.
        progress: called after each batch of images.
    """

    def __init__(self, folder: Path, progress: Progress = silent) -> None:
        self.folder, self.progress = folder, progress

    def before_test(self, runner: Runner) -> None:
        self.dataset = runner.test_dataloader.dataset
        self.view = Viewer(self.dataset)
        metrics = runner.test_evaluator.metrics
        # The page is of the main task.
        ours = [m for m in metrics if isinstance(m, ConfusionMatrixMetric) and m.task is None]
        theirs = [metric for metric in metrics if isinstance(metric, IoUMetric)]
        self.absent = ours[0].absent if ours else "skip"
        self.ignore_index = (ours or theirs)[0].ignore_index if ours or theirs else 255
        self.count = 0
        self.images: dict[int, tuple[ScoredImage, np.ndarray]] = {}
        self.classes = len(self.dataset.metainfo["classes"])
        self.matrix = torch.zeros(self.classes, self.classes, dtype=torch.int64)
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
            if index < size:
                self._keep(index, sample)
        self.progress("Scoring", min(self.count * world, size), size)

    def _keep(self, index: int, sample: SegDataSample) -> None:
        path = sample.img_path
        if "gt_sem_seg" not in sample:
            raise UserError(f"{path}: no label to score against; a report needs labelled images")
        truth, prediction = (
            labels.data.squeeze(0).cpu() for labels in (sample.gt_sem_seg, sample.pred_sem_seg)
        )
        counts = confusion_matrix(truth, prediction, self.classes, self.ignore_index)
        matrix = counts[:-1, :-1]
        if outside := int(counts.sum() - matrix.sum()):
            raise UserError(
                f"{path}: {outside} pixels of its label or prediction belong to none of the "
                f"{self.classes} classes; check the label, and the decode head's num_classes"
            )
        self.matrix += matrix
        shown = self.view(sample)
        image = scored_image(path, matrix.numpy(), shown.note)
        self.images[index] = image, class_counts(matrix).numpy()
        truth = truth.masked_fill(truth == self.ignore_index, 255)
        panels = (labels.numpy().astype(np.uint8) for labels in (truth, prediction))
        save_panels(self.folder / evaluation.PANELS, index, shown.pixels, *panels)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        dist.all_reduce(self.matrix)
        parts = dist.all_gather_object(self.images)
        if not dist.is_main_process():
            return
        by_index = {index: image for part in parts for index, image in part.items()}
        images, counts = zip(*(by_index[index] for index in sorted(by_index)), strict=True)
        checkpoint, meta = Path(str(runner.cfg.load_from)), self.dataset.metainfo
        digest = evaluation.sha256(checkpoint) if checkpoint.is_file() else ""  # else a URL
        evaluation.save(
            Evaluation(
                dataset=origin.dataset_title(runner.cfg, runner.cfg.test_dataloader.dataset),
                classes=meta["classes"],
                palette=meta["palette"],
                numbers=numbering_of(meta).numbers,
                absent=self.absent,
                matrix=self.matrix.numpy(),
                counts=np.stack(counts),
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


@HOOKS.register_module()
class ReportHook(EvaluationHook):
    """Writes a page about a test: scores, classes, confusions, worst and best images, config.

    The page has learning curves if the checkpoint lies in its work dir. During the test, pictures
    are stored in the folder ``.NAME.spool`` beside the page.

    Args:
        file: the page; written completely or not at all.
        interval: 'image' or 'scene' adds intervals of the scores, over images or whole scenes.
    """

    def __init__(self, file: str, interval: str | None = None) -> None:
        if interval not in (None, *BY):
            raise UserError(f"ReportHook: interval must be one of {BY}, or None")
        self.file, self.interval = Path(file), interval
        check_target(self.file)
        super().__init__(spool_of(self.file))

    def before_test(self, runner: Runner) -> None:
        super().before_test(runner)
        if self.interval:
            check_intervals(self.dataset, self.interval)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        super().after_test_epoch(runner, metrics)
        # The other processes wait; they would delete the pictures that the page still needs.
        on_first_process(lambda: self._write(runner))
        runner.logger.info("The report is %s", self.file)

    def _write(self, runner: Runner) -> None:
        run = trained_run(Path(str(runner.cfg.load_from)).parent, runner.cfg)
        run.evaluation = evaluation.load(self.folder)
        if run.evaluation and self.interval:
            run.intervals = run.evaluation.intervals(self.interval)
        with replacing(self.file) as part:
            part.write_text(page([run]), encoding="utf-8")
        shutil.rmtree(self.folder)
