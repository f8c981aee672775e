"""Stacks of layers like VGG's, of any depth and width, with a score level at each pooling."""

from collections.abc import Iterable, Sequence
from functools import reduce

from hypothesis import strategies as st

from fcn_plugin.geometry import AxisMap, Layer, compose, transposed_convolution


@st.composite
def pyramids(draw, padded: bool) -> list[list[Layer]]:
    """The layers from the image to each level, finest first: convolutions and 2/2 poolings.

    Behind the deepest pooling there is one wider convolution, in place of that level or a level
    of the same stride more. ``padded`` as published: the first convolution pads the image by more
    than the wide one takes away; otherwise each pads its own.
    """
    convs = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5), label="convolutions")
    wide = draw(st.integers(0, 3), label="half of the wide one")
    deepest = 2 ** len(convs)
    padding = 1
    if padded:
        padding = wide * deepest + draw(st.integers(1, 3 * deepest), label="padding beyond that")
    stack, levels = [], []
    for number in convs:
        stack = [*stack, *[Layer(3, padding=1)] * number, Layer(2, 2, ceil=True)]
        stack[0] = Layer(3, padding=padding)
        levels.append(stack)
    if not draw(st.booleans(), label="the deepest pooling, too"):
        levels.pop()
    return [*levels, [*stack, Layer(1 + 2 * wide, padding=0 if padded else wide)]]


def stack_size(layers: Iterable[Layer], size: int) -> int:
    """Number of outputs of a stack of layers for ``size`` inputs."""
    return reduce(lambda n, layer: layer.size(n), layers, size)


def crop_offset(of: AxisMap, to: AxisMap) -> int:
    """The pixel of grid ``to`` at which grid ``of`` begins, whole pixels apart (Caffe's Crop)."""
    step = of.within(to)
    assert step.scale == 1 and step.offset == int(step.offset)
    return int(step.offset)


def fusion_crops(levels: Sequence[Iterable[Layer]]) -> tuple[int, ...]:
    """The crops of skip fusion: of each finer level's scores, deepest first, then to the image."""
    *finer, grid = map(compose, levels)
    crops = []
    for target in reversed(finer):
        grid = grid.then(transposed_convolution(grid.within(target)).map)
        crops.append(crop_offset(grid, target))
    canvas = grid.then(transposed_convolution(grid).map)
    return (*crops, crop_offset(AxisMap(), canvas))
