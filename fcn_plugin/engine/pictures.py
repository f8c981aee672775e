"""Pictures of predictions, written while testing."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from fcn_plugin.data.loading import LoadCheckedImage
from fcn_plugin.evaluation.pictures import picture
from fcn_plugin.evaluation.predictions import save_picture


@HOOKS.register_module()
class PicturesHook(Hook):
    """Write input, truth and prediction side by side, ``out_dir/NAME.png``.

    Args:
        out_dir: folder of the pictures.
        interval: one picture of every so many images of this process.
    """

    def __init__(self, out_dir: str, interval: int = 1) -> None:
        self.out_dir = Path(out_dir)
        self.interval = interval
        self.seen = 0
        self.load_image = LoadCheckedImage()

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
                self._write(sample, meta["classes"], meta["palette"])
            self.seen += 1

    def _write(self, sample: SegDataSample, classes: Sequence[str], palette: Sequence) -> None:
        # The file again: what the network saw is resized and normalised.
        image = self.load_image.transform({"img_path": sample.img_path})["img"][..., ::-1]
        labels = {}
        if "gt_sem_seg" in sample:
            labels["truth"] = sample.gt_sem_seg.data.squeeze(0).long().cpu().numpy()
        labels["prediction"] = sample.pred_sem_seg.data.squeeze(0).long().cpu().numpy()
        name = f"{Path(sample.img_path).stem}.png"
        save_picture(picture(image, labels, classes, palette), self.out_dir / name)

    def after_test(self, runner: Runner) -> None:
        written = torch.tensor(-(-self.seen // self.interval))
        dist.all_reduce(written)
        runner.logger.info("%d pictures are in %s", written, self.out_dir)
