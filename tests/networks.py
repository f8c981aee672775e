"""Our networks as published, with random weights, by the names of the layers in the Caffe files."""

import itertools
import math
from typing import NamedTuple

import reference
import torch
from torch import Tensor, nn

from fcn_plugin.models import (
    ConvolutionalizedAlexNet,
    ConvolutionalizedGoogLeNet,
    ConvolutionalizedVGG,
    SkipFusionHead,
)


class Net(NamedTuple):
    """A backbone, its scored levels, finest first, by their index, and their factors."""

    backbone: type
    tiny: dict[str, int]
    scores: dict[int, str]
    scale: tuple[float, ...] | None = None


VGG = (ConvolutionalizedVGG, dict(base_channels=2, fc_channels=12))
NETS = {
    "fcn32s": Net(*VGG, {5: "score_fr"}),
    "fcn16s": Net(*VGG, {3: "score_pool4", 5: "score_fr"}),
    "fcn8s": Net(*VGG, {2: "score_pool3", 3: "score_pool4", 5: "score_fr"}),
    "fcn8s-atonce": Net(
        *VGG, {2: "score_pool3", 3: "score_pool4", 5: "score_fr"}, (0.0001, 0.01, 1.0)
    ),
    "fcn-alexnet": Net(
        ConvolutionalizedAlexNet, dict(base_channels=4, fc_channels=12), {3: "score_fr"}
    ),
    "fcn-googlenet": Net(ConvolutionalizedGoogLeNet, dict(base_channels=8), {4: "score_fr"}),
}


def build(
    name: str,
    full: bool = False,
    padding: str = "reference",
    upsample: str = "bilinear",
    classes: int = 5,
    dtype: torch.dtype = torch.float64,
) -> tuple[nn.Module, SkipFusionHead]:
    """Backbone and head, of tiny or full width, with random weights and biases throughout."""
    net = NETS[name]
    widths = {} if full else net.tiny
    backbone = net.backbone(out_indices=tuple(net.scores), padding=padding, **widths).eval()
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.normal_(module.bias, std=5)
    with torch.no_grad():
        channels = [level.shape[1] for level in backbone(torch.zeros(1, 3, 1, 1))]
    head = SkipFusionHead(
        channels,
        range(len(channels)),
        classes,
        upsample=upsample,
        scale=net.scale,
        kernels=[upscore.kernel for upscore in reversed(reference.NETS[name].upscores)],
    ).eval()
    # Skips so strong that all levels count alike in the sum.
    for score, factor in zip(head.score, net.scale or itertools.repeat(1), strict=False):
        nn.init.kaiming_normal_(score.weight)
        score.weight.data /= factor
        nn.init.normal_(score.bias, std=5)
    return backbone.to(dtype), head.to(dtype)


def pictures(batch: int, size: tuple[int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    """Noise in the range of pixels without their mean."""
    return torch.rand(batch, 3, *size, dtype=dtype) * 255 - 115


def parameters(name: str, backbone: nn.Module, head: SkipFusionHead) -> dict[str, Tensor]:
    """Weights and biases of the backbone and of the score layers."""
    found = {}
    for path, value in backbone.state_dict().items():
        layer, kind = path.split(".", 2)[2].rsplit(".", 1)
        found[f"{layer.replace('.', '/')}.{kind}"] = value
    for layer, score in zip(NETS[name].scores.values(), head.score, strict=True):
        found[f"{layer}.weight"], found[f"{layer}.bias"] = score.weight.data, score.bias.data
    return found


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    if found.shape != expected.shape:
        return math.inf
    return float((found - expected).abs().max() / expected.abs().max())
