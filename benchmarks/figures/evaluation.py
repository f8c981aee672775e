"""Evaluation besides the network, on made images like VOC's."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.structures import PixelData
from mmseg.datasets import PascalVOCDataset
from mmseg.evaluation import IoUMetric
from mmseg.models import EncoderDecoder
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor

from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.models.coarse import CoarseScores
from fcn_plugin.models.segmentor import add_predictions
from fcn_plugin.models.upsample import Placement
from figures.framework import Figure, Setting, Sides

CLASSES = len(PascalVOCDataset.METAINFO["classes"])
SIZES = ((375, 500), (500, 375), (333, 500))  # rows, columns; VOC's commonest
DIFFERENT, REPEATED = 20, 10  # a set of 200 images; 200 different ones would need 600 MB
VOID, BORDER = 255, 5  # VOC's label of object borders, and their width in pixels
STRIDE = 8


def image(height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Scores at stride 8, float [1, C, h, w], and the truth that they miss by a little.

    Regions as large as objects are; the truth, int64 [height, width], has void borders.
    """
    small = (-(-height // STRIDE), -(-width // STRIDE))
    objects = 3 * torch.randn(1, CLASSES, 4, 5, generator=generator)
    truth = F.interpolate(objects, (height, width), mode="bicubic").argmax(1).float()
    highest, lowest = (s * F.max_pool2d(s * truth, BORDER, 1, BORDER // 2) for s in (1, -1))
    truth[highest != lowest] = VOID
    noise = torch.randn(1, CLASSES, -(-small[0] // 4), -(-small[1] // 4), generator=generator)
    scores = F.interpolate(objects, small, mode="bicubic")
    return scores + F.interpolate(noise, small, mode="bilinear"), truth[0].long()


def images(setting: Setting) -> list[tuple[Tensor, Tensor]]:
    """The different ones of what ``image`` gives, on the setting's device."""
    generator = torch.Generator().manual_seed(0)
    sizes = [SIZES[i % len(SIZES)] for i in range(DIFFERENT)]
    if setting.quick:
        sizes = [(height // 8, width // 8) for height, width in sizes[:2]]
    made = [image(*size, generator) for size in sizes]
    return [(scores.to(setting.device), truth.to(setting.device)) for scores, truth in made]


def sample(scores: Tensor, truth: Tensor) -> SegDataSample:
    """What a segmentor of the host gives for an image, but for its logits."""
    predicted = F.interpolate(scores, truth.shape, mode="bilinear").argmax(1)
    made = SegDataSample(metainfo=dict(img_path="image.jpg", ori_shape=tuple(truth.shape)))
    made.gt_sem_seg = PixelData(data=truth[None])
    made.pred_sem_seg = PixelData(data=predicted)
    return made


def scoring(metric: BaseMetric, samples: list[SegDataSample]) -> Callable[[], dict[str, float]]:
    """The host's evaluation loop without its network, from the samples to the scores."""
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = PascalVOCDataset.METAINFO

    def score() -> dict[str, float]:
        for one in samples:
            evaluator.process([one])
        return evaluator.evaluate(len(samples))

    return score


def agree(ours: dict[str, float], theirs: dict[str, float]) -> str:
    """Both in percent; the host sums in single precision and rounds to two decimals."""
    for name in ("aAcc", "mAcc", "mIoU"):
        here, there = ours[f"fcn/{name}"], theirs[f"host/{name}"]
        assert abs(here - there) < 0.01, f"{name}: {here} and {there}"
    return "scores within 0.01 %"


def metric(setting: Setting) -> Sides:
    """The count alone: labels are predicted before."""
    samples = [sample(*pair) for pair in images(setting)] * (1 if setting.quick else REPEATED)
    return Sides(
        ours=scoring(ConfusionMatrixMetric(prefix="fcn"), samples),
        theirs=scoring(IoUMetric(prefix="host"), samples),
        agree=agree,
        per=len(samples),
    )


def whole(setting: Setting) -> Sides:
    """All that follows the network: from its scores at stride 8 to the scores of the set."""
    pairs = images(setting) * (1 if setting.quick else REPEATED)
    host = SimpleNamespace(align_corners=False)  # all that its method needs of the segmentor

    def fresh(truth: Tensor) -> SegDataSample:
        shape = tuple(truth.shape)
        made = SegDataSample(metainfo=dict(img_path="image.jpg", ori_shape=shape))
        made.gt_sem_seg = PixelData(data=truth[None])
        return made

    def ours(scores: Tensor, truth: Tensor) -> list[SegDataSample]:
        rows, cols = (
            Placement(side / n, (side / n - 1) / 2, 0, side)
            for side, n in zip(truth.shape, scores.shape[2:], strict=True)
        )
        return add_predictions(CoarseScores(scores, rows, cols, False), [fresh(truth)])

    def theirs(scores: Tensor, truth: Tensor) -> list[SegDataSample]:
        fine = resize(scores, size=truth.shape, mode="bilinear", align_corners=False)
        return EncoderDecoder.postprocess_result(host, fine, [fresh(truth)])

    def run(predict: Callable, metric: BaseMetric) -> Callable[[], dict[str, float]]:
        evaluator = Evaluator([metric])
        evaluator.dataset_meta = PascalVOCDataset.METAINFO

        def score() -> dict[str, float]:
            for pair in pairs:
                evaluator.process(predict(*pair))
            return evaluator.evaluate(len(pairs))

        return score

    return Sides(
        run(ours, ConfusionMatrixMetric(prefix="fcn")),
        run(theirs, IoUMetric(prefix="host")),
        agree=agree,
        per=len(pairs),
    )


FIGURES = [
    Figure(
        "evaluation: VOC-like set",
        "evaluation",
        "mmseg: two resizes, arg-max, IoUMetric",
        whole,
        time_bar=0.33,
    ),
    Figure("metric: VOC-like set", "evaluation", "mmseg: IoUMetric", metric),
]
