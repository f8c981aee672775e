"""``PicturesHook``, which writes what ``drawing`` draws during a test."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from fcn_plugin.data.display import Viewer
from fcn_plugin.data.picture_files import save_picture
from fcn_plugin.evaluation.drawing import VOID as VOID
from fcn_plugin.evaluation.drawing import Colours, side_by_side
from fcn_plugin.evaluation.drawing import colour_table as colour_table
from fcn_plugin.evaluation.drawing import percent as percent


@HOOKS.register_module()
class PicturesHook(Hook):
    """Write input, truth and prediction side by side to ``out_dir/NAME.png``.

    The input is shown as the data set's pipeline loads it, before resizing. If pictures fail, the
    first failure is logged as a warning and the test goes on.

    Args:
        out_dir: folder of the pictures.
        interval: write a picture of every ``interval``-th image of this process.
    """

    def __init__(self, out_dir: str, interval: int = 1) -> None:
        self.out_dir = Path(out_dir)
        self.interval = interval
        self.tested = self.written = 0

    def before_test(self, runner: Runner) -> None:
        self.view = Viewer(runner.test_dataloader.dataset)
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
                try:
                    self._write(sample, meta["classes"], meta["palette"])
                    self.written += 1
                except Exception as error:  # a failed picture must not end the test
                    self.view.warn(sample, error)
            self.tested += 1

    def _write(self, sample: SegDataSample, classes: Sequence[str], palette: Colours) -> None:
        # Loaded again, because the network's input is resized and normalised.
        shown = self.view(sample)
        labels = {
            title: sample.get(key).data.squeeze(0).long().cpu().numpy()
            for title, key in (("truth", "gt_sem_seg"), ("prediction", "pred_sem_seg"))
            if key in sample
        }
        sheet = side_by_side(shown.pixels, labels, classes, palette, shown.note)
        save_picture(sheet, self.out_dir / f"{Path(sample.img_path).stem}.png")

    def after_test(self, runner: Runner) -> None:
        written = torch.tensor(self.written)
        dist.all_reduce(written)
        runner.logger.info("%d pictures are in %s", written, self.out_dir)
