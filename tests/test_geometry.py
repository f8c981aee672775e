"""The published crops and sizes come out of the composed coordinate maps."""

import doctest
from fractions import Fraction

import pytest
import torch
from torch import nn

from fcn_plugin import geometry
from fcn_plugin.geometry import (
    AxisMap,
    Layer,
    compose,
    crop_offset,
    fusion_crops,
    receptive_field,
    stack_size,
    upsampling,
)


def vgg(stages: int, ceil: bool = True) -> list[Layer]:
    convs = (2, 2, 3, 3, 3)
    layers = []
    for stage in range(stages):
        layers += [
            Layer(3, padding=100 if stage == conv == 0 else 1) for conv in range(convs[stage])
        ]
        layers.append(Layer(2, 2, ceil=ceil))
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


ALEXNET = [
    Layer(11, 4, 100),
    Layer(3, 2, ceil=True),
    Layer(5, padding=2),
    Layer(3, 2, ceil=True),
    *[Layer(3, padding=1)] * 3,
    Layer(3, 2, ceil=True),
    Layer(6),
]


def test_alexnet_crop():
    """Kernel 63, stride 32; groups and LRN move nothing."""
    assert crop_offset(AxisMap(), compose([*ALEXNET, Layer(63, 32, transposed=True)])) == 18


def googlenet(padding: int) -> list[Layer]:
    """An inception's widest branch is its 5 x 5; two, five and two of them."""
    pool, inception = Layer(3, 2, ceil=True), Layer(5, padding=2)
    stem = [Layer(7, 2, padding), pool, Layer(3, padding=1), pool]
    return [*stem, *[inception] * 2, pool, *[inception] * 5, pool, *[inception] * 2]


def test_the_crops_of_whole_networks():
    assert fusion_crops([FC7]) == (19,)
    assert fusion_crops([POOL4, FC7]) == (5, 27)
    assert fusion_crops([POOL3, POOL4, FC7]) == (5, 9, 31)
    assert fusion_crops([ALEXNET]) == (18,)
    assert fusion_crops([googlenet(100)]) == (98,)


def test_the_crops_of_a_backbone_that_nobody_published():
    """A 5 / 2 convolution that pads 9, and two pools on it: worked out by hand.

    Its pixels are at 2 x - 7 in the image, the pools' at 4 x - 6 and 8 x - 4. The pool's lie half
    a pixel off the finer's (kernel 4, which begins 1 before its first): its canvas begins at the
    finer's pixel -1, nothing is cut but one of the canvas itself. The fused ones lie on pixels
    (kernel 7, which begins 3 before its first).
    """
    stem, pool = Layer(5, 2, 9), Layer(2, 2, ceil=True)
    assert compose([stem, pool, pool]) == AxisMap(Fraction(8), Fraction(-4))
    assert fusion_crops([[stem, pool], [stem, pool, pool]]) == (-1, 13)


def test_kernels_follow_from_where_the_grids_lie():
    assert upsampling(compose(FC7)).kernel == 64
    assert upsampling(compose(ALEXNET)).kernel == 63
    assert upsampling(compose(FC7).within(compose(POOL4))).kernel == 4
    for nowhere in (AxisMap(Fraction(2), Fraction(1, 4)), AxisMap(Fraction(3, 2))):
        with pytest.raises(ValueError, match="no transposed convolution"):
            upsampling(nowhere)


def test_receptive_fields():
    """CVPR table 1; GoogLeNet's counts the 7 x 7 average pooling, which FCNs do without."""
    assert receptive_field(FC7) == 404
    assert receptive_field(ALEXNET) == 355
    assert receptive_field(googlenet(3)) == 715
    assert receptive_field([*googlenet(3), Layer(7)]) == 907


@pytest.mark.parametrize(
    "levels",
    [[FC7], [POOL4, FC7], [POOL3, POOL4, FC7], [ALEXNET], [googlenet(100)]],
    ids=["fcn32s", "fcn16s", "fcn8s", "alexnet", "googlenet"],
)
def test_the_reference_covers_every_image(levels):
    """From 1 pixel up: the canvases, cropped where published, never run short."""
    crops = fusion_crops(levels)
    steps = [*reversed(levels[:-1]), []]
    for size in range(1, 1500):
        grid, length = compose(levels[-1]), stack_size(levels[-1], size)
        for crop, finer in zip(crops, steps, strict=True):
            up = upsampling(grid.within(compose(finer)))
            grid, length = grid.then(up.map), up.size(length)
            target = stack_size(finer, size)
            # A skip is cut to the canvas; the last canvas is cut to the image.
            assert crop + length <= target if finer else crop + size <= length, size


def test_floor_pooling_runs_short():
    """The control: the FCN-32s crop then lacks pixels at about a third of all sizes."""
    floor = vgg(5, ceil=False) + FC
    missing = [n for n in range(1, 1000) if 19 + n > UP32.size(stack_size(floor, n))]
    assert 300 < len(missing) < 400


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
