"""Weights use the images' memory format, which changes nothing but the time."""

import pytest
import torch
from models.small import backbone
from networks import pictures
from torch import nn
from torch.profiler import ProfilerActivity, profile

from fcn_plugin.models import layers, plain_gradient
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


@pytest.mark.parametrize("by_product", [False, True])
@pytest.mark.parametrize("kernel, padding", [(7, 3), (6, "same"), (7, 0)])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 9), (12, 12)], ids=str)
def test_windows_larger_than_the_map(monkeypatch, size, kernel, padding, by_product):
    """Both as a convolution and as a product, in double precision, where rounding hides nothing."""
    if padding == 0:
        size = tuple(length + kernel - 1 for length in size)
    monkeypatch.setattr(layers, "_gains", lambda x, weight: by_product)
    wide = WideConv(3, 4, kernel, padding=padding).double()
    plain = nn.Conv2d(3, 4, kernel, padding=padding).double()
    plain.load_state_dict(wide.state_dict())
    image, results = torch.randn(2, 3, *size, dtype=torch.float64), []
    for conv in (wide, plain):
        x = image.clone().requires_grad_()
        y = conv(x)
        y.square().sum().backward()
        assert y.is_contiguous()
        results.append([y, x.grad, conv.weight.grad, conv.bias.grad])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


def products(conv: nn.Module, x: torch.Tensor) -> int:
    """Matrix products of a pass forward."""
    with profile(activities=[ProfilerActivity.CPU]) as run:
        conv(x)
    return sum(event.name == "aten::mm" for event in run.events())


def test_few_windows_are_a_product(monkeypatch):
    """On CPUs with AVX2 and MKL in single precision; other graphs keep the convolution."""
    monkeypatch.setattr(plain_gradient, "CAPABILITY", "AVX2")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    conv, x = WideConv(2, 3, 7, padding=3), torch.randn(2, 2, 8, 10)
    monkeypatch.setattr(layers, "FEW_WINDOWS", 160)
    assert products(conv, x) == products(WideConv(2, 3, 7), torch.randn(1, 2, 14, 14)) == 1
    assert "unfold" not in (graph := str(torch.jit.trace(conv, x).inlined_graph))
    assert "aten::_convolution" in graph
    monkeypatch.setattr(layers, "FEW_WINDOWS", 159)
    assert products(conv, x) == 0
    monkeypatch.setattr(layers, "FEW_WINDOWS", 160)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert products(conv, x) == 0
    assert conv(x[:0]).shape == (0, 3, 8, 10)
    monkeypatch.setattr(plain_gradient, "CAPABILITY", "AVX512")
    assert products(conv, x) == 0
    monkeypatch.setattr(plain_gradient, "CAPABILITY", "AVX2")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert products(conv, x) == 0


def test_gradients_in_bfloat16_are_numbers():
    """torch leaves those of weights that no pixel meets uninitialised; whatever lay there shows."""
    for _ in range(8):
        junk = [torch.full((256 * 128 * 49 * n,), torch.nan) for n in (1, 2, 3)]
        del junk
        wide = WideConv(128, 256, 7, padding=3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            wide(torch.randn(8, 128, 2, 2)).float().square().mean().backward()
        assert wide.weight.grad.isfinite().all()
