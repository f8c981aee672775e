"""The published crops and kernels come out of the composed coordinate maps."""

from fractions import Fraction

import pytest
from property.pyramids import fusion_crops

from fcn_plugin.geometry import AxisMap, Layer, compose, receptive_field, transposed_convolution


def vgg(stages: int) -> list[Layer]:
    convs = (2, 2, 3, 3, 3)
    layers = []
    for stage in range(stages):
        layers += [
            Layer(3, padding=100 if stage == conv == 0 else 1) for conv in range(convs[stage])
        ]
        layers.append(Layer(2, 2, ceil=True))
    return layers


def googlenet(padding: int) -> list[Layer]:
    """An inception's widest branch is its 5 x 5; two, five and two of them."""
    pool, inception = Layer(3, 2, ceil=True), Layer(5, padding=2)
    stem = [Layer(7, 2, padding), pool, Layer(3, padding=1), pool]
    return [*stem, *[inception] * 2, pool, *[inception] * 5, pool, *[inception] * 2]


FC = [Layer(7), Layer(1)]
POOL3, POOL4, FC7 = vgg(3), vgg(4), vgg(5) + FC
ALEXNET = [  # groups and LRN move nothing
    Layer(11, 4, 100),
    Layer(3, 2, ceil=True),
    Layer(5, padding=2),
    Layer(3, 2, ceil=True),
    *[Layer(3, padding=1)] * 3,
    Layer(3, 2, ceil=True),
    Layer(6),
]
# A 5 / 2 convolution that pads 9, and two pools on it, worked out by hand: its pixels are at
# 2 x - 7 in the image, the pools' at 4 x - 6 and 8 x - 4. The second pool's lie half a pixel off
# the first's (kernel 4, which begins 1 before its first): its canvas begins at pixel -1 of the
# first's. The fused ones lie on pixels (kernel 7, which begins 3 before its first).
BY_HAND = [Layer(5, 2, 9), Layer(2, 2, ceil=True)]
NETWORKS = {
    "fcn32s": ([FC7], (19,)),
    "fcn16s": ([POOL4, FC7], (5, 27)),
    "fcn8s": ([POOL3, POOL4, FC7], (5, 9, 31)),
    "alexnet": ([ALEXNET], (18,)),
    "googlenet": ([googlenet(100)], (98,)),
    "by hand": ([BY_HAND, [*BY_HAND, Layer(2, 2, ceil=True)]], (-1, 13)),
}


@pytest.mark.parametrize(("levels", "crops"), NETWORKS.values(), ids=NETWORKS)
def test_published_crops(levels, crops):
    assert fusion_crops(levels) == crops


def test_kernels_follow_from_where_the_grids_lie():
    assert transposed_convolution(compose(FC7)) == Layer(64, 32, transposed=True)
    assert transposed_convolution(compose(ALEXNET)) == Layer(63, 32, transposed=True)
    assert transposed_convolution(compose(FC7).within(compose(POOL4))) == Layer(
        4, 2, transposed=True
    )
    for nowhere in ((2, Fraction(1, 4)), (Fraction(3, 2), 0)):
        with pytest.raises(ValueError, match="no transposed convolution"):
            transposed_convolution(AxisMap(*nowhere))


def test_receptive_fields():
    """CVPR table 1; GoogLeNet's counts the 7 x 7 average pooling, which FCNs do without."""
    assert receptive_field(FC7) == 404
    assert receptive_field(ALEXNET) == 355
    assert receptive_field([*googlenet(3), Layer(7)]) == 907
