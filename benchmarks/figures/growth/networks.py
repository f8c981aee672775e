"""Curves of a prediction and a training step of FCN-8s on VGG16, and of its variants."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from figures.framework import Setting as Precision
from figures.growth.curve import CPU, Curve, Setting
from figures.steps import CONFIG, training_step

CLASSES, SIDE = 21, 256
# Channels of the levels of VGG16, by their index, in units of its first stage's.
WIDTHS = (1, 2, 4, 8, 8, 64)
# Number of levels -> their indices: FCN-32s, FCN-16s, FCN-8s, and with pool2, pool1 and pool5.
LEVELS = {1: (5,), 2: (3, 5), 3: (2, 3, 5), 4: (1, 2, 3, 5), 5: (0, 1, 2, 3, 5), 6: (*range(6),)}


def network(setting: Setting, side: int, classes: int, levels: int) -> tuple[Any, Any]:
    """FCN-8s on VGG16 with another width, classes and levels, and its optimizer's config."""
    config = Config.fromfile(CONFIG)
    indices = LEVELS[levels]
    config.model.backbone.update(
        init_cfg=None,
        out_indices=indices,
        base_channels=setting.width,
        fc_channels=WIDTHS[-1] * setting.width,
    )
    config.model.decode_head.update(
        in_channels=[WIDTHS[i] * setting.width for i in indices],
        in_index=list(range(levels)),
        num_classes=classes,
    )
    config.model.data_preprocessor.size = (side, side)
    init_default_scope("mmseg")
    return MODELS.build(config.model), config.optim_wrapper


def call(quantity: str, trains: bool, at: float, setting: Setting) -> Callable[[], object]:
    """A step or a prediction with one quantity of ``at`` and the others as usual."""
    sizes = dict(pixels=SIDE**2 / 1e6, classes=CLASSES, batch=1, levels=3) | {quantity: at}
    side = round((1e6 * sizes["pixels"]) ** 0.5)
    batch, classes = int(sizes["batch"]), int(sizes["classes"])
    model, optimizer = network(setting, side, classes, int(sizes["levels"]))
    if trains:
        return training_step(model, optimizer, Precision(CPU), batch, (side, side), classes)
    model.eval()
    torch.manual_seed(0)
    images = list(torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8))
    meta = dict(img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side))
    samples = [SegDataSample(metainfo=meta) for _ in images]

    def predict() -> object:
        with torch.no_grad():
            return model.test_step(dict(inputs=list(images), data_samples=list(samples)))

    return predict


# Quantity -> the unit of its points, and the points.
POINTS = {
    "pixels": ("Mpx", (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30)),
    "classes": ("classes", (2, 5, 10, 20, 50, 100, 200, 500, 1000)),
    "batch": ("images", (1, 2, 4, 8, 16)),
    "levels": ("levels", (*LEVELS,)),
}
CURVES = [
    Curve(f"{verb} {quantity}", quantity, unit, points, partial(call, quantity, trains))
    for quantity, (unit, points) in POINTS.items()
    for verb, trains in (("predict", False), ("step", True))
]
