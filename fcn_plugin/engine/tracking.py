"""Send class scores and pictures of each validation to TensorBoard, W&B, MLflow or ClearML."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import BaseVisBackend, LocalVisBackend
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from fcn_plugin.data.display import Viewer
from fcn_plugin.evaluation.drawing import side_by_side
from fcn_plugin.evaluation.pictures import labels_of
from fcn_plugin.system.ranks import on_first_process

LONGEST = 600  # pixels of a panel's longer side, about; larger images are reduced


@HOOKS.register_module()
class TrackingHook(Hook):
    """Send each validation's class scores and some pictures to the visualizer's backends.

    To all but ``LocalVisBackend``, whose files have the scores as mmengine's ``LoggerHook`` sends
    them; those are not sent again. A class's scores are named ``IU/sky``, with the prefix of the
    metric if it has one; classes without a score are left out. The pictures (input, truth and
    prediction) are of the same images each time, spread evenly over those of the first process.
    Only this process sends anything.

    Args:
        pictures: number of images; 0 sends none.

    Raises:
        UserError: before training, a backend cannot start.
    """

    # After LoggerHook (BELOW_NORMAL), before CheckpointHook (VERY_LOW), so that a tracker that
    # cannot start is told before a resumed run is scored.
    priority = "LOW"

    def __init__(self, pictures: int = 4) -> None:
        self.pictures = pictures
        self.view: Viewer | None = None
        self._begin(0)

    def _begin(self, images: int) -> None:
        """Before a validation of so many images in this process."""
        number = min(self.pictures, images)
        self.chosen = {images * i // number for i in range(number)}
        self.seen = 0
        self.sheets: dict[str, np.ndarray] = {}

    def before_train(self, runner: Runner) -> None:
        on_first_process(lambda: [backend.experiment for backend in _backends(runner)])

    def before_val(self, runner: Runner) -> None:
        dataset = runner.val_dataloader.dataset
        self._begin(-(-len(dataset) // dist.get_world_size()) if _backends(runner) else 0)
        if self.chosen and self.view is None:
            self.view = Viewer(dataset)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        for sample in outputs or ():
            if self.seen in self.chosen and self.view is not None:
                try:
                    self._draw(sample, self.view, runner.val_dataloader.dataset.metainfo)
                except Exception as error:  # a failed picture must not end the training
                    self.view.warn(sample, error)
            self.seen += 1

    def _draw(self, sample: SegDataSample, view: Viewer, meta: dict) -> None:
        labels = labels_of(sample)
        image, note = view(sample)
        step = -(-max(image.shape[:2]) // LONGEST)
        small = {title: label[::step, ::step] for title, label in labels.items()}
        if step > 1:
            height, width = small["prediction"].shape
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        sheet = side_by_side(image, small, meta["classes"], meta["palette"], note)
        self.sheets[f"pictures/{Path(sample.img_path).stem}"] = np.asarray(sheet)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        scores = _class_scores(runner.val_loop.evaluator.metrics)
        for backend in _backends(runner):
            if scores:
                backend.add_scalars(scores, runner.iter)
            for name, sheet in self.sheets.items():
                backend.add_image(name, sheet, runner.iter)
        self._begin(0)


def _backends(runner: Runner) -> list[BaseVisBackend]:
    """The backends that this process sends to."""
    if not dist.is_main_process():
        return []
    # mmengine's own methods also send to the local one, or want a backend's name.
    backends = runner.visualizer._vis_backends.values()
    return [backend for backend in backends if not isinstance(backend, LocalVisBackend)]


def _class_scores(metrics: Sequence[Any]) -> dict[str, float]:
    """``IU/sky`` and the like, of the metrics that have scores of classes."""
    found = {}
    for metric in metrics:
        prefix = f"{metric.prefix}/" if getattr(metric, "prefix", None) else ""
        for score, by_class in getattr(metric, "class_scores", {}).items():
            for name, value in by_class.items():
                if isfinite(value):
                    found[f"{prefix}{score}/{name}"] = value
    return found
