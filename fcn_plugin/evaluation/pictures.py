"""``PicturesHook``, which writes what ``drawing`` draws during a test."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from PIL import Image

from fcn_plugin.data.display import Viewer
from fcn_plugin.data.picture_files import save_picture
from fcn_plugin.evaluation.drawing import Colours, side_by_side

WAITING = 4  # most pictures that wait to be drawn and written


@HOOKS.register_module()
class PicturesHook(Hook):
    """Write input, truth and prediction side by side to ``out_dir/NAME.png``.

    The input is shown as the data set's pipeline loads it, before resizing. If pictures fail, the
    first failure is logged as a warning and the test goes on. A thread draws and writes while the
    network predicts the next images; at most ``WAITING`` pictures wait for it.

    Args:
        out_dir: folder of the pictures.
        interval: write a picture of every ``interval``-th image of this process.
    """

    def __init__(self, out_dir: str, interval: int = 1) -> None:
        self.out_dir = Path(out_dir)
        self.interval = interval
        self.tested = self.written = 0
        self._waiting: deque[tuple[SegDataSample, Future[None]]] = deque()

    def before_test(self, runner: Runner) -> None:
        self.view = Viewer(runner.test_dataloader.dataset)
        self._thread = ThreadPoolExecutor(1)
        self.out_dir.mkdir(parents=True, exist_ok=True)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        meta = runner.test_dataloader.dataset.metainfo
        for sample in outputs or ():
            if self.tested % self.interval == 0:
                if len(self._waiting) == WAITING:
                    self._finish(1)
                try:
                    self._submit(sample, meta["classes"], meta["palette"])
                except Exception as error:  # a failed picture must not end the test
                    self.view.warn(sample, error)
            self.tested += 1

    def _submit(self, sample: SegDataSample, classes: Sequence[str], palette: Colours) -> None:
        # Loaded again, because the network's input is resized and normalised.
        shown = self.view(sample)
        labels = labels_of(sample)
        draw = partial(side_by_side, shown.pixels, labels, classes, palette, shown.note)
        file = self.out_dir / f"{Path(sample.img_path).stem}.png"
        without_scores = SegDataSample(metainfo=sample.metainfo)
        self._waiting.append((without_scores, self._thread.submit(_write, draw, file)))

    def _finish(self, count: int) -> None:
        """Wait until the oldest ``count`` pictures are written, and count or name them."""
        for _ in range(count):
            sample, job = self._waiting.popleft()
            try:
                job.result()
                self.written += 1
            except Exception as error:  # as above
                self.view.warn(sample, error)

    def after_test(self, runner: Runner) -> None:
        self._finish(len(self._waiting))
        self._thread.shutdown()
        written = torch.tensor(self.written)
        dist.all_reduce(written)
        runner.logger.info("%d pictures are in %s", written, self.out_dir)


def labels_of(sample: SegDataSample) -> dict[str, np.ndarray]:
    """Truth and prediction of a sample, int64 [H, W], by title; those that it has."""
    return {
        title: sample.get(key).data.squeeze(0).long().cpu().numpy()
        for title, key in (("truth", "gt_sem_seg"), ("prediction", "pred_sem_seg"))
        if key in sample
    }


def _write(draw: Callable[[], Image.Image], file: Path) -> None:
    save_picture(draw(), file)
