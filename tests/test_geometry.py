"""The published crops and sizes come out of the composed coordinate maps."""

import doctest
from fractions import Fraction

import pytest
import torch
from torch import nn

from fcn_plugin import geometry
from fcn_plugin.geometry import AxisMap, Layer, compose, crop_offset, stack_size

POOL = Layer(2, 2, ceil=True)


def vgg(stages: int) -> list[Layer]:
    convs = (2, 2, 3, 3, 3)
    layers = []
    for stage in range(stages):
        layers += [
            Layer(3, padding=100 if stage == conv == 0 else 1) for conv in range(convs[stage])
        ]
        layers.append(POOL)
    return layers


FC = [Layer(7), Layer(1)]
POOL3, POOL4, FC7 = vgg(3), vgg(4), vgg(5) + FC
UP2, UP8, UP16, UP32 = (Layer(2 * f, f, transposed=True) for f in (2, 8, 16, 32))


def test_docstring_examples_hold():
    assert doctest.testmod(geometry).attempted > 0
    assert doctest.testmod(geometry).failed == 0


def test_fcn32s_crop():
    assert crop_offset(AxisMap(), compose([*FC7, UP32])) == 19


def test_fcn16s_and_8s_crops():
    # Each upsampled map is cut to begin where the last one did.
    upscore2 = compose([*FC7, UP2])
    assert crop_offset(upscore2, compose(POOL4)) == 5
    assert crop_offset(AxisMap(), upscore2.then(UP16.map)) == 27
    upscore_pool4 = upscore2.then(UP2.map)
    assert crop_offset(upscore_pool4, compose(POOL3)) == 9
    assert crop_offset(AxisMap(), upscore_pool4.then(UP8.map)) == 31


def test_alexnet_crop():
    """Kernel 63, stride 32; groups and LRN move nothing."""
    alexnet = [
        Layer(11, 4, 100),
        Layer(3, 2, ceil=True),
        Layer(5, padding=2),
        Layer(3, 2, ceil=True),
        *[Layer(3, padding=1)] * 3,
        Layer(3, 2, ceil=True),
        Layer(6),
        Layer(63, 32, transposed=True),
    ]
    assert crop_offset(AxisMap(), compose(alexnet)) == 18


def test_sizes_of_a_500_pixel_side():
    sizes = {
        "pool3": (POOL3, 88),
        "pool4": (POOL4, 44),
        "pool5": (vgg(5), 22),
        "fc7": (FC7, 16),
        "upscore": ([*FC7, UP32], 544),
        "upscore2": ([*FC7, UP2], 34),
        "upscore16": ([*FC7, UP2, UP16], 560),
        "upscore_pool4": ([*FC7, UP2, UP2], 70),
        "upscore8": ([*FC7, UP2, UP2, UP8], 568),
    }
    for name, (layers, expected) in sizes.items():
        assert stack_size(layers, 500) == expected, name


def test_grids_half_a_pixel_apart_have_no_crop():
    with pytest.raises(ValueError, match="no whole-pixel crop"):
        crop_offset(AxisMap(), AxisMap(offset=Fraction(1, 2)))
    with pytest.raises(ValueError, match="no whole-pixel crop"):
        crop_offset(AxisMap(), AxisMap(scale=Fraction(2)))


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (4, 2, 0), (5, 3, 2)])
def test_map_and_size_agree_with_torch(kernel, stride, padding, dilation, transposed):
    """One input pixel lit: the centre of the outputs that see it is where the map says."""
    kind = nn.ConvTranspose1d if transposed else nn.Conv1d
    conv = kind(1, 1, kernel, stride, padding, dilation=dilation, bias=False)
    nn.init.ones_(conv.weight)
    layer = Layer(kernel, stride, padding, dilation, transposed=transposed)
    size, lit = 60, 30
    signal = torch.zeros(1, 1, size)
    signal[..., lit] = 1
    out = conv(signal)[0, 0]
    assert out.shape[0] == layer.size(size)
    seen = out.nonzero().flatten().double()
    # The window of each output that sees the pixel is centred at map(output).
    centres = seen * float(layer.map.scale) + float(layer.map.offset)
    reach = dilation * (kernel - 1) / 2 / (stride if transposed else 1)
    assert (centres - lit).abs().max() <= reach + 1e-9
    assert (centres.mean() - lit).abs() < (0.5 if transposed else stride / 2) + 1e-9
