"""Figures of what evaluation measures beside the confusion matrix, on synthetic VOC-like images."""

from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.evaluation import IoUMetric
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from fcn_plugin.evaluation.measures import MEASURES
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.models.segmentor import add_predictions
from figures.evaluation import CLASSES, images, scoring
from figures.framework import Figure, Setting, Sides
from figures.scores import coarse_scores
from figures.steps import CONFIG, QUICK_LEVELS, QUICK_WIDTH, sample

EACH = 4  # images of a call of the network, which takes most of a second each on a CPU


def predicted(setting: Setting) -> list[SegDataSample]:
    """Samples with truth, prediction and coarse scores, as the network leaves them."""
    made = []
    for scores, truth in images(setting):
        made += add_predictions(coarse_scores(scores, truth.shape), [sample(truth)])
    return made


def again(one: SegDataSample) -> list[SegDataSample]:
    return [one]


def beside_mmseg(*measures: str) -> Callable[[Setting], Sides]:
    def sides(setting: Setting) -> Sides:
        inputs = predicted(setting)
        ours = ConfusionMatrixMetric(measures=measures)
        theirs = IoUMetric(iou_metrics=["mIoU", "mDice", "mFscore"])
        return Sides(scoring(ours, inputs, again), scoring(theirs, inputs, again), per=len(inputs))

    return sides


def beside_network(setting: Setting) -> Sides:
    """All measures, against FCN-8s on VGG16, which predicts images of the same sizes."""
    inputs = predicted(setting)[:EACH]
    config = Config.fromfile(CONFIG)
    config.model.backbone.init_cfg = None
    if setting.quick:
        config.model.backbone.update(QUICK_WIDTH)
        config.model.decode_head.in_channels = QUICK_LEVELS
    config.model.decode_head.num_classes = CLASSES
    init_default_scope("mmseg")
    network = MODELS.build(config.model).to(setting.device).eval()
    torch.manual_seed(0)
    pictures = [torch.randint(0, 256, (3, *one.ori_shape), dtype=torch.uint8) for one in inputs]

    def predict() -> None:
        with torch.no_grad(), setting.autocast():
            for picture, one in zip(pictures, inputs, strict=True):
                meta = SegDataSample(metainfo=one.metainfo)
                network.test_step(dict(inputs=[picture], data_samples=[meta]))

    ours = ConfusionMatrixMetric(measures=[*MEASURES])
    return Sides(scoring(ours, inputs, again), predict, per=len(inputs))


IOU = "mmseg: IoUMetric, all three of its metrics"
FIGURES = [
    Figure("measures: none", "measures", IOU, beside_mmseg()),
    *(Figure(f"measures: {name}", "measures", IOU, beside_mmseg(name)) for name in MEASURES),
    Figure("measures: all", "measures", IOU, beside_mmseg(*MEASURES)),
    Figure("measures: all, and the network", "measures", "FCN-8s predicts", beside_network),
]
