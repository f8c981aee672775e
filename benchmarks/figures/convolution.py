"""Figures of convolution: our layers against other layouts, libraries and algorithms.

Each takes one image of 512 x 512 through a stage of VGG16, a layer or a training step, forward and
backward; both sides' outputs and gradients must agree. Ours is faster where the ratio is below 1.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from types import SimpleNamespace, UnionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcn_plugin.engine import CompileHook
from fcn_plugin.engine.precision import bfloat16_ratio
from fcn_plugin.models import ConvolutionalizedVGG
from fcn_plugin.models.layers import WideConv
from fcn_plugin.models.plain_gradient import PlainGradientConv
from figures import framework as measured
from figures.framework import Figure, Result, Row, Setting, Sides, Skipped
from figures.steps import QUICK_WIDTH, our_step, side, unchanged

STAGES = range(1, 6)
FC6_SIDES = (7, 16, 20)  # up to 512 x 512 pixels with padding "same"; the most as a product
PADDED = (4, 8, 16)  # channels of the image
TOLERANCE = 1e-3  # of the norm: which side of zero ReLU sees may depend on rounding
OURS = PlainGradientConv | WideConv
Change = Callable[[nn.Module], object]


def stage(number: int, setting: Setting) -> nn.Module:
    """Stage 1-6 of our VGG16, without dropout, and pooling, whose choices depend on rounding."""
    width = QUICK_WIDTH if setting.quick else {}
    vgg = ConvolutionalizedVGG(16, out_indices=(number - 1,), dropout_ratio=0, **width)
    layers = vgg.stages[-1].to(setting.device)
    return layers if number == 6 else layers[:-1]


def image(conv: nn.Conv2d, pixels: int, setting: Setting) -> Tensor:
    """Random input of ``conv``, 1 x C x pixels x pixels, in channels-last memory."""
    x = torch.rand(1, conv.in_channels, pixels, pixels, device=setting.device)
    return x.contiguous(memory_format=torch.channels_last)


def passes(layer: Callable, x: Tensor, weights: Sequence[Tensor], setting: Setting) -> Callable:
    """A call of ``layer``: its output, and the gradients of half its square's sum."""
    inputs = [*weights, x] if x.requires_grad else [*weights]

    def call() -> list[Tensor]:
        with setting.autocast():
            output = layer(x)
        return [output.detach(), *torch.autograd.grad(output, inputs, output.detach())]

    return call


def same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> str:
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True)]
    assert max(errors) <= TOLERANCE, f"largest difference {max(errors):.1e} of the norm"
    return f"outputs and gradients agree to {max(errors):.0e} of their norms"


def as_torch(network: nn.Module, kinds: type | UnionType = OURS) -> nn.Module:
    """``network`` with torch's own convolution for ours of these kinds."""
    for layer in network.modules():
        if isinstance(layer, kinds):
            layer.__class__ = nn.Conv2d
    return network


def stages(
    number: int, layout: torch.memory_format | None, onednn: bool, setting: Setting
) -> Sides:
    """Our stage against the same by oneDNN, or by torch's own loops without it.

    With both oneDNN and a ``layout``: the stage by oneDNN against the same in that layout.
    """
    torch.manual_seed(0)
    ours = stage(number, setting)
    x = image(ours[0], side(setting) >> (number - 1), setting)
    x.requires_grad_(number > 1)  # nothing needs the gradient of the image
    theirs, theirs_x = as_torch(copy.deepcopy(ours)), x
    if layout is not None:
        if onednn:
            as_torch(ours)
        # Not FullyConnected itself, which chooses the layout of its input.
        theirs = nn.Sequential(*theirs).to(memory_format=layout)
        theirs_x = x.detach().contiguous(memory_format=layout).requires_grad_(number > 1)
    calls = [
        passes(layer, images, list(layer.parameters()), setting)
        for layer, images in ((ours, x), (theirs, theirs_x))
    ]
    if not onednn:  # in the backward pass, too
        calls[1] = torch.backends.mkldnn.flags(enabled=False)(calls[1])
    return Sides(*calls, same)


def first_padded(channels: int, setting: Setting) -> Sides:
    """conv1_1 against the same with zeros as further channels of the image and the weights."""
    torch.manual_seed(0)
    conv = stage(1, setting)[0]
    x = image(conv, side(setting), setting)
    zeros = (0, 0, 0, 0, 0, channels - conv.in_channels)
    weights = list(conv.parameters())

    def padded(x: Tensor) -> Tensor:
        wide = functional.pad(conv.weight, zeros)
        return functional.conv2d(functional.pad(x, zeros), wide, conv.bias, padding=1)

    return Sides(passes(conv, x, weights, setting), passes(padded, x, weights, setting), same)


def fc6(pixels: int, setting: Setting) -> Sides:
    """fc6, a matrix product if that takes less time, against a convolution."""
    torch.manual_seed(0)
    conv = stage(6, setting)[0]
    x = image(conv, pixels, setting).contiguous().requires_grad_()
    weights = list(conv.parameters())

    def convolution(x: Tensor) -> Tensor:
        return functional.conv2d(x, *weights, padding=conv.padding)

    return Sides(passes(conv, x, weights, setting), passes(convolution, x, weights, setting), same)


def steps(ours: Change, theirs: Change, setting: Setting) -> Sides:
    return Sides(our_step(setting, 1, ours), our_step(setting, 1, theirs), unit="s")


def plain_layout(model: nn.Module) -> None:
    """Let a network compute in plain memory."""
    as_torch(model, PlainGradientConv).to(memory_format=torch.contiguous_format)
    model.backbone.stages[0].register_forward_pre_hook(lambda _, inputs: inputs[0].contiguous())


def compiled(setting: Setting, repeats: int) -> Result:
    """A training step against one of torch.compile, and when the time to compile has paid."""

    def compile_it(model: nn.Module) -> None:
        runner: Any = SimpleNamespace(model=model, logger=logging.getLogger(__name__))
        CompileHook().before_train(runner)

    ours, theirs = our_step(setting, 1), our_step(setting, 1, compile_it)
    ours()
    try:
        ((first,),) = measured.alternate((theirs,), 1, setting.device)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise Skipped(f"torch.compile: {str(error).splitlines()[0]}") from error
    times = measured.alternate((ours, theirs), repeats, setting.device)
    mine, compiled = map(median, times)
    spread = tuple(measured.quartiles(taken) for taken in times)
    rows = (Row("time", mine, "s", compiled, spread), Row("first step", mine, "s", first))
    saved, cost = mine - compiled, first - compiled
    word = f"pays after {cost / saved:,.0f} steps" if saved > 0 else "never pays"
    return Result(rows, word, dict(compile_seconds=cost))


def bfloat16(setting: Setting) -> Sides:
    """A step in float32 against one in bfloat16, where the processor computes in it."""
    if (ratio := bfloat16_ratio()) > 1:
        raise Skipped(f"a convolution in bfloat16 takes {ratio:.1f} times as long on this machine")
    single, half = (replace(setting, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    return Sides(our_step(single, 1), our_step(half, 1), unit="s")


def _figure(name: str, against: str, setup: Callable[..., Sides], *args: Any) -> Figure:
    return Figure(name, "convolution", against, partial(setup, *args))


one_layout = partial(as_torch, kinds=PlainGradientConv)
fc6_as_convolution = partial(as_torch, kinds=WideConv)
PLAIN, LAST = torch.contiguous_format, torch.channels_last
# Stage -> the layout that ours does not choose for it.
OTHERS = dict.fromkeys(STAGES, ("plain", PLAIN)) | {6: ("channels-last", LAST)}
FIGURES = [
    *(
        _figure(f"weights {n}", f"stage {n}, its gradients in one layout", stages, n, None, True)
        for n in STAGES
    ),
    _figure("weights", "training step, gradients in one layout", steps, unchanged, one_layout),
    *(
        _figure(f"layout {n}", f"stage {n}, {name}", stages, n, layout, True)
        for n, (name, layout) in OTHERS.items()
    ),
    _figure("layout", "training step, all plain", steps, unchanged, plain_layout),
    *(
        _figure(f"onednn {n}", f"stage {n}, torch's own convolution", stages, n, PLAIN, False)
        for n in OTHERS
    ),
    *(_figure(f"first {n}", f"conv1_1, {n} channels with zeros", first_padded, n) for n in PADDED),
    *(_figure(f"fc6 {n}", f"{n} x {n}, as convolution", fc6, n) for n in FC6_SIDES),
    _figure("fc6", "training step, fc6 as convolution", steps, unchanged, fc6_as_convolution),
    Figure("compile", "convolution", "training step, torch.compile", reading=compiled),
    _figure("bfloat16", "training step, bfloat16", bfloat16),
]
