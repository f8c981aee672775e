"""VGG with its classifier turned into convolutions.

    out_indices  0      1      2      3      4      5
    level        pool1  pool2  pool3  pool4  pool5  fc7
    channels     64     128    256    512    512    4096
    stride       2      4      8      16     32     32

Sides of the levels of a 500 x 500 image: 349, 175, 88, 44, 22, 16 with padding 'reference';
250, 125, 63, 32, 16, 16 with 'same'.
"""

from collections.abc import Sequence

from mmseg.registry import MODELS
from torch import nn

from fcn_plugin.errors import UserError, check_choice
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.layers import FullyConnected, SwitchingPool, add_conv, pool
from fcn_plugin.weights.networks import VGG_CONVS

# Width of each stage in units of base_channels.
WIDTHS = (1, 2, 4, 8, 8)
# The padding of conv1_1 and of fc6. 'same' makes each level ceil(size / stride).
PADDINGS = {"reference": (0, 0), "same": (1, 3)}


@MODELS.register_module()
class ConvolutionalizedVGG(ConvolutionalizedClassifier):
    """VGG-11, 13, 16 or 19 as a fully convolutional backbone.

    Takes N x in_channels x H x W with H, W of at least 1; returns ``Features``, one level for
    each of ``out_indices`` in their order. Pooling rounds up as in Caffe, dropout is
    element-wise, all convolutions have a bias (reference: Caffe ``voc-fcn8s/net.py``).

    Args:
        depth: 11, 13, 16 or 19.
        in_channels: channels of the image.
        out_indices: levels to return, 0-5 = pool1 .. pool5, fc7. Later stages are not built.
        padding: 'same', for any head, or 'reference', the published 100 pixels, only for
            ``SkipFusionHead``, which computes the crops.
        base_channels: width of the first stage.
        fc_channels: width of fc6 and fc7.
        dropout_ratio: for the outputs of fc6 and fc7.
        norm_cfg: normalisation after every convolution; None as in the paper.
        frozen_stages: number of stages to freeze, counted from the image; 6 freezes all.
        with_cp: recompute each stage in the backward pass, which saves memory.
        switches: return with the levels from which pixels each pooling took its values, for
            ``UnpoolingHead``; with padding 'same' only.
        init_cfg: checkpoints are 'torchvision://vgg16', 'caffe://vgg16' or a file.
    """

    def __init__(
        self,
        depth: int = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] = (2, 3, 5),
        padding: str = "same",
        base_channels: int = 64,
        fc_channels: int = 4096,
        dropout_ratio: float = 0.5,
        norm_cfg: dict | None = None,
        frozen_stages: int = 0,
        with_cp: bool = False,
        switches: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        check_choice(self, "depth", depth, list(VGG_CONVS))
        check_choice(self, "padding", padding, list(PADDINGS))
        if switches and padding != "same":
            raise UserError(
                f"{type(self).__name__}: the switches of padding {padding!r} point into the "
                "padding; set padding='same'"
            )
        pad_first, pad_fc6 = PADDINGS[padding]
        stages = []
        channels = in_channels
        for number, (convs, width) in enumerate(
            zip(VGG_CONVS[depth], WIDTHS, strict=True), start=1
        ):
            stage = nn.Sequential()
            for conv in range(1, convs + 1):
                wide = width * base_channels
                pad = pad_first if number == conv == 1 else 1
                name = f"conv{number}_{conv}"
                add_conv(stage, name, channels, wide, 3, padding=pad, norm_cfg=norm_cfg)
                channels = wide
            stage.add_module(f"pool{number}", SwitchingPool() if switches else pool(2, padding))
            stages.append(stage)
        fc = FullyConnected(channels, fc_channels, 7, pad_fc6, dropout_ratio, norm_cfg)
        super().__init__([*stages, fc], out_indices, padding, frozen_stages, with_cp, init_cfg)
