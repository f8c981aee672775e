"""The layers of the convolutionalized classifiers, and what can be asked of a layer."""

from collections.abc import Iterator
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn import functional

from fcn_plugin.geometry import Layer

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def is_hooked(module: nn.Module) -> bool:
    """Whether a hook wants to see ``module``'s inputs or outputs; then it must be called."""
    return any(getattr(module, hooks) for hooks in HOOKS)


def overrides(module: nn.Module, base: type[nn.Module], methods: tuple[str, ...]) -> bool:
    """Whether a subclass of ``base`` replaces one of ``methods``, which then must be called."""
    return any(getattr(type(module), name) is not getattr(base, name) for name in methods)


def windows(module: nn.Module) -> Iterator[Layer]:
    """The windows of ``module``'s layers, first layer first.

    A module of parallel branches has an attribute ``window``, the widest branch's.
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

    Weights that no pixel meets are left out: at 64 x 64 pixels 40 of fc6's 49. The sum is the
    same, in less time; and torch's bfloat16 on CPUs leaves the gradient of such weights
    uninitialised.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.padding in (0, (0, 0)) or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return super().forward(x)
        taps, pads = [], []
        for size, kernel in zip(x.shape[-2:], self.kernel_size, strict=True):
            before = (kernel - 1) // 2  # as padding="same" has it, also for an even kernel
            first, end = max(before - size + 1, 0), min(before + size, kernel)
            taps.append(slice(first, end))
            pads.append((before - first, end - 1 - before))
        rows, cols = taps
        x = functional.pad(x, (*pads[1], *pads[0]))
        return functional.conv2d(x, self.weight[:, :, rows, cols], self.bias)


class FullyConnected(nn.Sequential):
    """fc6, a convolution over what was the classifier's whole input, and fc7, with dropouts.

    Its weights and, on CPUs, its inputs use contiguous memory: with windows as large as a small map
    fc6 takes half the time. On GPUs it makes no difference.
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

    'reference' is Caffe's: nothing is padded and the last window may reach beyond the end. With
    'same' windows of 3 are centred on every other pixel.
    """
    if padding == "same" and kernel == 3:
        return nn.MaxPool2d(3, 2, padding=1)
    return nn.MaxPool2d(kernel, 2, ceil_mode=True)


class CaffeLRN(nn.LocalResponseNorm):
    """Local response normalisation over 5 channels with Caffe's alpha 1e-4 and beta 0.75.

    It works in single precision at least: squares of activations overflow half precision.
    """

    def __init__(self) -> None:
        super().__init__(size=5, alpha=1e-4, beta=0.75, k=1.0)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in (torch.float16, torch.bfloat16):
            return super().forward(x.float()).to(x.dtype)
        return super().forward(x)
