"""Convolutions that take the gradient of their weights in plain memory, where that is faster.

Without AVX512, oneDNN's weight gradients of 3 x 3 take two to six times as long in channels-last
memory as in plain, its other passes no longer. With AVX512 all are fastest in channels-last.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

# Numbers of the input and of the output's gradient that are copied to plain memory at once, in
# whole images: 64 MiB, so that a wide batch does not need more memory than its activations.
COPIED = 2**24
CAPABILITY = torch.backends.cpu.get_cpu_capability()  # which torch.compile cannot trace


def computes_in_float32_by_avx2(x: Tensor, weight: Tensor) -> bool:
    """Whether a layer computes where our ways take less time than oneDNN's.

    Where there is AVX512, oneDNN's take less.
    """
    return (
        CAPABILITY == "AVX2"
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


class PlainGradientConv(nn.Conv2d):
    """A convolution whose results are ``nn.Conv2d``'s, and its gradients to rounding."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.weight.requires_grad and self._gains(x):
            settings = self.stride, self.padding, self.dilation, self.groups
            return _PlainWeightGradient.apply(x, self.weight, self.bias, settings)
        return super().forward(x)

    def _gains(self, x: Tensor) -> bool:
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return False
        return (
            computes_in_float32_by_avx2(x, self.weight)
            and x.is_contiguous(memory_format=torch.channels_last)
            and not x.is_contiguous()
            and not isinstance(self.padding, str)
            and self.padding_mode == "zeros"
        )


class _PlainWeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = settings
        return functional.conv2d(x, weight, bias, *settings)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        images = max(COPIED // (x[0].numel() + gradient[0].numel()), 1)
        return (
            conv2d_input(x.shape, weight, gradient, *ctx.settings) if of_x else None,
            sum(
                conv2d_weight(part.contiguous(), weight.shape, of_part.contiguous(), *ctx.settings)
                for part, of_part in zip(x.split(images), gradient.split(images), strict=True)
            )
            if of_weight
            else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
            None,
        )
