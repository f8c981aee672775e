"""What the convolutionalized classifiers have in common (CVPR section 3.1, PAMI section 4.1).

A classifier is a row of stages; the outputs of some are the levels that a decode head takes. Its
fully connected layers have become convolutions. Layers bear their names in the Caffe files:
``stages.2.inception_3a.1x1.weight`` is the weight of Caffe's ``inception_3a/1x1``.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, initialize
from torch import Tensor, nn
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.geometry import AxisMap, Layer, compose
from fcn_plugin.models.border import Border, padded, refilled, thinnable
from fcn_plugin.models.features import Features
from fcn_plugin.models.recompute import checkpointed
from fcn_plugin.system.configs import type_name
from fcn_plugin.weights.pretrained import load_classifier

# fan_in: VGG's fc6 sees 25,088 inputs, and fan_out would all but silence it.
FROM_SCRATCH = [
    dict(type="Kaiming", layer="Conv2d", mode="fan_in", distribution="normal"),
    dict(type="Constant", layer=["_BatchNorm", "GroupNorm"], val=1),
]


class ConvolutionalizedClassifier(BaseModule):
    """Stages in a row; takes N x in_channels x H x W, H and W of at least 1.

    Args:
        stages: the whole classifier. What lies beyond the last of ``out_indices`` is left out.
        out_indices: the stages whose outputs are returned.
        padding: 'reference' if levels end outside the image, on the padding.
        border: zeros laid around the image before the first stage, in pixels on each side; what
            they repeat is computed once (``models.border``).
        frozen_stages: number of stages that are not trained, from the image on.
        with_cp: recompute each stage in the backward pass instead of keeping its activations.
        init_cfg: default He's initialisation. ``dict(type='Pretrained', checkpoint=...)`` loads
            strictly (``weights.pretrained``).
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        out_indices: Sequence[int],
        padding: str,
        border: int,
        frozen_stages: int,
        with_cp: bool,
        init_cfg: dict | list | None,
    ) -> None:
        if not out_indices or not set(out_indices) <= set(range(len(stages))):
            raise UserError(
                f"{type(self).__name__}: out_indices {tuple(out_indices)}, must be of 0-"
                f"{len(stages) - 1}"
            )
        super().__init__(init_cfg or FROM_SCRATCH)
        built = max(out_indices) + 1
        self.stages = nn.ModuleList(stages[:built])
        # What a file of the whole classifier may hold besides.
        self.beyond = {
            f"stages.{number}.{name}"
            for number, stage in enumerate(stages)
            for name in stage.state_dict()
            if number >= built
        }
        self.layers = [list(windows(stage)) for stage in self.stages]
        grid = Layer(kernel=1, padding=border).map
        maps: list[AxisMap] = []
        for layers in self.layers:
            grid = grid.then(compose(layers))
            maps.append(grid)
        self.out_indices = tuple(out_indices)
        self.maps = tuple(maps[index] for index in self.out_indices)
        self._maps_in_floats = tuple(level.in_floats() for level in self.maps)
        self.padding = padding
        self.border = border
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self._lay_out()
        self._freeze()

    def _lay_out(self, plainly: bool = False) -> None:
        """Put the weights in memory as the images are, or plainly.

        Of weights in another layout every step makes a copy to compute with, and copies their
        gradients back.
        """
        for stage in self.stages:
            fastest = getattr(stage, "memory_format", torch.channels_last)
            layout = torch.contiguous_format if plainly else fastest
            cast(Any, stage).to(memory_format=layout)

    def forward(self, image: Tensor) -> Features:
        """N x in_channels x H x W to the chosen levels."""
        # Convolutions are fastest on channels-last memory, on CPUs twice as fast.
        x, levels = image.contiguous(memory_format=torch.channels_last), []
        border = Border.around(image, self.border)
        for number, (stage, layers) in enumerate(zip(self.stages, self.layers, strict=True)):
            needed = border.thinned(layers) if thinnable(stage) else border.whole()
            x = refilled(x, border, needed) if number else padded(x, self.border, needed)
            # A frozen stage keeps nothing to recompute.
            if self.with_cp and self.training and number >= self.frozen_stages:
                x = checkpointed(stage, x)
            else:
                x = stage(x)
            border = needed.through(layers)
            if number in self.out_indices:
                x, border = refilled(x, border, border.whole()), border.whole()
            levels.append(x)
        return Features(
            [levels[index] for index in self.out_indices],
            self._maps_in_floats,
            (image.shape[-2], image.shape[-1]),
            zero_border=self.padding == "reference",
        )

    def init_weights(self) -> None:
        """Initialise; a ``Pretrained`` init_cfg loads strictly where the host's only warns."""
        # Random numbers are filled in as weights lie; a seed shall mean the same in any layout.
        self._lay_out(plainly=True)
        cfgs = self.init_cfg if isinstance(self.init_cfg, list | tuple) else [self.init_cfg]
        pretrained = [cfg for cfg in cfgs if type_name(cfg) in ("Pretrained", "PretrainedInit")]
        if pretrained:
            if not self.is_init:
                initialize(self, FROM_SCRATCH)  # for what the file has nothing for
                load_classifier(self, pretrained[-1]["checkpoint"])
                self._is_init = True
        else:
            super().init_weights()
        self._lay_out()

    def train(self, mode: bool = True) -> "ConvolutionalizedClassifier":
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        for stage in self.stages[: max(self.frozen_stages, 0)]:
            stage.eval()
            stage.requires_grad_(False)


def windows(module: nn.Module) -> Iterator[Layer]:
    """The windows of ``module``'s layers, first layer first.

    A module of parallel branches tells its own as ``window``, the widest branch's.
    """
    if window := getattr(module, "window", None):
        yield window
    elif isinstance(module, nn.Conv2d | nn.MaxPool2d):
        kernel, stride, dilation = map(
            _of_one_axis, (module.kernel_size, module.stride, module.dilation)
        )
        same = module.padding == "same"
        padding = (kernel - 1) // 2 if same else _of_one_axis(module.padding)
        yield Layer(kernel, stride, padding, dilation, ceil=getattr(module, "ceil_mode", False))
    else:
        for child in module.children():
            yield from windows(child)


def _of_one_axis(value: Any) -> int:
    return value[0] if isinstance(value, tuple) else value


def add_conv(
    to: nn.Module,
    name: str,
    in_channels: int,
    channels: int,
    kernel: int,
    stride: int = 1,
    padding: int | str = 0,
    groups: int = 1,
    bias: bool = True,
    norm_cfg: dict | None = None,
    kind: type[nn.Conv2d] = nn.Conv2d,
) -> list[str]:
    """Add a convolution, its norm and its ReLU to a module; returns their names in order."""
    conv = kind(in_channels, channels, kernel, stride, padding, groups=groups, bias=bias)
    layers: dict[str, nn.Module] = {name: conv}
    if norm_cfg:
        layers[f"norm_{name}"] = build_norm_layer(norm_cfg, channels)[1]
    layers[f"relu_{name}"] = nn.ReLU(inplace=True)
    for key, layer in layers.items():
        to.add_module(key, layer)
    return list(layers)


class WideConv(nn.Conv2d):
    """A convolution of stride 1 whose window may be larger than the map.

    What of the window no pixel comes to lie under is left out: at 64 x 64 pixels 40 of fc6's 49
    weights. It is the same sum, in less time; and torch's bfloat16 on CPUs leaves the gradient of
    such weights uninitialised.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.padding in (0, (0, 0)) or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return super().forward(x)
        taps, pads = [], []
        for size, kernel in zip(x.shape[-2:], self.kernel_size, strict=True):
            before = (kernel - 1) // 2  # as padding="same" has it, also of an even kernel
            first, beyond = max(before - size + 1, 0), min(before + size, kernel)
            taps.append(slice(first, beyond))
            pads.append((before - first, beyond - 1 - before))
        rows, cols = taps
        x = functional.pad(x, (*pads[1], *pads[0]))
        return functional.conv2d(x, self.weight[:, :, rows, cols], self.bias)


class FullyConnected(nn.Sequential):
    """fc6, a convolution over what was the classifier's whole input, and fc7, with dropouts.

    Windows as large as a small map are the exception: on CPUs fc6 takes half the time in plain
    memory. So its weights lie; on GPUs that is no matter either way.
    """

    memory_format = torch.contiguous_format

    def __init__(
        self,
        channels: int,
        fc_channels: int,
        kernel: int,
        padding: int | str,
        dropout_ratio: float,
        norm_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        add_conv(
            self, "fc6", channels, fc_channels, kernel, 1, padding, norm_cfg=norm_cfg, kind=WideConv
        )
        self.add_module("drop_fc6", nn.Dropout(dropout_ratio))
        add_conv(self, "fc7", fc_channels, fc_channels, 1, norm_cfg=norm_cfg)
        self.add_module("drop_fc7", nn.Dropout(dropout_ratio))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous() if x.device.type == "cpu" else x)


def pool(kernel: int, padding: str) -> nn.MaxPool2d:
    """Max pooling at stride 2, to ceil(size / 2).

    For the reference Caffe's: nothing is padded and the last window may reach beyond the end. For
    'same' windows of 3 are centred on every other pixel.
    """
    if padding == "same" and kernel == 3:
        return nn.MaxPool2d(3, 2, padding=1)
    return nn.MaxPool2d(kernel, 2, ceil_mode=True)


class CaffeLRN(nn.LocalResponseNorm):
    """Local response normalisation over 5 channels, as Caffe's alpha 1e-4 and beta 0.75.

    In single precision at least: squares of activations overflow half precision.
    """

    def __init__(self) -> None:
        super().__init__(size=5, alpha=1e-4, beta=0.75, k=1.0)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in (torch.float16, torch.bfloat16):
            return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


def check_choice(owner: nn.Module, setting: str, value: object, choices: Sequence) -> None:
    """Refuse a setting that is not one of ``choices``."""
    if value not in choices:
        raise UserError(
            f"{type(owner).__name__}: {setting} {value!r}, must be one of {list(choices)}"
        )
