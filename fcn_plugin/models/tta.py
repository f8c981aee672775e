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

from fcn_plugin.data.tasks import fields
from fcn_plugin.errors import UserError
from fcn_plugin.models.coarse import in_single
from fcn_plugin.models.segmentor import heads_of
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
            without ``seg_logits``, and so for each task. With one view: the network's samples,
            unchanged.
        """
        views = [
            dict(inputs=inputs, data_samples=samples)
            for inputs, samples in zip(data["inputs"], data["data_samples"], strict=True)
        ]
        samples = self.module.test_step(views[0])
        if len(views) == 1:
            return samples
        totals = [self._take_probabilities(sample) for sample in samples]
        for view in views[1:]:
            for sample, total in zip(self.module.test_step(view), totals, strict=True):
                for task, more in self._take_probabilities(sample).items():
                    total[task] += more
        for sample, total in zip(samples, totals, strict=True):
            for task, probability in total.items():
                self._decide(sample, probability / len(views), task)
        return samples

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[SegDataSample]]
    ) -> list[SegDataSample]:
        """The first sample of each image, merged from those of all views as in ``test_step``."""
        merged = []
        for samples in data_samples_list:
            for task, _ in heads_of(self.module):
                views = [probabilities(sample.get(fields(task).scores).data) for sample in samples]
                self._decide(samples[0], torch.stack(views).mean(0), task)
            merged.append(samples[0])
        return merged

    def _take_probabilities(self, sample: SegDataSample) -> dict[str | None, Tensor]:
        """The probabilities of each task of a sample, whose scores are deleted."""
        taken = {}
        for task, _ in heads_of(self.module):
            name = fields(task).scores
            taken[task] = probabilities(sample.get(name).data)
            delattr(sample, name)
        return taken

    def _decide(self, sample: SegDataSample, mean: Tensor, task: str | None) -> None:
        """Set the sample's labels from mean probabilities, C x H x W."""
        if len(mean) == 1:
            labels = (mean > dict(heads_of(self.module))[task].threshold).long()
        else:
            labels = mean.argmax(0, keepdim=True)
        sample.set_data({fields(task).prediction: PixelData(data=labels)})


def probabilities(scores: Tensor) -> Tensor:
    """From scores C x H x W, in at least single precision; a single channel is one already."""
    return in_single(scores).softmax(0) if len(scores) > 1 else in_single(scores).clone()


def check_tta(cfg: Config) -> None:
    """Raise ``UserError`` if a config lacks what test-time augmentation needs."""
    if not {"tta_pipeline", "tta_model"} <= set(cfg):
        raise UserError(f"--tta: {cfg.filename} has no tta_pipeline and tta_model; add them")


def with_tta(tta_model: dict, network: dict | nn.Module) -> dict:
    """The config ``tta_model`` around a network; ``FCNTTAModel`` replaces ``SegTTAModel``."""
    if class_of(tta_model, MODELS) is SegTTAModel:
        tta_model = dict(tta_model, type="FCNTTAModel")
    return dict(tta_model, module=network)
