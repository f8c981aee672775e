"""AlexNet with its classifier turned into convolutions.

    out_indices  0      1      2      3
    level        pool1  pool2  pool5  fc7
    channels     96     256    256    4096
    stride       8      16     32     32

Sides of the levels of a 500 x 500 image: 86, 43, 21, 16 with padding 'reference'; 63, 32, 16, 16
with 'same'.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mmseg.registry import MODELS
from torch import nn

from fcn_plugin.errors import check_choice
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.layers import CaffeLRN, FullyConnected, add_conv, pool


class Variant(NamedTuple):
    """conv1 to conv5 of an AlexNet with published weights."""

    widths: tuple[int, ...]  # in units of base_channels
    groups: tuple[int, ...]
    lrn: bool


VARIANTS = {
    # Caffe's, the base of FCN-AlexNet: pooling before normalisation.
    "caffenet": Variant((3, 8, 12, 12, 8), (1, 2, 1, 2, 2), lrn=True),
    # Krizhevsky's later network, arXiv 1404.5997.
    "torchvision": Variant((2, 6, 12, 8, 8), (1, 1, 1, 1, 1), lrn=False),
}
KERNELS = (11, 5, 3, 3, 3)
# The convolutions of each stage, which ends in a pooling named after the last of them.
STAGES = ((1,), (2,), (3, 4, 5))
# The padding of conv1 and of fc6. 'same' makes each level ceil(size / stride); torch then pads
# fc6's even window by 2 and 3.
PADDINGS: dict[str, tuple[int, int | str]] = {"reference": (0, 0), "same": (5, "same")}


@MODELS.register_module()
class ConvolutionalizedAlexNet(ConvolutionalizedClassifier):
    """AlexNet as a fully convolutional backbone (reference: Caffe ``voc-fcn-alexnet/net.py``).

    Takes N x in_channels x H x W with H, W of at least 1; returns ``Features``, one level for
    each of ``out_indices`` in their order.

    Args:
        variant: 'caffenet', the network of the paper (grouped convolutions, local response
            normalisation after pooling), or 'torchvision', for torchvision's weights (without
            either, and narrower).
        in_channels: channels of the image.
        out_indices: levels to return, 0-3 = pool1, pool2, pool5, fc7. Later stages are not built.
        padding: 'same', for any head, or 'reference', the published 100 pixels, only for
            ``SkipFusionHead``, which computes the crops.
        base_channels: unit of the convolutions' widths; an even number.
        fc_channels: width of fc6 and fc7.
        dropout_ratio: for the outputs of fc6 and fc7, element-wise.
        frozen_stages: number of stages to freeze, counted from the image; 4 freezes all.
        with_cp: recompute each stage in the backward pass, which saves memory.
        init_cfg: checkpoints are 'caffe://caffenet', 'torchvision://alexnet' or a file.
    """

    def __init__(
        self,
        variant: str = "caffenet",
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 3),
        padding: str = "same",
        base_channels: int = 32,
        fc_channels: int = 4096,
        dropout_ratio: float = 0.5,
        frozen_stages: int = 0,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        check_choice(self, "variant", variant, list(VARIANTS))
        check_choice(self, "padding", padding, list(PADDINGS))
        widths, groups, lrn = VARIANTS[variant]
        pad_first, pad_fc6 = PADDINGS[padding]
        stages = []
        channels = in_channels
        for number, convs in enumerate(STAGES):
            stage = nn.Sequential()
            # Not at the end of the stage before, whose level is the pooling's output.
            if lrn and number > 0:
                stage.add_module(f"norm{number}", CaffeLRN())
            for conv in convs:
                kernel, wide = KERNELS[conv - 1], widths[conv - 1] * base_channels
                add_conv(
                    stage,
                    f"conv{conv}",
                    channels,
                    wide,
                    kernel,
                    stride=4 if conv == 1 else 1,
                    padding=pad_first if conv == 1 else kernel // 2,
                    groups=groups[conv - 1],
                )
                channels = wide
            stage.add_module(f"pool{convs[-1]}", pool(3, padding))
            stages.append(stage)
        fc = FullyConnected(channels, fc_channels, 6, pad_fc6, dropout_ratio)
        super().__init__([*stages, fc], out_indices, padding, frozen_stages, with_cp, init_cfg)
