"""Test-time augmentation: one prediction from several views of an image."""

from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from fcn_plugin.errors import UserError
from fcn_plugin.models.coarse import in_single
from fcn_plugin.models.segmentor import final_head
from fcn_plugin.system.configs import class_of


@MODELS.register_module()
class FCNTTAModel(BaseTTAModel):
    """A segmentor that predicts labels from the mean probabilities over the views of an image.

    Several channels become probabilities by softmax. A single channel is a probability already and
    is compared with the head's threshold; mmseg's ``SegTTAModel`` applies the sigmoid twice. Views
    are predicted one at a time and summed.
    """

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict a batch.

        Args:
            data: ``inputs`` and ``data_samples``, each a list over views of lists over images.

        Returns:
            The samples of the first view, with ``pred_sem_seg`` (1 x H x W) from all views and
            without ``seg_logits``. With one view: the network's samples, unchanged.
        """
        views = [
            dict(inputs=inputs, data_samples=samples)
            for inputs, samples in zip(data["inputs"], data["data_samples"], strict=True)
        ]
        samples = self.module.test_step(views[0])
        if len(views) == 1:
            return samples
        totals = [_take_probabilities(sample) for sample in samples]
        for view in views[1:]:
            for sample, total in zip(self.module.test_step(view), totals, strict=True):
                total += _take_probabilities(sample)
        for sample, total in zip(samples, totals, strict=True):
            self._decide(sample, total / len(views))
        return samples

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[SegDataSample]]
    ) -> list[SegDataSample]:
        """The first sample of each image, merged from those of all views as in ``test_step``."""
        merged = []
        for samples in data_samples_list:
            views = [probabilities(sample.seg_logits.data) for sample in samples]
            merged.append(self._decide(samples[0], torch.stack(views).mean(0)))
        return merged

    def _decide(self, sample: SegDataSample, mean: Tensor) -> SegDataSample:
        """The sample with labels from mean probabilities, C x H x W."""
        if len(mean) == 1:
            labels = (mean > final_head(self.module).threshold).long()
        else:
            labels = mean.argmax(0, keepdim=True)
        sample.pred_sem_seg = PixelData(data=labels)
        return sample


def probabilities(scores: Tensor) -> Tensor:
    """From scores C x H x W, in at least single precision; a single channel is one already."""
    return in_single(scores).softmax(0) if len(scores) > 1 else in_single(scores).clone()


def _take_probabilities(sample: SegDataSample) -> Tensor:
    """The probabilities of a sample, whose scores are deleted."""
    scores = sample.seg_logits.data
    del sample.seg_logits
    return probabilities(scores)


def check_tta(cfg: Config) -> None:
    """Raise ``UserError`` if a config lacks what test-time augmentation needs."""
    if not {"tta_pipeline", "tta_model"} <= set(cfg):
        raise UserError(f"--tta: {cfg.filename} has no tta_pipeline and tta_model; add them")


def with_tta(tta_model: dict, network: dict | nn.Module) -> dict:
    """The config ``tta_model`` around a network; ``FCNTTAModel`` replaces ``SegTTAModel``."""
    if class_of(tta_model, MODELS) is SegTTAModel:
        tta_model = dict(tta_model, type="FCNTTAModel")
    return dict(tta_model, module=network)
