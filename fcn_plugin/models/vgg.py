"""VGG with its classifier turned into convolutions (CVPR section 3.1, PAMI section 4.1).

    out_indices  0      1      2      3      4      5
    level        pool1  pool2  pool3  pool4  pool5  fc7
    channels     64     128    256    512    512    4096
    stride       2      4      8      16     32     32

Sizes of a 500 x 500 image: with padding 'reference' 349, 175, 88, 44, 22, 16 a side;
with 'same' 250, 125, 63, 32, 16, 16.
"""

from collections.abc import Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, initialize
from mmseg.registry import MODELS
from torch import Tensor, nn

from fcn_plugin.config import type_name
from fcn_plugin.errors import UserError
from fcn_plugin.geometry import AxisMap, Layer, compose
from fcn_plugin.models.features import Features
from fcn_plugin.models.recompute import checkpointed
from fcn_plugin.weights.imagenet import load_vgg

# Convolutions in each of the five stages (Simonyan and Zisserman, table 1: A, B, D, E).
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
# Width of each stage in units of base_channels.
WIDTHS = (1, 2, 4, 8, 8)
# padding: (of conv1_1, of fc6). The reference pads the image so much that any size leaves fc6
# at least one output; 'same' keeps each level at ceil(size / stride).
PADDINGS = {"reference": (100, 0), "same": (1, 3)}

# fan_in: fc6 sees 25,088 inputs, and fan_out would all but silence it.
FROM_SCRATCH = [
    dict(type="Kaiming", layer="Conv2d", mode="fan_in", distribution="normal"),
    dict(type="Constant", layer=["_BatchNorm", "GroupNorm"], val=1),
]

POOL = Layer(kernel=2, stride=2, ceil=True)
FC7 = 5  # index of the last level


@MODELS.register_module()
class ConvolutionalizedVGG(BaseModule):
    """VGG-11, 13, 16 or 19 as a fully convolutional backbone.

    Takes N x in_channels x H x W with H, W of at least 1; returns ``Features``, one level for
    each of ``out_indices`` in their order. Pooling rounds up as in Caffe, dropout is
    element-wise, all convolutions have a bias (reference: Caffe ``voc-fcn8s/net.py``).

    Args:
        depth: 11, 13, 16 or 19.
        in_channels: channels of the image.
        out_indices: levels to return, 0-5 = pool1 .. pool5, fc7. What lies beyond the last of
            them is not built.
        padding: 'same', nothing wasted and usable under every head, or 'reference', the
            published 100 pixels, meant for ``SkipFusionHead``, which knows the crops.
        base_channels: width of the first stage.
        fc_channels: width of fc6 and fc7.
        dropout_ratio: of the outputs of fc6 and fc7.
        norm_cfg: normalisation after every convolution, None for the network of the paper.
        frozen_stages: number of stages that are not trained, from the image on; 6 includes the
            fc layers.
        with_cp: recompute each stage in the backward pass instead of keeping its activations.
        init_cfg: default He's initialisation. ``dict(type='Pretrained', checkpoint=...)`` with
            'torchvision://vgg16' or a file loads strictly (``weights.imagenet``).
    """

    def __init__(
        self,
        depth: int = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] = (2, 3, FC7),
        padding: str = "same",
        base_channels: int = 64,
        fc_channels: int = 4096,
        dropout_ratio: float = 0.5,
        norm_cfg: dict | None = None,
        frozen_stages: int = 0,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        if depth not in STAGES:
            raise UserError(f"ConvolutionalizedVGG: depth {depth}, must be one of {list(STAGES)}")
        if padding not in PADDINGS:
            raise UserError(
                f"ConvolutionalizedVGG: padding {padding!r}, must be one of {list(PADDINGS)}"
            )
        if not out_indices or not set(out_indices) <= set(range(FC7 + 1)):
            raise UserError(
                f"ConvolutionalizedVGG: out_indices {tuple(out_indices)}, must be of 0-5 "
                "(pool1 .. pool5, fc7)"
            )
        super().__init__(init_cfg or FROM_SCRATCH)
        self.convs = STAGES[depth]
        self.out_indices = tuple(out_indices)
        self.padding = padding
        self.norm_cfg = norm_cfg
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp

        pad_first, pad_fc6 = PADDINGS[padding]
        layers: list[Layer] = []
        maps: list[AxisMap] = []
        self.stages = nn.ModuleList()
        channels = in_channels
        for number, (convs, width) in enumerate(zip(self.convs, WIDTHS, strict=True), start=1):
            stage = nn.Sequential()
            for conv in range(1, convs + 1):
                pad = pad_first if number == conv == 1 else 1
                layers.append(Layer(kernel=3, padding=pad))
                self._add_conv(
                    stage, f"conv{number}_{conv}", channels, width * base_channels, layers[-1]
                )
                channels = width * base_channels
            stage.add_module(f"pool{number}", nn.MaxPool2d(2, 2, ceil_mode=True))
            layers.append(POOL)
            maps.append(compose(layers))
            self.stages.append(stage)
        stage = nn.Sequential()
        for name, window in (("fc6", Layer(kernel=7, padding=pad_fc6)), ("fc7", Layer(kernel=1))):
            layers.append(window)
            self._add_conv(stage, name, channels, fc_channels, window)
            stage.add_module(f"drop_{name}", nn.Dropout(dropout_ratio))
            channels = fc_channels
        maps.append(compose(layers))
        self.stages.append(stage)

        del self.stages[max(self.out_indices) + 1 :]
        self.maps = tuple(maps[index] for index in self.out_indices)
        self._freeze()

    def _add_conv(
        self, stage: nn.Sequential, name: str, in_channels: int, channels: int, window: Layer
    ) -> None:
        """Append a convolution, by its name in the Caffe files, its norm and its ReLU."""
        conv = nn.Conv2d(in_channels, channels, window.kernel, padding=window.padding)
        stage.add_module(name, conv)
        if self.norm_cfg:
            stage.add_module(f"norm_{name}", build_norm_layer(self.norm_cfg, channels)[1])
        stage.add_module(f"relu_{name}", nn.ReLU(inplace=True))

    def forward(self, image: Tensor) -> Features:
        """N x in_channels x H x W to the chosen levels."""
        # Convolutions are fastest on channels-last memory, on CPUs twice as fast.
        x, levels = image.contiguous(memory_format=torch.channels_last), []
        for number, stage in enumerate(self.stages, start=1):
            # A frozen stage keeps nothing to recompute.
            if self.with_cp and self.training and number > self.frozen_stages:
                x = checkpointed(stage, x)
            else:
                x = stage(x)
            levels.append(x)
        return Features(
            [levels[index] for index in self.out_indices],
            self.maps,
            (image.shape[-2], image.shape[-1]),
            zero_border=self.padding == "reference",
        )

    def init_weights(self) -> None:
        """Initialise; a ``Pretrained`` init_cfg loads strictly where the host's only warns."""
        cfgs = self.init_cfg if isinstance(self.init_cfg, list | tuple) else [self.init_cfg]
        pretrained = [cfg for cfg in cfgs if type_name(cfg) in ("Pretrained", "PretrainedInit")]
        if pretrained:
            if not self.is_init:
                initialize(self, FROM_SCRATCH)  # for what the file has nothing for
                load_vgg(self, pretrained[-1]["checkpoint"])
                self._is_init = True
        else:
            super().init_weights()

    def train(self, mode: bool = True) -> "ConvolutionalizedVGG":
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        for stage in self.stages[: max(self.frozen_stages, 0)]:
            stage.eval()
            stage.requires_grad_(False)
