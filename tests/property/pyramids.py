"""Stacks of layers like VGG's, of any depth and width, with a score level at each pooling."""

from hypothesis import strategies as st

from fcn_plugin.geometry import Layer


@st.composite
def pyramids(draw, padded: bool) -> list[list[Layer]]:
    """The layers from the image to each level, finest first: convolutions and 2/2 poolings.

    Behind the deepest pooling there is one wider convolution. ``padded`` as published: the first
    convolution pads the image by more than the wide one takes away; otherwise each pads its own.
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
    levels[-1] = [*stack, Layer(1 + 2 * wide, padding=0 if padded else wide)]
    return levels
