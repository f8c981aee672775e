"""Any stack of layers: sizes, maps and receptive fields against torch's own layers.

Brute force: one number of each output is differentiated by all inputs; the inputs with a gradient
are what it sees.
"""

from fractions import Fraction

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from property.amounts import share
from property.pyramids import stack_size
from torch import nn
from torch.nn import functional

from fcn_plugin.geometry import AxisMap, Layer, compose, receptive_field

MAX_SIZE = 400


@st.composite
def layers(draw, transposed: st.SearchStrategy[bool]) -> Layer:
    kernel, stride, dilation = (draw(st.integers(1, most)) for most in (5, 4, 3))
    padding = draw(st.integers(0, (dilation * (kernel - 1) + 1) // 2))
    return Layer(kernel, stride, padding, dilation, transposed=draw(transposed))


plain_stacks = st.lists(layers(st.just(False)), min_size=1, max_size=5)
stacks = st.lists(layers(st.booleans()), min_size=1, max_size=4)


def torchs(layer: Layer) -> nn.Module:
    """A convolution of ones, so that no output loses an input by chance."""
    kind = nn.ConvTranspose1d if layer.transposed else nn.Conv1d
    window = dict(stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
    conv = kind(1, 1, layer.kernel, **window, bias=False).double()
    nn.init.ones_(conv.weight)
    return conv


def run(stack: list[Layer], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An input of ``size`` pixels and torch's output for it; only for sizes that torch takes."""
    signal = torch.ones(1, 1, size, dtype=torch.float64, requires_grad=True)
    x = signal
    for layer in stack:
        assume(0 < layer.size(x.shape[-1]) <= MAX_SIZE)
        x = torchs(layer)(x)
    return signal, x


@given(stacks, st.integers(1, 60))
def test_sizes_are_torchs(stack, size):
    assert run(stack, size)[1].shape[-1] == stack_size(stack, size)


@share(2)
@given(
    kernel=st.integers(1, 6),
    stride=st.integers(1, 5),
    padding=st.integers(0, 3),
    ceil=st.booleans(),
    size=st.integers(1, 60),
)
def test_sizes_of_poolings_are_torchs(kernel, stride, padding, ceil, size):
    """With a last window that would begin beyond the input, too, which torch and Caffe drop."""
    assume(2 * padding <= kernel and size + 2 * padding >= kernel)
    pooled = functional.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, 1, ceil)
    assert Layer(kernel, stride, padding, ceil=ceil).size(size) == pooled.shape[-1]


@given(plain_stacks, st.data())
def test_the_receptive_field_and_its_centre(stack, data):
    """An output that sees no padding sees just so many pixels, and the map tells their middle."""
    field, grid = receptive_field(stack), compose(stack)
    size = min(2 * field + 40, MAX_SIZE)
    outputs = stack_size(stack, size)
    assume(outputs > 0)
    output = data.draw(st.integers(0, outputs - 1), label="output")
    centre = grid.scale * output + grid.offset
    ends = centre - Fraction(field - 1, 2), centre + Fraction(field - 1, 2)
    signal, x = run(stack, size)
    (gradient,) = torch.autograd.grad(x[0, 0, output], signal)
    pixels = gradient[0, 0].nonzero().flatten().tolist()
    if ends[0] >= 0 and ends[1] < size:
        assert (pixels[0], pixels[-1]) == ends
    else:  # part of the field is padding
        assert all(ends[0] <= pixel <= ends[1] for pixel in pixels)


@given(layers(st.just(False)))
def test_a_transposed_convolution_goes_the_way_back(layer):
    """Its outputs are where the convolution's inputs are: torch computes one as the other's
    gradient."""
    window = layer.kernel, layer.stride, layer.padding, layer.dilation
    assert layer.map.then(Layer(*window, transposed=True).map) == AxisMap()


@given(stacks, stacks, stacks, st.integers(0, 50))
def test_maps_compose_in_any_grouping_and_can_be_undone(a, b, c, start):
    first, second, third = compose(a), compose(b), compose(c)
    assert first.then(second).then(third) == first.then(second.then(third)) == compose(a + b + c)
    assert first.then(second).within(first) == second
    assert first.within(first) == AxisMap()
    assert first.shifted(start).within(first) == AxisMap(Fraction(1), Fraction(start))
    floats = first.in_floats()
    assert (floats.scale, floats.offset) == (float(first.scale), float(first.offset))
    assert type(floats.scale) is type(floats.offset) is float
