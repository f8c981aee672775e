"""Weight gradients in plain memory are those of the convolution."""

import pytest
import torch
from families import NEWER_TORCH
from torch import nn

from fcn_plugin.models import plain_gradient
from fcn_plugin.models.plain_gradient import PlainGradientConv, _PlainWeightGradient

KINDS = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, padding=0),
    dict(kernel_size=7, padding=3, stride=2),
    dict(kernel_size=3, padding=2, dilation=2, groups=2),
    dict(kernel_size=1, bias=False),
]


@pytest.fixture
def images(monkeypatch) -> torch.Tensor:
    """Three on a machine where plain memory is the faster one, taken one by one."""
    monkeypatch.setattr(plain_gradient, "CAPABILITY", "AVX2")
    monkeypatch.setattr(plain_gradient, "COPIED", 1)
    torch.manual_seed(0)
    return torch.randn(3, 4, 13, 18).to(memory_format=torch.channels_last)


def convolutions(**settings) -> tuple[PlainGradientConv, nn.Conv2d]:
    ours, theirs = (kind(4, 6, **settings) for kind in (PlainGradientConv, nn.Conv2d))
    theirs.load_state_dict(ours.state_dict())
    return tuple(conv.to(memory_format=torch.channels_last) for conv in (ours, theirs))


def is_ours(output: torch.Tensor) -> bool:
    return type(output.grad_fn).__name__ == "_PlainWeightGradientBackward"


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_outputs_are_equal_and_gradients_to_rounding(images, settings):
    results = []
    for conv in convolutions(**settings):
        x = images.clone().requires_grad_()
        y = conv(x)
        assert is_ours(y) == isinstance(conv, PlainGradientConv)
        y.square().sum().backward()
        results.append((y, x.grad, [weights.grad for weights in conv.parameters()]))
    (y, of_x, of_weights), (their_y, their_x, their_weights) = results
    assert torch.equal(y, their_y) and y.stride() == their_y.stride()
    torch.testing.assert_close(of_x, their_x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(of_weights, their_weights, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("settings", KINDS[:4], ids=str)
def test_derivatives_in_double_precision(images, settings):
    """First and second, where rounding hides nothing."""
    _, conv = convolutions(**settings)
    conv.double()
    x = images.double().requires_grad_()
    inputs = [x, conv.weight, conv.bias]
    ours = _PlainWeightGradient.apply(
        *inputs, (conv.stride, conv.padding, conv.dilation, conv.groups)
    )
    results = []
    for y in (ours, conv(x)):
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        results.append([y, *first, *second])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


def test_what_gains_nothing_stays_as_it_is(images, monkeypatch):
    conv, _ = convolutions(**KINDS[0])
    assert is_ours(conv(images))
    assert not is_ours(conv(images.contiguous()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_ours(conv(images))
    with torch.no_grad():
        assert conv(images).grad_fn is None
    assert not is_ours(convolutions(kernel_size=3, padding="same")[0](images))
    assert not is_ours(conv.double()(images.double()))
    conv.float().requires_grad_(False)
    assert not is_ours(conv(images.clone().requires_grad_()))
    conv.requires_grad_()
    monkeypatch.setattr(plain_gradient, "CAPABILITY", "AVX512")
    assert not is_ours(conv(images))


def test_traced_graphs_are_of_the_convolution(images):
    conv, _ = convolutions(**KINDS[0])
    graph = str(torch.jit.trace(conv, images).inlined_graph)
    assert "aten::_convolution" in graph and "PythonOp" not in graph


@NEWER_TORCH
def test_exported_graphs_are_of_the_convolution(images):
    conv, _ = convolutions(**KINDS[0])
    graph = torch.export.export(conv, (images,)).graph_module.code
    assert "aten.conv2d" in graph and "autograd" not in graph


@NEWER_TORCH
def test_compiled_graphs_take_it_too(images):
    """Also for a batch of another size."""
    conv, plain = convolutions(**KINDS[0])
    torch._dynamo.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph.code)
        return graph

    compiled = torch.compile(conv, backend=backend, fullgraph=True)
    for x in (images, images[:2]):
        x = x.contiguous(memory_format=torch.channels_last)
        results = [convolution(x) for convolution in (compiled, plain)]
        torch.testing.assert_close(*results)
        gradients = [
            torch.autograd.grad(y.square().sum(), c.weight)
            for y, c in zip(results, (conv, plain), strict=True)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-4)
    assert graphs and all("autograd_function_apply" in code for code in graphs)
