"""Keep evaluations, and write pages of them, while mmengine tests."""

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

from fcn_plugin.data.display import Viewer
from fcn_plugin.data.numbering import numbering_of
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.evaluation.scores import confusion_matrix
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
    """Keep a test in ``folder``: evaluation.json, and small pictures of every image.

    Labels that are not counted and the rule for absent classes are those of the test's own metric.
    Samples that a distributed sampler repeats are left out, so that any number of processes keeps
    the same; all processes have to see the folder.

    Args:
        folder: what an earlier evaluation left there is deleted.
        progress: counts the images.
    """

    def __init__(self, folder: Path, progress: Progress = silent) -> None:
        self.folder, self.progress = folder, progress

    def before_test(self, runner: Runner) -> None:
        self.dataset = runner.test_dataloader.dataset
        self.view = Viewer(self.dataset)
        metrics = runner.test_evaluator.metrics
        ours = [metric for metric in metrics if isinstance(metric, ConfusionMatrixMetric)]
        theirs = [metric for metric in metrics if isinstance(metric, IoUMetric)]
        self.absent = ours[0].absent if ours else "skip"
        self.ignored = (ours or theirs)[0].ignore_index if ours or theirs else 255
        self.seen = 0
        self.images: dict[int, ScoredImage] = {}
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
            # Samples are dealt out in turn, and the last round is filled from the start.
            index = self.seen * world + dist.get_rank()
            self.seen += 1
            if index < size:
                self._keep(index, sample)
        self.progress("Scoring", min(self.seen * world, size), size)

    def _keep(self, index: int, sample: SegDataSample) -> None:
        path = sample.img_path
        if "gt_sem_seg" not in sample:
            raise UserError(f"{path}: no label to score against; a report needs labelled images")
        truth, prediction = (
            labels.data.squeeze(0).cpu() for labels in (sample.gt_sem_seg, sample.pred_sem_seg)
        )
        counted = confusion_matrix(truth, prediction, self.classes, self.ignored)
        matrix = counted[:-1, :-1]
        if outside := int(counted.sum() - matrix.sum()):
            raise UserError(
                f"{path}: {outside} pixels of its label or prediction are none of the "
                f"{self.classes} classes; check the label, and the decode head's num_classes"
            )
        self.matrix += matrix
        shown = self.view(sample)
        self.images[index] = scored_image(path, matrix.numpy(), shown.note)
        truth = truth.masked_fill(truth == self.ignored, 255)
        panels = (labels.numpy().astype(np.uint8) for labels in (truth, prediction))
        save_panels(self.folder / evaluation.PANELS, index, shown.pixels, *panels)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        dist.all_reduce(self.matrix)
        parts = dist.all_gather_object(self.images)
        if not dist.is_main_process():
            return
        images = {index: image for part in parts for index, image in part.items()}
        checkpoint, meta = Path(str(runner.cfg.load_from)), self.dataset.metainfo
        digest = evaluation.sha256(checkpoint) if checkpoint.is_file() else ""  # an address
        evaluation.save(
            Evaluation(
                dataset=origin.dataset_title(runner.cfg),
                classes=meta["classes"],
                palette=meta["palette"],
                numbers=numbering_of(meta).numbers,
                absent=self.absent,
                matrix=self.matrix.numpy(),
                images=[images[index] for index in sorted(images)],
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
    """Write a page of a test: scores, classes, confusions, worst and best images, config.

    Learning curves are on it if the checkpoint lies in the work dir of its training. Until the end
    the pictures wait in the folder ``.NAME.spool`` beside the page.

    Args:
        file: the page, written whole or not at all.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        check_target(self.file)
        super().__init__(spool_of(self.file))

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        super().after_test_epoch(runner, metrics)
        # The others wait, or they would clear up what is not written yet.
        on_first_process(lambda: self._write(runner))
        runner.logger.info("The report is %s", self.file)

    def _write(self, runner: Runner) -> None:
        run = trained_run(Path(str(runner.cfg.load_from)).parent, runner.cfg)
        run.evaluation = evaluation.load(self.folder)
        with replacing(self.file) as part:
            part.write_text(page([run]), encoding="utf-8")
        shutil.rmtree(self.folder)
