"""Our networks as published, with random weights, by the names of the layers in the Caffe files."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import reference
import torch
from torch import Tensor, nn

from fcn_plugin.models import (
    ConvolutionalizedAlexNet,
    ConvolutionalizedGoogLeNet,
    ConvolutionalizedVGG,
    SkipFusionHead,
    Streams,
)


class Net(NamedTuple):
    """A backbone, its scored levels, finest first, by their index, their factors and strides."""

    backbone: Callable[..., nn.Module]
    tiny: dict[str, int]
    scores: dict[int, str]
    scale: tuple[float, ...] | None = None
    strides: tuple[int, ...] | None = None
    channels: int = 3


def two_vgg16(out_indices: tuple[int, ...], **settings) -> Streams:
    """Whose levels 0 and 1 are the fc7 of both."""
    vgg = dict(type="ConvolutionalizedVGG", out_indices=(5,), **settings)
    return Streams([vgg, vgg], channels=(3, 3))


VGG = (ConvolutionalizedVGG, dict(base_channels=2, fc_channels=12))
NETS = {
    "fcn32s": Net(*VGG, {5: "score_fr"}),
    "fcn32s-color-d": Net(
        partial(ConvolutionalizedVGG, in_channels=4), VGG[1], {5: "score_fr"}, channels=4
    ),
    "fcn32s-color-hha": Net(
        *(two_vgg16, VGG[1], {0: "score_frcolor", 1: "score_frhha"}), strides=(32, 32), channels=6
    ),
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
        channels = [level.shape[1] for level in backbone(torch.zeros(1, net.channels, 1, 1))]
    kernels = [upscore.kernel for upscore in reversed(reference.NETS[name].upscores)]
    head = SkipFusionHead(
        channels,
        range(len(channels)),
        classes,
        upsample=upsample,
        scale=net.scale,
        strides=net.strides,
        kernels=[*kernels, *[1] * (len(channels) - len(kernels))],
    ).eval()
    # Skips so strong that all levels count alike in the sum.
    for score, factor in zip(head.score, net.scale or itertools.repeat(1), strict=False):
        nn.init.kaiming_normal_(score.weight)
        score.weight.data /= factor
        nn.init.normal_(score.bias, std=5)
    return backbone.to(dtype), head.to(dtype)


def pictures(
    batch: int, size: tuple[int, int], dtype: torch.dtype = torch.float64, net: str = "fcn32s"
) -> Tensor:
    """Noise in the range of pixels without their mean."""
    return torch.rand(batch, NETS[net].channels, *size, dtype=dtype) * 255 - 115


def parameters(name: str, backbone: nn.Module, head: SkipFusionHead) -> dict[str, Tensor]:
    """Weights and biases of the backbone and of the score layers."""
    found = {}
    for path, value in backbone.state_dict().items():
        module, kind = path.rsplit(".", 1)
        found[f"{layer_name(name, module)}.{kind}"] = value
    # Of the mean of the streams' scores ours is the sum, of half the weights.
    factor = len(reference.NETS[name].streams) or 1
    for layer, score in zip(NETS[name].scores.values(), head.score, strict=True):
        found[f"{layer}.weight"] = score.weight.data * factor
        found[f"{layer}.bias"] = score.bias.data * factor
    return found


def layer_name(net: str, path: str) -> str:
    """The Caffe files' name of a module of the backbone."""
    streams = reference.NETS[net].streams
    stream = ""
    if streams:
        _, number, path = path.split(".", 2)
        stream = streams[int(number)]
    name = path.split(".", 2)[2].replace("relu_", "").replace(".", "/")
    if net == "fcn32s-color-d" and name == "conv1_1":
        name = "conv1_1_bgrd"
    return name + stream


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    if found.shape != expected.shape:
        return math.inf
    return float((found - expected).abs().max() / expected.abs().max())
