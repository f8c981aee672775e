"""Where the pixels of a feature map lie in the image.

A layer with a window maps its output pixel x to the centre of x's window, at
x_in = scale * x + offset in the layer's input. These maps compose, so the position of any feature
in the image, and every crop of the published networks, follows from the layers alone.

Along one axis, with the pixel centres of the input at 0, 1, 2, ...:

    layer                                   scale      offset
    convolution, pooling k/s, padding p     s          (k - 1) / 2 - p
    transposed convolution k/s, padding p   1 / s      -((k - 1) / 2 - p) / s

Worked example, FCN-32s: conv1_1 pads 100 (offset -99), five 2/2 pools (+ 0.5, 1, 2, 4, 8), fc6
7x7 at stride 32 (+ 96), so fc7 is at 32 x + 12.5. Upsampled by 64/32 that is x - 19: the image
begins at pixel 19 of the upsampled scores, which is the published crop.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce


@dataclass(frozen=True)
class AxisMap:
    """x_in = scale * x + offset along one axis, in exact fractions or in floats."""

    scale: Fraction | float = Fraction(1)
    offset: Fraction | float = Fraction(0)

    def then(self, later: "AxisMap") -> "AxisMap":
        """The map of two layers in a row, from ``later``'s output to this layer's input."""
        return AxisMap(self.scale * later.scale, self.scale * later.offset + self.offset)

    def within(self, other: "AxisMap") -> "AxisMap":
        """The map from this grid's pixels to ``other``'s; both are maps to the same image."""
        return AxisMap(self.scale / other.scale, (self.offset - other.offset) / other.scale)

    def shifted(self, start: int) -> "AxisMap":
        """The same grid with its first ``start`` pixels cut away."""
        return AxisMap(self.scale, self.offset + self.scale * start)

    def in_floats(self) -> "AxisMap":
        """The same map in floats, for torch.compile, which does not support fractions."""
        return AxisMap(float(self.scale), float(self.offset))


@dataclass(frozen=True)
class Layer:
    """The window of one layer along one axis.

    ``padding`` is the number of pixels before the first. ``ceil`` rounds the number of outputs up
    (Caffe's pooling); ``transposed`` is a transposed convolution (upsampling).
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    ceil: bool = False
    transposed: bool = False

    @property
    def map(self) -> AxisMap:
        """The map from the layer's output pixels to its input pixels."""
        centre = Fraction(self.dilation * (self.kernel - 1), 2) - self.padding
        if self.transposed:
            return AxisMap(Fraction(1, self.stride), -centre / self.stride)
        return AxisMap(Fraction(self.stride), centre)

    def size(self, size: int) -> int:
        """Number of outputs for ``size`` inputs."""
        reach = self.dilation * (self.kernel - 1) + 1
        if self.transposed:
            return (size - 1) * self.stride + reach - 2 * self.padding
        last_start = size + 2 * self.padding - reach
        if self.ceil:
            outputs = -(-last_start // self.stride) + 1
            # torch and Caffe drop a last window that begins beyond the input.
            return outputs - ((outputs - 1) * self.stride >= size + self.padding)
        return last_start // self.stride + 1


def compose(layers: Iterable[Layer]) -> AxisMap:
    """The map of a stack of layers, first layer first, from its output to its input.

    >>> pool = Layer(kernel=2, stride=2, ceil=True)
    >>> compose([Layer(kernel=3, padding=100), pool, pool])
    AxisMap(scale=Fraction(4, 1), offset=Fraction(-195, 2))
    """
    return reduce(AxisMap.then, (layer.map for layer in layers), AxisMap())


def receptive_field(layers: Iterable[Layer]) -> int:
    """The number of image pixels, along one axis, that one output of a stack of layers sees.

    >>> receptive_field([Layer(kernel=3), Layer(kernel=2, stride=2), Layer(kernel=3)])
    8
    """
    field, stride = 1, 1
    for layer in layers:
        field += layer.dilation * (layer.kernel - 1) * stride
        stride *= layer.stride
    return field


def transposed_convolution(step: AxisMap) -> Layer:
    """The layer that upsamples a grid to a finer one with a bilinear kernel.

    ``step`` is the map from the coarse grid's pixels to the finer's. Coarse pixels half-way between
    fine pixels need an even kernel (VGG, 64/32), coarse pixels on fine pixels an odd one (AlexNet,
    63/32); with the other kernel the outermost weights would be zero.
    """
    factor = step.scale
    if factor != int(factor) or 2 * step.offset != int(2 * step.offset):
        raise ValueError(f"no transposed convolution upsamples a grid by {step}")
    on_a_pixel = step.offset == int(step.offset)
    return Layer(2 * int(factor) - on_a_pixel, int(factor), transposed=True)
