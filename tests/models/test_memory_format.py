"""Weights use the images' memory format, which changes nothing but the time."""

import pytest
import torch
from models.small import backbone
from networks import pictures
from torch import nn
from torch.profiler import ProfilerActivity, profile

from fcn_plugin.models.layers import WideConv


@pytest.mark.parametrize("net", ["vgg16", "caffenet", "googlenet"])
def test_no_weight_is_copied(net):
    """Contiguous weights are copied before each convolution, and so are loaded ones."""
    made = backbone(net).eval()
    made.load_state_dict({name: value.contiguous() for name, value in made.state_dict().items()})
    weights = [list(m.weight.shape) for m in made.modules() if isinstance(m, nn.Conv2d)]
    image = pictures(1, (64, 64), torch.float32)

    def copies() -> int:
        with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as run:
            made(image)
        return sum(e.name == "aten::copy_" and e.input_shapes[0] in weights for e in run.events())

    assert copies() == 0
    made.to(memory_format=torch.contiguous_format)
    assert copies() > 4


@pytest.mark.parametrize("kernel, padding", [(7, 3), (6, "same")])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 9), (12, 12)], ids=str)
def test_windows_larger_than_the_map(size, kernel, padding):
    wide = WideConv(3, 4, kernel, padding=padding).double()
    plain = nn.Conv2d(3, 4, kernel, padding=padding).double()
    plain.load_state_dict(wide.state_dict())
    image, results = torch.randn(2, 3, *size, dtype=torch.float64), []
    for conv in (wide, plain):
        x = image.clone().requires_grad_()
        y = conv(x)
        y.square().sum().backward()
        results.append([y, x.grad, conv.weight.grad, conv.bias.grad])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


def test_gradients_in_bfloat16_are_numbers():
    """torch leaves those of weights that no pixel meets uninitialised; whatever lay there shows."""
    for _ in range(8):
        junk = [torch.full((256 * 128 * 49 * n,), torch.nan) for n in (1, 2, 3)]
        del junk
        wide = WideConv(128, 256, 7, padding=3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            wide(torch.randn(8, 128, 2, 2)).float().square().mean().backward()
        assert wide.weight.grad.isfinite().all()
