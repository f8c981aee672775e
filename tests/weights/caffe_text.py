"""Writes networks as Caffe files: the text of a prototxt and the blobs of a caffemodel.

A network is a function of ``reference.Layers`` that calls its methods layer by layer, so that what
computes it and what writes it down are the same lines.
"""

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import NamedTuple

import reference
import torch
from torch import Tensor
from torch.nn import functional

# Of any size, each picture sets its own.
INPUT = 'input: "data"\ninput_shape {{ dim: 1 dim: {} dim: 64 dim: 64 }}\n'


class CaffeFile(reference.Layers):
    """A network as the text of a prototxt and the blobs of a caffemodel, in the layers' order."""

    def __init__(self, weights: dict[str, Tensor], channels: int = 3, start: str = INPUT) -> None:
        self.weights = weights
        self.mistake = ""
        self.text = start.format(channels)
        self.blobs: dict[str, list[Tensor]] = {}
        self.channels = {"data": channels}

    def layer(self, kind: str, bottoms: list[str], name: str, setting: str = "", **values) -> str:
        bottom = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        inner = " ".join(f"{key}: {value}" for key, value in values.items())
        self.text += f'layer {{ name: "{name}" type: "{kind}" {bottom} top: "{name}" '
        self.text += f"{setting} {{ {inner} }} }}\n" if setting else "}\n"
        self.channels[name] = self.channels[bottoms[0]]
        return name

    def in_place(self, kind: str, bottom: str, name: str, settings: str = "") -> None:
        self.text += f'layer {{ name: "{name}" type: "{kind}" '
        self.text += f'bottom: "{bottom}" top: "{bottom}" {settings}}}\n'

    def conv(self, bottom, name, relu=True, stride=1, padding=0, groups=1):
        weight = self.weights[f"{name}.weight"]
        self.blobs[name] = [weight, self.weights[f"{name}.bias"]]
        kernel = dict(num_output=len(weight), kernel_size=weight.shape[2], group=groups)
        window = dict(kernel, stride=stride, pad=padding)
        self.layer("Convolution", [bottom], name, "convolution_param", **window)
        self.channels[name] = len(weight)
        if relu:
            self.in_place("ReLU", name, f"relu_{name}")
        return name

    def pool(self, bottom, name, kernel, stride=2, padding=0):
        window = dict(pool="MAX", kernel_size=kernel, stride=stride, pad=padding)
        return self.layer("Pooling", [bottom], name, "pooling_param", **window)

    def norm(self, bottom, name):
        settings = dict(local_size=5, alpha=0.0001, beta=0.75)
        return self.layer("LRN", [bottom], name, "lrn_param", **settings)

    def concat(self, bottoms, name):
        channels = sum(self.channels[bottom] for bottom in bottoms)
        self.layer("Concat", bottoms, name)
        self.channels[name] = channels
        return name

    def scale(self, bottom, name, factor):
        self.blobs[name] = [torch.full((self.channels[bottom],), factor)]
        return self.layer("Scale", [bottom], name)

    def upscore(self, bottom, name, kernel, stride, padding=0):
        classes = self.channels[bottom]
        weight = self.weights.get(f"{name}.weight")
        if weight is None:  # a transposed convolution of single ones is its kernel
            weight = reference.upscore(torch.eye(classes)[..., None, None], kernel, stride)
        self.blobs[name] = [weight]
        window = dict(num_output=classes, bias_term="false", kernel_size=kernel, stride=stride)
        window |= dict(pad=padding) if padding else {}
        window |= dict(group=classes) if weight.shape[1] < classes else {}
        return self.layer("Deconvolution", [bottom], name, "convolution_param", **window)

    def crop(self, bottom, like, name, offset):
        return self.layer("Crop", [bottom, like], name, "crop_param", axis=2, offset=offset)

    def sum(self, first, second, name):
        return self.layer("Eltwise", [first, second], name, "eltwise_param", operation="SUM")

    def mean(self, first, second, name):
        half = dict(operation="SUM coeff: 0.5 coeff: 0.5")
        return self.layer("Eltwise", [first, second], name, "eltwise_param", **half)

    def slice(self, bottom, names):
        tops = " ".join(f'top: "{name}"' for name in names)
        self.text += f'layer {{ name: "slice" type: "Slice" bottom: "{bottom}" {tops} '
        self.text += "slice_param { axis: 1 } }\n"
        share = self.channels[bottom] // len(names)
        self.channels |= dict.fromkeys(names, share)


class Computed(reference.Layers):
    """As ``reference.Layers``, but each upsampling layer has weights of its own."""

    def upscore(self, bottom, name, kernel, stride, padding=0):
        weight = self.weights[f"{name}.weight"]
        groups = len(weight) // weight.shape[1]
        window = dict(stride=stride, padding=padding, groups=groups)
        self[name] = functional.conv_transpose2d(self[bottom], weight, **window)
        return name


# Where pixel 0 of a level lies in the image, and the level's stride.
POSITIONS = {
    "reference": dict(pool3=(-95.5, 8), pool4=(-91.5, 16), fc7=(12.5, 32), data=(0.0, 1)),
    "same": dict(pool3=(3.5, 8), pool4=(7.5, 16), fc7=(15.5, 32), data=(0.0, 1)),
}
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (1, 2, 4, 8, 8)


class Variant(NamedTuple):
    """A skip-fusion network on VGG that nobody has published.

    Attributes:
        skips: coarsest first, e.g. ("pool4", "pool3").
        kernels: sides of the upsampling kernels, coarsest first; twice the stride is bilinear.
        padding: as of ConvolutionalizedVGG.
        factors: of the skips; empty without.
        learned: random kernels, dense between the classes.
        grouped: one kernel for each class.
        padded: at "same", Deconvolutions pad instead of being cropped.
        ending: of the names of score layers, e.g. "_mine".
        dropout: ratio after fc6 and fc7; without the layers if 0.
    """

    skips: tuple[str, ...] = ("pool4", "pool3")
    kernels: tuple[int, ...] = (4, 4, 16)
    classes: int = 5
    base: int = 2
    fc: int = 12
    depth: int = 16
    channels: int = 3
    padding: str = "reference"
    factors: tuple[float, ...] = ()
    learned: bool = False
    grouped: bool = False
    padded: bool = False
    ending: str = ""
    dropout: float = 0.5

    @property
    def steps(self) -> list[tuple[str, str, int, int]]:
        """Coarser grid, finer grid, kernel and stride of each upsampling, coarsest first."""
        grids = ("fc7", *self.skips, "data")
        strides = [POSITIONS["same"][grid][1] for grid in grids]
        factors = [coarse // fine for coarse, fine in pairwise(strides)]
        return list(zip(grids, grids[1:], self.kernels, factors, strict=False))

    @classmethod
    def drawn(cls, draw: Random) -> "Variant":
        skips = draw.choice([(), ("pool4",), ("pool4", "pool3")])
        usual = [*(4 for _ in skips), 64 >> len(skips)]
        learned, padding = draw.random() < 0.5, draw.choice(["reference", "same"])
        # Of even sides, with which the scores still cover the image.
        kernels = [draw.choice([k // 2, k, k + 2, 2 * k]) if learned else k for k in usual]
        return cls(
            skips=skips,
            kernels=tuple(kernels),
            classes=draw.randint(2, 9),
            base=draw.randint(1, 5),
            fc=draw.randint(3, 20),
            depth=draw.choice(list(DEPTHS)),
            channels=draw.choice([1, 3, 4]),
            padding=padding,
            factors=draw.choice([(), (0.02, 0.0003)]) if len(skips) == 2 else (),
            learned=learned,
            grouped=draw.random() < 0.3,
            padded=padding == "same" and kernels == usual and draw.random() < 0.5,
            ending=draw.choice(["", "_mine", "-new"]),
            dropout=draw.choice([0, 0.3, 0.5]),
        )

    def name(self, level: str) -> str:
        return f"score_{'fr' if level == 'fc7' else level}{self.ending}"

    def weights(self, random: torch.Generator) -> dict[str, Tensor]:
        """Random ones in single precision, by layer and kind, in the file's order."""
        found: dict[str, Tensor] = {}

        def layer(name: str, outputs: int, inputs: int, side: int) -> None:
            scale = (2 / (inputs * side * side)) ** 0.5
            shape = outputs, inputs, side, side
            found[f"{name}.weight"] = torch.randn(shape, generator=random) * scale
            found[f"{name}.bias"] = torch.randn(outputs, generator=random)

        wide = dict(fc7=self.fc, pool3=4 * self.base, pool4=8 * self.base)
        inputs = self.channels
        for stage, (convs, width) in enumerate(zip(DEPTHS[self.depth], WIDTHS, strict=True), 1):
            for conv in range(1, convs + 1):
                layer(f"conv{stage}_{conv}", width * self.base, inputs, 3)
                inputs = width * self.base
        layer("fc6", self.fc, inputs, 7)
        layer("fc7", self.fc, self.fc, 1)
        for level in ("fc7", *self.skips):
            layer(self.name(level), self.classes, wide[level], 1)
            if level in self.skips and self.factors:
                factor = self.factors[self.skips.index(level)]
                found[f"{self.name(level)}.weight"] /= factor  # so that all levels count alike
        for coarse, _, kernel, stride in self.steps:
            eye = torch.eye(self.classes)[..., None, None]
            weight = reference.upscore(eye, kernel, stride)
            if self.grouped:
                weight = weight.diagonal(dim1=0, dim2=1).permute(2, 0, 1)[:, None].contiguous()
            if self.learned:
                weight += torch.randn(weight.shape, generator=random) / kernel
            found[f"up_{coarse}{self.ending}.weight"] = weight
        return found

    def write(self, net: reference.Layers) -> str:
        """The network, layer by layer; the name of its scores."""
        x = "data"
        wide = self.padding == "reference"
        for stage, convs in enumerate(DEPTHS[self.depth], start=1):
            for conv in range(1, convs + 1):
                name = f"conv{stage}_{conv}"
                x = net.conv(x, name, padding=100 if wide and name == "conv1_1" else 1)
            x = net.pool(x, f"pool{stage}", 2)
        for name in ("fc6", "fc7"):
            x = net.conv(x, name, padding=3 if name == "fc6" and not wide else 0)
            if isinstance(net, CaffeFile) and self.dropout:
                ratio = f"dropout_param {{ dropout_ratio: {self.dropout} }} "
                net.in_place("Dropout", name, f"drop_{name}", ratio)
        x = net.conv(x, self.name("fc7"), relu=False)
        first = POSITIONS[self.padding]["fc7"][0]  # where pixel 0 of the sum lies in the image
        for coarse, fine, kernel, stride in self.steps:
            pad = (kernel - stride) // 2 if self.padded else 0
            x = net.upscore(x, f"up_{coarse}{self.ending}", kernel, stride, **dict(padding=pad))
            at, pixel = POSITIONS[self.padding][fine]
            first -= ((kernel - 1) / 2 - pad) * pixel
            offset = (first - at) / pixel
            assert offset == int(offset)
            if fine == "data":
                return net.crop(x, "data", "score", int(-offset))
            score = fine
            if self.factors:
                factor = self.factors[self.skips.index(fine)]
                score = net.scale(fine, f"scale_{fine}{self.ending}", factor)
            score = net.conv(score, self.name(fine), relu=False)
            if offset > 0:
                score = net.crop(score, x, f"{score}c", int(offset))
            else:
                x = net.crop(x, score, f"{x}c", int(-offset))
                first = at
            x = net.sum(x, score, f"fuse_{fine}{self.ending}")
        raise AssertionError("the last step is to the image")


def interpreted(
    write: Callable[[reference.Layers], object], image: Tensor, weights: dict[str, Tensor]
) -> Tensor:
    """The scores of a network, in double precision."""
    net = Computed(image.double(), {name: tensor.double() for name, tensor in weights.items()})
    write(net)
    return net["score"]
