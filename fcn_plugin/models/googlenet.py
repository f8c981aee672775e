"""GoogLeNet without its classifier: FCN-GoogLeNet scores inception 5b (CVPR section 4.1).

    out_indices  0      1      2      3      4
    level        pool1  pool2  pool3  pool4  inception_5b
    channels     64     192    480    832    1024
    stride       4      8      16     32     32

Sides of the levels of a 500 x 500 image: 174, 87, 43, 21, 21 with padding 'reference'; 125, 63,
32, 16, 16 with 'same'.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from fcn_plugin.errors import UserError, check_choice
from fcn_plugin.geometry import Layer
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.layers import CaffeLRN, add_conv, pool

# Szegedy et al., table 1: widths of 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5 and pool_proj, in units
# of base_channels / 64. The digit of a name is the block's stage.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class Variant(NamedTuple):
    """What differs between the two GoogLeNets with published weights."""

    norm_cfg: dict | None  # replaces local response normalisation and biases
    wide: int  # window of the third branch, which is always named 5x5
    pool4: int  # window of the last pooling


VARIANTS = {
    # As published, and in Caffe's bvlc_googlenet.
    "paper": Variant(None, wide=5, pool4=3),
    "torchvision": Variant(dict(type="BN", eps=1e-3), wide=3, pool4=2),
}
# Padding of the first convolution. FCN-GoogLeNet was never released; the border is VGG's.
PADDINGS = {"reference": 0, "same": 3}


class Inception(nn.Module):
    """Four parallel branches, concatenated along the channels; the size stays."""

    def __init__(self, in_channels: int, channels: Sequence[int], variant: Variant) -> None:
        super().__init__()
        first, reduce3, out3, reduce5, out5, projected = channels
        wide = variant.wide
        self.window = Layer(wide, padding=wide // 2)  # of the widest branch
        self.out_channels = first + out3 + out5 + projected

        def conv(name: str, inputs: int, outputs: int, kernel: int = 1) -> list[str]:
            norm = variant.norm_cfg
            pad = kernel // 2
            return add_conv(
                self, name, inputs, outputs, kernel, padding=pad, bias=not norm, norm_cfg=norm
            )

        self.pool = nn.MaxPool2d(3, 1, padding=1)
        self.branches = (
            conv("1x1", in_channels, first),
            conv("3x3_reduce", in_channels, reduce3) + conv("3x3", reduce3, out3, 3),
            conv("5x5_reduce", in_channels, reduce5) + conv("5x5", reduce5, out5, wide),
            ["pool", *conv("pool_proj", in_channels, projected)],
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._branch(names, x) for names in self.branches], dim=1)

    def _branch(self, names: Sequence[str], x: Tensor) -> Tensor:
        for name in names:
            x = getattr(self, name)(x)
        return x


@MODELS.register_module()
class ConvolutionalizedGoogLeNet(ConvolutionalizedClassifier):
    """GoogLeNet as a fully convolutional backbone.

    It has no average pooling, classifier or auxiliary classifiers. Takes N x in_channels x
    H x W with H, W of at least 1; returns ``Features``, one level for each of ``out_indices`` in
    their order.

    Args:
        variant: 'paper', as published (local response normalisation), or 'torchvision', for
            torchvision's weights (BatchNorm, and 3 x 3 windows in the third branch).
        in_channels: channels of the image.
        out_indices: levels to return, 0-4 = pool1 .. pool4, inception_5b. Later stages are not
            built.
        padding: 'same', for any head, or 'reference', 100 pixels as in the published networks,
            only for ``SkipFusionHead``, which computes the crops.
        base_channels: width of the first convolution; a multiple of 8.
        dropout_ratio: for the last level, element-wise.
        frozen_stages: number of stages to freeze, counted from the image; 5 freezes all.
        with_cp: recompute each stage in the backward pass, which saves memory.
        init_cfg: checkpoints are 'caffe://googlenet', 'torchvision://googlenet' or a file.
    """

    def __init__(
        self,
        variant: str = "paper",
        in_channels: int = 3,
        out_indices: Sequence[int] = (1, 2, 4),
        padding: str = "same",
        base_channels: int = 64,
        dropout_ratio: float = 0.4,
        frozen_stages: int = 0,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        check_choice(self, "variant", variant, list(VARIANTS))
        check_choice(self, "padding", padding, list(PADDINGS))
        if base_channels % 8:
            raise UserError(
                f"ConvolutionalizedGoogLeNet: base_channels {base_channels}, must be a multiple "
                "of 8"
            )
        kind = VARIANTS[variant]
        norm = kind.norm_cfg
        pad_first = PADDINGS[padding]
        wide = base_channels

        conv1 = nn.Sequential()
        add_conv(conv1, "7x7_s2", in_channels, wide, 7, 2, pad_first, 1, not norm, norm)
        conv2 = nn.Sequential()
        add_conv(conv2, "3x3_reduce", wide, wide, 1, bias=not norm, norm_cfg=norm)
        add_conv(conv2, "3x3", wide, 3 * wide, 3, padding=1, bias=not norm, norm_cfg=norm)

        second = OrderedDict[str, nn.Module](
            norm1=CaffeLRN(), conv2=conv2, norm2=CaffeLRN(), pool2=pool(3, padding)
        )
        if norm:
            del second["norm1"], second["norm2"]
        first = OrderedDict[str, nn.Module](conv1=conv1, pool1=pool(3, padding))
        stages = [nn.Sequential(first), nn.Sequential(second)]
        channels = 3 * wide
        for number in "345":
            stage = nn.Sequential()
            for name, widths in INCEPTIONS.items():
                if name.startswith(number):
                    block = Inception(channels, [c * wide // 64 for c in widths], kind)
                    stage.add_module(f"inception_{name}", block)
                    channels = block.out_channels
            stages.append(stage)
        stages[2].add_module("pool3", pool(3, padding))
        stages[3].add_module("pool4", pool(kind.pool4, padding))
        stages[4].add_module("drop_5b", nn.Dropout(dropout_ratio))
        super().__init__(stages, out_indices, padding, frozen_stages, with_cp, init_cfg)
