"""Pictures of predictions, written while testing."""

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
from fcn_plugin.evaluation.pictures import picture


@HOOKS.register_module()
class PicturesHook(Hook):
    """Write input, truth and prediction side by side, ``out_dir/NAME.png``.

    The input is what the data set's pipeline loads, before it is resized. Whatever is wrong with a
    picture is warned of, once, and the test goes on.

    Args:
        out_dir: folder of the pictures.
        interval: one picture of every so many images of this process.
    """

    def __init__(self, out_dir: str, interval: int = 1) -> None:
        self.out_dir = Path(out_dir)
        self.interval = interval
        self.seen = self.written = 0

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
            if self.seen % self.interval == 0:
                try:
                    self._write(sample, meta["classes"], meta["palette"])
                    self.written += 1
                except Exception as error:  # no picture is dearer than the scores
                    self.view.warn(sample, error)
            self.seen += 1

    def _write(self, sample: SegDataSample, classes: Sequence[str], palette: Sequence) -> None:
        # Loaded again: what the network saw is resized and normalised.
        shown = self.view(sample)
        labels = {}
        if "gt_sem_seg" in sample:
            labels["truth"] = sample.gt_sem_seg.data.squeeze(0).long().cpu().numpy()
        labels["prediction"] = sample.pred_sem_seg.data.squeeze(0).long().cpu().numpy()
        name = f"{Path(sample.img_path).stem}.png"
        sheet = picture(shown.pixels, labels, classes, palette, shown.note)
        save_picture(sheet, self.out_dir / name)

    def after_test(self, runner: Runner) -> None:
        written = torch.tensor(self.written)
        dist.all_reduce(written)
        runner.logger.info("%d pictures are in %s", written, self.out_dir)
