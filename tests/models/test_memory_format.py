"""Weights lie in memory as the images do, which changes nothing but the time."""

import copy

import pytest
import torch
from networks import pictures
from torch import nn
from torch.profiler import ProfilerActivity, profile

from fcn_plugin.models import (
    ConvolutionalizedAlexNet,
    ConvolutionalizedGoogLeNet,
    ConvolutionalizedVGG,
)
from fcn_plugin.models.classifier import ConvolutionalizedClassifier, WideConv

BUILDS = {
    "vgg16": lambda **settings: ConvolutionalizedVGG(
        16, base_channels=4, fc_channels=8, **settings
    ),
    "alexnet": lambda **settings: ConvolutionalizedAlexNet(
        base_channels=4, fc_channels=8, **settings
    ),
    "googlenet": lambda **settings: ConvolutionalizedGoogLeNet(base_channels=8, **settings),
}


def as_images(name: str, tensor: torch.Tensor) -> bool:
    """But for the fully connected layers, which are quicker in plain memory."""
    layout = torch.contiguous_format if ".fc" in name else torch.channels_last
    return tensor.dim() != 4 or tensor.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("net", BUILDS)
def test_wherever_the_weights_come_from(net):
    backbone = BUILDS[net]()
    backbone.init_weights()
    assert all(as_images(*named) for named in backbone.named_parameters())
    stored = {name: value.contiguous() for name, value in backbone.state_dict().items()}
    backbone.load_state_dict(stored)
    assert all(as_images(*named) for named in copy.deepcopy(backbone).double().named_parameters())
    sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1, momentum=0.9)
    optimizer.step()
    for name, parameter in backbone.named_parameters():
        assert as_images(name, parameter.grad)
        assert as_images(name, optimizer.state[parameter]["momentum_buffer"])


@pytest.mark.parametrize("net", BUILDS)
def test_a_seed_gives_the_weights_that_it_gives_plainly(net, monkeypatch):
    def built():
        torch.manual_seed(5)
        backbone = BUILDS[net]()
        backbone.init_weights()
        return list(backbone.parameters())

    ours = built()
    monkeypatch.setattr(ConvolutionalizedClassifier, "_lay_out", lambda *_, **__: None)
    plain = built()
    assert all(map(torch.equal, ours, plain))
    assert [weight.stride() for weight in ours] != [weight.stride() for weight in plain]


@pytest.mark.parametrize("padding", ["same", "reference"])
@pytest.mark.parametrize("net", BUILDS)
def test_same_levels_and_gradients(net, padding):
    backbone = BUILDS[net](padding=padding).double().eval()
    backbone.init_weights()
    image, found = pictures(2, (65, 97)), []
    for layout in (torch.channels_last, torch.contiguous_format):
        backbone.to(memory_format=layout).zero_grad()
        levels = backbone(image)
        sum(level.square().mean() for level in levels).backward()
        found.append([*levels, *(parameter.grad.clone() for parameter in backbone.parameters())])
    for ours, others in zip(*found, strict=True):
        assert (ours - others).abs().max() <= 1e-12 * others.abs().max()


def test_no_weight_is_copied():
    """Other weights are, once a forward pass, before a convolution can take them."""
    backbone = BUILDS["vgg16"]().eval()
    weights = [list(m.weight.shape) for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    image, copies = pictures(1, (64, 64), torch.float32), []
    for as_built in (True, False):
        if not as_built:
            backbone.to(memory_format=torch.contiguous_format)
        with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as run:
            backbone(image)
        inputs = [e.input_shapes[0] for e in run.events() if e.name == "aten::copy_"]
        copies.append(sum(shape in weights for shape in inputs))
    assert copies[0] == 0
    assert copies[1] >= len(weights) - 2  # all but those of fc6 and fc7


@pytest.mark.parametrize("kernel, padding", [(7, 3), (6, "same")])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 9), (12, 12)], ids=str)
def test_windows_larger_than_the_map(size, kernel, padding):
    wide = WideConv(3, 4, kernel, padding=padding).double()
    plain = nn.Conv2d(3, 4, kernel, padding=padding).double()
    plain.load_state_dict(wide.state_dict())
    image, found = torch.randn(2, 3, *size, dtype=torch.float64), []
    for conv in (wide, plain):
        x = image.clone().requires_grad_()
        y = conv(x)
        y.square().sum().backward()
        found.append([y, x.grad, conv.weight.grad, conv.bias.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_gradients_in_bfloat16_are_numbers():
    """torch leaves those of weights that no pixel meets uninitialised; whatever lay there shows."""
    for _ in range(8):
        junk = [torch.full((256 * 128 * 49 * n,), torch.nan) for n in (1, 2, 3)]
        del junk
        wide = WideConv(128, 256, 7, padding=3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            wide(torch.randn(8, 128, 2, 2)).float().square().mean().backward()
        assert wide.weight.grad.isfinite().all()
