"""The published networks, layer by layer: FCN-32s, 16s, 8s and 8s at once on VGG16, FCN-32s on
color with depth and on color with HHA, those of SIFT Flow with two heads, FCN-AlexNet, and
FCN-GoogLeNet as the paper describes it.

Independent of the package: it imports nothing of it, takes its parameters by the names of the
layers in the Caffe files, and its windows and crops are the published numbers. Every network is
written as Caffe writes one: each layer names the layer it reads, its bottom, and itself.

A mistake undoes one point on purpose, in every layer that it applies to or in one:
"floor pooling", "floor pooling: pool3".
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Layers(dict[str, Tensor]):
    """The output of every layer by its name, that of a convolution after its ReLU."""

    def __init__(self, image: Tensor, weights: dict[str, Tensor], mistake: str = "") -> None:
        super().__init__()
        self.weights = weights
        self.mistake = mistake
        self["data"] = image.flip(1) if self.wrong("swapped channels", "data") else image

    def wrong(self, mistake: str, layer: str) -> bool:
        return self.mistake in (mistake, f"{mistake}: {layer}")

    def conv(self, bottom: str, name: str, relu: bool = True, **window: int) -> str:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        if self.wrong(f"transposed {name}", name):
            weight = weight.transpose(2, 3)
        x = functional.conv2d(self[bottom], weight, bias, **window)
        self[name] = x.clamp(min=0) if relu else x
        return name

    def pool(self, bottom: str, name: str, kernel: int, stride: int = 2, padding: int = 0) -> str:
        up = not self.wrong("floor pooling", name)
        self[name] = functional.max_pool2d(self[bottom], kernel, stride, padding, ceil_mode=up)
        return name

    def norm(self, bottom: str, name: str) -> str:
        """x_c / (1 + alpha / 5 * sum of the squares of channels c - 2 .. c + 2) ^ beta."""
        x = self[bottom]
        squares = functional.pad(x * x, (0, 0, 0, 0, 2, 2))  # zeros beyond the first and last
        near = sum(squares[:, i : i + x.shape[1]] for i in range(5))
        self[name] = x / (1 + 1e-4 / 5 * near) ** 0.75
        return name

    def concat(self, bottoms: list[str], name: str) -> str:
        self[name] = torch.cat([self[bottom] for bottom in bottoms], dim=1)
        return name

    def scale(self, bottom: str, name: str, factor: float) -> str:
        self[name] = self[bottom] * (1 if self.wrong("missing scale", name) else factor)
        return name

    def upscore(self, bottom: str, name: str, kernel: int, stride: int) -> str:
        if self.wrong("kernel 64", name):
            kernel = 64
        self[name] = upscore(self[bottom], kernel, stride)
        return name

    def crop(self, bottom: str, like: str, name: str, offset: int) -> str:
        if self.wrong("crop moved by one", name):
            offset += 1
        height, width = self[like].shape[2:]
        self[name] = self[bottom][..., offset : offset + height, offset : offset + width]
        return name

    def sum(self, first: str, second: str, name: str) -> str:
        self[name] = self[first] + self[second]
        return name

    def mean(self, first: str, second: str, name: str) -> str:
        whole = self[first] + self[second]
        self[name] = whole if self.wrong("sum of the streams", name) else 0.5 * whole
        return name

    def slice(self, bottom: str, names: tuple[str, ...]) -> None:
        """Three channels for each of ``names``."""
        if self.wrong("swapped streams", bottom):
            names = names[::-1]
        for i, name in enumerate(names):
            self[name] = self[bottom][:, 3 * i : 3 * i + 3]


def upscore(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Transposed convolution with a full class x class kernel, bilinear on its diagonal."""
    classes, factor = x.shape[1], (kernel + 1) // 2
    centre = factor - 1 if kernel % 2 else factor - 0.5
    weights = [1 - abs(at - centre) / factor for at in range(kernel)]
    tent = torch.tensor(weights, dtype=x.dtype)
    full = x.new_zeros(classes, classes, kernel, kernel)
    full[range(classes), range(classes)] = torch.outer(tent, tent)
    return functional.conv_transpose2d(x, full, stride=stride)


def vgg16(net: Layers, stream: str = "", first: str = "conv1_1") -> str:
    """``stream``: what it sees, by which the names of its layers end."""
    x = net.conv(stream or "data", f"{first}{stream}", padding=100)
    for stage, convs in enumerate((2, 2, 3, 3, 3), start=1):
        for conv in range(2 if stage == 1 else 1, convs + 1):
            x = net.conv(x, f"conv{stage}_{conv}{stream}", padding=1)
        x = net.pool(x, f"pool{stage}{stream}", 2)
    x = net.conv(x, f"fc6{stream}")
    return net.conv(x, f"fc7{stream}")


def alexnet(net: Layers) -> str:
    def reduced(x: str, number: int) -> str:
        if net.wrong("norm before pool", f"pool{number}"):
            return net.pool(net.norm(x, f"norm{number}"), f"pool{number}", 3)
        return net.norm(net.pool(x, f"pool{number}", 3), f"norm{number}")

    x = net.conv("data", "conv1", stride=4, padding=100)
    x = reduced(x, 1)
    x = net.conv(x, "conv2", padding=2, groups=2)
    x = reduced(x, 2)
    x = net.conv(x, "conv3", padding=1)
    x = net.conv(x, "conv4", padding=1, groups=2)
    x = net.conv(x, "conv5", padding=1, groups=2)
    x = net.pool(x, "pool5", 3)
    x = net.conv(x, "fc6")
    return net.conv(x, "fc7")


def googlenet(net: Layers) -> str:
    def inception(x: str, block: str) -> str:
        block = f"inception_{block}"
        first = net.conv(x, f"{block}/1x1")
        second = net.conv(net.conv(x, f"{block}/3x3_reduce"), f"{block}/3x3", padding=1)
        third = net.conv(net.conv(x, f"{block}/5x5_reduce"), f"{block}/5x5", padding=2)
        pool = net.pool(x, f"{block}/pool", 3, stride=1, padding=1)
        fourth = net.conv(pool, f"{block}/pool_proj")
        return net.concat([first, second, third, fourth], f"{block}/output")

    x = net.conv("data", "conv1/7x7_s2", stride=2, padding=100)
    x = net.pool(x, "pool1/3x3_s2", 3)
    x = net.norm(x, "pool1/norm1")
    x = net.conv(x, "conv2/3x3_reduce")
    x = net.conv(x, "conv2/3x3", padding=1)
    x = net.norm(x, "conv2/norm2")
    x = net.pool(x, "pool2/3x3_s2", 3)
    x = inception(inception(x, "3a"), "3b")
    x = net.pool(x, "pool3/3x3_s2", 3)
    for block in ("4a", "4b", "4c", "4d", "4e"):
        x = inception(x, block)
    x = net.pool(x, "pool4/3x3_s2", 3)
    return inception(inception(x, "5a"), "5b")


class Upscore(NamedTuple):
    """One upsampling layer, and what its output is cropped for: a skip, or the image."""

    name: str
    kernel: int
    stride: int
    skip: str | None
    offset: int


class Net(NamedTuple):
    backbone: Callable[..., str]
    upscores: list[Upscore]
    scales: dict[str, float] = {}
    streams: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("",)  # endings of the names of each head's layers


FCN8S = [
    Upscore("upscore2", 4, 2, "pool4", 5),
    Upscore("upscore_pool4", 4, 2, "pool3", 9),
    Upscore("upscore8", 16, 8, None, 31),
]
FCN16S = [Upscore("upscore2", 4, 2, "pool4", 5), Upscore("upscore16", 32, 16, None, 27)]
FCN32S = [Upscore("upscore", 64, 32, None, 19)]
SIFTFLOW = ("_sem", "_geo")
NETS = {
    "fcn32s": Net(vgg16, FCN32S),
    "fcn32s-color-d": Net(partial(vgg16, first="conv1_1_bgrd"), FCN32S),
    "fcn32s-color-hha": Net(vgg16, FCN32S, streams=("color", "hha")),
    "fcn16s": Net(vgg16, FCN16S),
    "fcn8s": Net(vgg16, FCN8S),
    "siftflow-fcn32s": Net(vgg16, FCN32S, tasks=SIFTFLOW),
    "siftflow-fcn16s": Net(vgg16, FCN16S, tasks=SIFTFLOW),
    "siftflow-fcn8s": Net(vgg16, FCN8S, tasks=SIFTFLOW),
    "fcn8s-atonce": Net(vgg16, FCN8S, {"pool4": 0.01, "pool3": 0.0001}),
    "fcn-alexnet": Net(alexnet, [Upscore("upscore", 63, 32, None, 18)]),
    "fcn-googlenet": Net(googlenet, [Upscore("upscore", 63, 32, None, 98)]),
}


def run(name: str, image: Tensor, weights: dict[str, Tensor], mistake: str = "") -> Layers:
    """All layers of one of ``NETS``; the last is its "score", of the image's size.

    SIFT Flow's have two, "score_sem" and "score_geo".
    """
    return write(name, Layers(image, weights, mistake))


def write(name: str, net: Layers) -> Layers:
    """One of ``NETS``, layer by layer, into ``net``."""
    backbone, upscores, scales, streams, tasks = NETS[name]
    if streams:
        net.slice("data", streams)
        color, hha = (
            net.conv(backbone(net, stream), f"score_fr{stream}", relu=False) for stream in streams
        )
        fused = net.mean(color, hha, "score_fused")
    else:
        top = backbone(net)
    for task in tasks:
        x = fused if streams else net.conv(top, f"score_fr{task}", relu=False)
        for upscore in upscores:
            x = net.upscore(x, f"{upscore.name}{task}", upscore.kernel, upscore.stride)
            skip = upscore.skip
            if skip is None:
                net.crop(x, "data", f"score{task}", upscore.offset)
            else:
                bottom = net.scale(skip, f"scale_{skip}", scales[skip]) if scales else skip
                score = net.conv(bottom, f"score_{skip}{task}", relu=False)
                cropped = net.crop(score, x, f"{score}c", upscore.offset)
                x = net.sum(x, cropped, f"fuse_{skip}{task}")
    return net
