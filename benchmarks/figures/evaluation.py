"""Figures of evaluation without the network, on synthetic images like VOC's."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric, Evaluator
from mmseg.datasets import PascalVOCDataset
from mmseg.evaluation import IoUMetric
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.models.segmentor import add_predictions
from figures.framework import Figure, Setting, Sides
from figures.scores import VOID, bilinear, coarse_scores
from figures.steps import sample

CLASSES = len(PascalVOCDataset.METAINFO["classes"])
SIZES = ((375, 500), (500, 375), (333, 500))  # rows, columns; the most frequent in VOC
DIFFERENT, REPEATED = 20, 10  # 20 images, each 10 times; 200 different ones need 600 MB
BORDER = 5  # pixels of void around VOC's objects
STRIDE = 8

Image = tuple[Tensor, Tensor]


def image(height: int, width: int, generator: torch.Generator) -> Image:
    """Scores at stride 8, float [1, C, h, w], and a truth, int64 [height, width], near them.

    Regions are as large as objects usually are, and their borders are void in the truth.
    """
    rows, cols = -(-height // STRIDE), -(-width // STRIDE)
    objects = 3 * torch.randn(1, CLASSES, 4, 5, generator=generator)
    truth = F.interpolate(objects, (height, width), mode="bicubic").argmax(1).float()
    highest, lowest = (s * F.max_pool2d(s * truth, BORDER, 1, BORDER // 2) for s in (1, -1))
    truth[highest != lowest] = VOID
    noise = torch.randn(1, CLASSES, -(-rows // 4), -(-cols // 4), generator=generator)
    scores = F.interpolate(objects, (rows, cols), mode="bicubic")
    return scores + F.interpolate(noise, (rows, cols), mode="bilinear"), truth[0].long()


def images(setting: Setting) -> list[Image]:
    """A set of images on the setting's device, most of them repeated."""
    generator = torch.Generator().manual_seed(0)
    sizes = [SIZES[i % len(SIZES)] for i in range(DIFFERENT)]
    if setting.quick:
        sizes = [(height // 8, width // 8) for height, width in sizes[:2]]
    different = [image(*size, generator) for size in sizes]
    moved = [(scores.to(setting.device), truth.to(setting.device)) for scores, truth in different]
    return moved * (1 if setting.quick else REPEATED)


def scoring(
    metric: BaseMetric, inputs: Sequence, predict: Callable[[Any], list[SegDataSample]]
) -> Callable[[], dict[str, float]]:
    """mmseg's evaluation loop, with ``predict`` in place of the network."""
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = PascalVOCDataset.METAINFO

    def score() -> dict[str, float]:
        for one in inputs:
            evaluator.process(predict(one))
        return evaluator.evaluate(len(inputs))

    return score


def agree(ours: dict[str, float], theirs: dict[str, float]) -> str:
    """Check scores in percent; mmseg sums in single precision and rounds to two decimals."""
    for name in ("aAcc", "mAcc", "mIoU"):
        here, there = ours[f"fcn/{name}"], theirs[f"mmseg/{name}"]
        assert abs(here - there) < 0.01, f"{name}: {here} and {there}"
    return "scores within 0.01 %"


def whole(setting: Setting) -> Sides:
    """Everything after the network: from scores at stride 8 to the metrics of the set."""
    mmseg = SimpleNamespace(align_corners=False)  # all that postprocess_result reads
    inputs = images(setting)

    def ours(image: Image) -> list[SegDataSample]:
        scores, truth = image
        return add_predictions(coarse_scores(scores, truth.shape), [sample(truth)])

    def theirs(image: Image) -> list[SegDataSample]:
        scores, truth = image
        fine = bilinear(scores, size=truth.shape)
        return EncoderDecoder.postprocess_result(mmseg, fine, [sample(truth)])

    return Sides(
        scoring(ConfusionMatrixMetric(prefix="fcn"), inputs, ours),
        scoring(IoUMetric(prefix="mmseg"), inputs, theirs),
        agree=agree,
        per=len(inputs),
    )


WHOLE = "mmseg: two resizes, arg-max, IoUMetric"
FIGURES = [Figure("evaluation: VOC-like set", "evaluation", WHOLE, whole)]
