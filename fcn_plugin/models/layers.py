"""The layers of the convolutionalized classifiers, and functions that describe a module."""

from collections.abc import Iterator
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn import functional

from fcn_plugin.geometry import Layer
from fcn_plugin.models.features import Switches
from fcn_plugin.models.plain_gradient import PlainGradientConv, computes_in_float32_by_avx2

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
# Up to so many, fc6 of VGG16 takes less time as a matrix product without AVX512: forward at most as
# much, forward and backward 0.5 (49 windows) to 0.7 (392). At 484 that is 0.9, but 1.1 forward.
FEW_WINDOWS = 400


def is_hooked(module: nn.Module) -> bool:
    """Whether ``module`` has hooks, which run only if the module is called."""
    return any(getattr(module, hooks) for hooks in HOOKS)


def overrides(module: nn.Module, base: type[nn.Module], methods: tuple[str, ...]) -> bool:
    """Whether ``module``'s class overrides any of ``methods`` of ``base``."""
    return any(getattr(type(module), name) is not getattr(base, name) for name in methods)


def windows(module: nn.Module) -> Iterator[Layer]:
    """The windows of ``module``'s layers, first layer first.

    For parallel branches this is the module's attribute ``window``, that of the widest branch.
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
    kind: type[nn.Conv2d] = PlainGradientConv,
) -> list[str]:
    """Add a convolution, its norm and its ReLU to a module; returns the layers' names in order."""
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

    Weights that see only padding are left out: 40 of fc6's 49 for an image of 64 x 64. The result
    is the same, in less time. Torch would also leave the gradient of such weights uninitialised,
    in bfloat16 on CPUs.

    On CPUs without AVX512 few windows are multiplied by the weights as one matrix, with the same
    result to rounding: oneDNN's convolution reorders all weights in each pass, 411 MB in VGG16.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return super().forward(x)
        weight = self.weight
        if self.padding not in (0, (0, 0)):
            taps, pads = [], []
            for size, kernel in zip(x.shape[-2:], self.kernel_size, strict=True):
                before = (kernel - 1) // 2  # as padding="same", also for an even kernel
                first, end = max(before - size + 1, 0), min(before + size, kernel)
                taps.append(slice(first, end))
                pads.append((before - first, end - 1 - before))
            rows, cols = taps
            x = functional.pad(x, (*pads[1], *pads[0]))
            weight = weight[:, :, rows, cols]
        return (_product if _gains(x, weight) else functional.conv2d)(x, weight, self.bias)


def _gains(x: Tensor, weight: Tensor) -> bool:
    """Whether the product takes less time: float32 by MKL against oneDNN, both measured."""
    height, width = (x.shape[axis] - weight.shape[axis] + 1 for axis in (2, 3))
    return (
        computes_in_float32_by_avx2(x, weight)
        and torch.backends.mkl.is_available()
        and min(height, width) > 0
        and 0 < len(x) * height * width <= FEW_WINDOWS
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of ``x`` [N, C, H, W], without padding, as a product of matrices."""
    columns = functional.unfold(x, weight.shape[2:]).transpose(0, 1).flatten(1)
    scores = weight.flatten(1) @ columns
    if bias is not None:
        scores = scores + bias[:, None]
    height, width = (x.shape[axis] - weight.shape[axis] + 1 for axis in (2, 3))
    return scores.unflatten(1, (len(x), height, width)).transpose(0, 1).contiguous()


class FullyConnected(nn.Sequential):
    """fc6, a convolution whose window is the classifier's whole map, and fc7, both with dropout.

    Weights and, on CPUs, inputs use contiguous memory: where the window is as large as the map, fc6
    then takes half the time. On GPUs it makes no difference.
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

    'reference' pools as Caffe does: without padding, and the last window may reach beyond the end.
    'same' centres windows of 3 on every other pixel.
    """
    if padding == "same" and kernel == 3:
        return nn.MaxPool2d(3, 2, padding=1)
    return nn.MaxPool2d(kernel, 2, ceil_mode=True)


class SwitchingPool(nn.MaxPool2d):
    """Caffe's pooling of 2 x 2 pixels at stride 2, which returns its switches too."""

    def __init__(self) -> None:
        super().__init__(2, 2, ceil_mode=True, return_indices=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Switches]:  # type: ignore[override]
        pooled, indices = super().forward(x)
        return pooled, Switches(indices, (x.shape[-2], x.shape[-1]))


class CaffeLRN(nn.LocalResponseNorm):
    """Local response normalisation over 5 channels with Caffe's alpha 1e-4 and beta 0.75.

    It works in at least single precision: squares of activations overflow half precision.
    """

    def __init__(self) -> None:
        super().__init__(size=5, alpha=1e-4, beta=0.75, k=1.0)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in (torch.float16, torch.bfloat16):
            return super().forward(x.float()).to(x.dtype)
        return super().forward(x)
