"""Labels of the original image from stride-8 scores."""

from functools import partial

import torch
from mmseg.models.utils import resize
from torch import Tensor

from fcn_plugin.models.coarse import CoarseScores, labels
from fcn_plugin.models.segmentor import original_axes
from fcn_plugin.models.upsample import Placement
from figures.framework import Figure, Setting, Sides


def sides(
    classes: int, size: tuple[int, int], original: tuple[int, int], setting: Setting
) -> Sides:
    """Smooth random scores of an image of ``size`` that was ``original`` before it was resized."""
    if setting.quick:
        size, original = (64, 88), (96, 132)
    coarse = [-(-side // 8) for side in size]
    generator = torch.Generator().manual_seed(0)
    # Regions as of things: random at stride 32, smooth between, with some noise.
    seeds = torch.randn(1, classes, *(side // 4 + 2 for side in coarse), generator=generator)
    scores = resize(seeds, size=coarse, mode="bilinear", align_corners=False)
    scores += 0.1 * torch.randn(scores.shape, generator=generator)
    scores = scores.to(setting.device)

    def theirs() -> Tensor:
        fine = resize(scores, size=size, mode="bilinear", align_corners=False)
        return resize(fine, size=original, mode="bilinear", align_corners=False).argmax(1)

    places = [
        Placement(side / n, (side / n - 1) / 2, 0, side)
        for side, n in zip(size, coarse, strict=True)
    ]

    def ours() -> Tensor:
        return labels(
            scores, *original_axes(CoarseScores(scores, *places, False), dict(ori_shape=original))
        )

    return Sides(ours, theirs, agree)


def agree(ours: Tensor, theirs: Tensor) -> str:
    equal = float((ours == theirs).double().mean())
    assert equal >= 0.9999, f"only {100 * equal:.3f} % of the labels are equal"
    return f"{100 * equal:.4f} % equal"


HOST = "mmseg: two resizes, arg-max"
FIGURES = [
    Figure(
        "labels 150 classes",
        "labels",
        HOST,
        partial(sides, 150, (512, 683), (768, 1024)),
        time_bar=0.30,
        memory_bar=0.05,
    ),
    Figure("labels 21 classes", "labels", HOST, partial(sides, 21, (375, 500), (375, 500))),
]
