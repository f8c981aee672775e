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


class Heads(nn.ModuleDict):
    """Several heads on the same features, by the endings of their layers."""

    def forward(self, features: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {f"score{task}": head(features) for task, head in self.items()}


class Net(NamedTuple):
    """A backbone, its scored levels, finest first, by their index, their factors and strides.

    ``tasks``: of a network with several heads the ending of each one's layers, and its classes.
    """

    backbone: Callable[..., nn.Module]
    tiny: dict[str, int]
    scores: dict[int, str]
    scale: tuple[float, ...] | None = None
    strides: tuple[int, ...] | None = None
    channels: int = 3
    tasks: dict[str, int] = {}


def two_vgg16(out_indices: tuple[int, ...], **settings) -> Streams:
    """Whose levels 0 and 1 are the fc7 of both."""
    vgg = dict(type="ConvolutionalizedVGG", out_indices=(5,), **settings)
    return Streams([vgg, vgg], channels=(3, 3))


VGG = (ConvolutionalizedVGG, dict(base_channels=2, fc_channels=12))
FCN32S, FCN16S = {5: "score_fr"}, {3: "score_pool4", 5: "score_fr"}
FCN8S = {2: "score_pool3", **FCN16S}
SIFTFLOW = {"_sem": 33, "_geo": 3}
NETS = {
    "fcn32s": Net(*VGG, FCN32S),
    "fcn32s-color-d": Net(partial(ConvolutionalizedVGG, in_channels=4), VGG[1], FCN32S, channels=4),
    "fcn32s-color-hha": Net(
        *(two_vgg16, VGG[1], {0: "score_frcolor", 1: "score_frhha"}), strides=(32, 32), channels=6
    ),
    "fcn16s": Net(*VGG, FCN16S),
    "fcn8s": Net(*VGG, FCN8S),
    "fcn8s-atonce": Net(*VGG, FCN8S, (0.0001, 0.01, 1.0)),
    "siftflow-fcn32s": Net(*VGG, FCN32S, tasks=SIFTFLOW),
    "siftflow-fcn16s": Net(*VGG, FCN16S, tasks=SIFTFLOW),
    "siftflow-fcn8s": Net(*VGG, FCN8S, tasks=SIFTFLOW),
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
) -> tuple[nn.Module, nn.Module]:
    """Backbone and head, or ``Heads``, of tiny or full width, with random weights and biases."""
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
    settings = dict(
        upsample=upsample,
        scale=net.scale,
        strides=net.strides,
        kernels=[*kernels, *[1] * (len(channels) - len(kernels))],
    )
    heads = Heads()
    for task, number in (net.tasks or {"": classes}).items():
        head = SkipFusionHead(channels, range(len(channels)), number, **settings).eval()
        # Skips so strong that all levels count alike in the sum.
        for score, factor in zip(head.score, net.scale or itertools.repeat(1), strict=False):
            nn.init.kaiming_normal_(score.weight)
            score.weight.data /= factor
            nn.init.normal_(score.bias, std=5)
        if not net.tasks:
            return backbone.to(dtype), head.to(dtype)
        heads[task] = head
    return backbone.to(dtype), heads.to(dtype)


def by_task(head: nn.Module) -> dict[str, SkipFusionHead]:
    """The heads by the endings of their layers; "" of a single one."""
    return dict(head.items()) if isinstance(head, Heads) else {"": head}


def pictures(
    batch: int, size: tuple[int, int], dtype: torch.dtype = torch.float64, net: str = "fcn32s"
) -> Tensor:
    """Noise in the range of pixels without their mean."""
    return torch.rand(batch, NETS[net].channels, *size, dtype=dtype) * 255 - 115


def parameters(name: str, backbone: nn.Module, head: nn.Module) -> dict[str, Tensor]:
    """Weights and biases of the backbone and of the score layers."""
    found = {}
    for path, value in backbone.state_dict().items():
        module, kind = path.rsplit(".", 1)
        found[f"{layer_name(name, module)}.{kind}"] = value
    # Of the mean of the streams' scores ours is the sum, of half the weights.
    factor = len(reference.NETS[name].streams) or 1
    for task, each in by_task(head).items():
        for layer, score in zip(NETS[name].scores.values(), each.score, strict=True):
            found[f"{layer}{task}.weight"] = score.weight.data * factor
            found[f"{layer}{task}.bias"] = score.bias.data * factor
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
