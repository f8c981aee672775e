"""Equal rows of a wide border, computed once.

``padding='reference'`` lays 100 zeros around the image. Far from the image all border rows are
equal, and so are their features: a map has a block of equal rows at both ends, and a block of
equal columns at both sides. Each stage computes one of the equal rows; the others are copies of
it, made when the full map is needed. Nothing else changes: rows are left out in multiples of the
stage's stride, so each remaining window sees the same values, and the copies' gradients are summed.

The upper border of VGG16, rows from the first to the last of a block:

    stage   block before   left out   block after
    1        0 - 99        92         1 - 47
    2        1 - 47        40         2 - 22
    3        2 - 22        12         3 -  9
    4        3 -  9         0         none
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from fcn_plugin.geometry import Layer
from fcn_plugin.models.layers import is_hooked
from fcn_plugin.models.plain_gradient import PlainGradientConv


class EqualRows(NamedTuple):
    """``length`` equal rows of a map from row ``start`` on; a tensor has all but ``left_out``.

    Only ``start`` depends on the image's size; the numbers of rows do not.
    """

    start: int = 0
    length: int = 0
    left_out: int = 0

    @property
    def held(self) -> int:
        return self.length - self.left_out

    def whole(self) -> "EqualRows":
        return EqualRows(self.start, self.length)

    def thinned(self, layers: Sequence[Layer]) -> "EqualRows":
        """The fewest of these rows that give one equal output row; all if there is no such row."""
        spare = max(self.through(layers).length - 1, 0)
        stride = prod([layer.stride for layer in layers])
        return EqualRows(self.start, self.length, spare * stride)

    def through(self, layers: Sequence[Layer]) -> "EqualRows":
        """The output rows of ``layers``, first layer first, that see only these rows.

        With a stride their number depends on where the layer's windows start; this is the fewest.
        """
        start, length, left_out = self
        for layer in layers:
            start = -(-(start + layer.padding) // layer.stride)
            windows = length - layer.dilation * (layer.kernel - 1)
            length = max(windows // layer.stride, 0)
            left_out //= layer.stride
        return EqualRows(start, length, left_out)


class Border(NamedTuple):
    """The equal rows at both ends of a map, and the equal columns at both sides."""

    top: EqualRows
    bottom: EqualRows
    left: EqualRows
    right: EqualRows

    @classmethod
    def around(cls, image: Tensor, width: int) -> "Border":
        """The border of ``image`` with ``width`` rows and columns of zeros on each side.

        No equal rows while tracing or compiling: the graph must be valid for any size.
        """
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return cls(*[EqualRows()] * 4)
        height, wide = image.shape[-2:]
        return cls(*[EqualRows(start, width) for start in (0, width + height, 0, width + wide)])

    def whole(self) -> "Border":
        return Border(*[rows.whole() for rows in self])

    def thinned(self, layers: Sequence[Layer]) -> "Border":
        return Border(*[rows.thinned(layers) for rows in self])

    def through(self, layers: Sequence[Layer]) -> "Border":
        return Border(*[rows.through(layers) for rows in self])


def padded(image: Tensor, width: int, border: Border) -> Tensor:
    """``image``, N x C x H x W, in ``width`` zeros a side less those that ``border`` leaves out."""
    if width == 0:
        return image
    top, bottom, left, right = (width - equal.left_out for equal in border)
    return functional.pad(image, (left, right, top, bottom))


def resize_border(x: Tensor, old: Border, new: Border) -> Tensor:
    """Map N x C x h x w with as many equal rows and columns as ``new`` has instead of ``old``.

    In channels-last memory, or ``x`` itself where the numbers are the same.
    """
    if [rows.held for rows in old] == [rows.held for rows in new]:
        return x
    # To N x h x w x C: torch.cat does not recognise slices and copies of a channels-last tensor
    # and would return another memory format.
    x = x.permute(0, 2, 3, 1)
    x = _resize_axis(x, 1, old[:2], new[:2])
    x = _resize_axis(x, 2, old[2:], new[2:])
    return x.permute(0, 3, 1, 2)


def _resize_axis(x: Tensor, dim: int, old: Sequence[EqualRows], new: Sequence[EqualRows]) -> Tensor:
    sizes, copies = [], []
    end = left_out = 0
    for before, after in zip(old, new, strict=True):
        if before.held != after.held:
            start = before.start - left_out
            sizes += [start - end, before.held]
            copies.append(after.held)
            end = start + before.held
        left_out += before.left_out
    if not copies:
        return x
    # The backward pass of one split is one torch.cat; each slice's would make a whole map.
    parts = list(x.split([*sizes, x.shape[dim] - end], dim))
    for i, count in enumerate(copies):
        row = parts[2 * i + 1].narrow(dim, 0, 1)
        parts[2 * i + 1] = row.expand(*x.shape[:dim], count, *x.shape[dim + 1 :])
    return torch.cat(parts, dim)


def thinnable(module: nn.Module) -> bool:
    """Whether leaving out equal rows changes no other output row, and no hook sees the map.

    Normalisation by batch or image statistics and dropout change other rows; unknown layers may.
    """
    if is_hooked(module):
        return False
    if type(module) in (nn.Conv2d, PlainGradientConv):
        return module.padding_mode == "zeros"
    if isinstance(module, _BatchNorm):
        return not module.training and module.running_mean is not None
    if isinstance(module, _DropoutNd):
        return not module.training or module.p == 0
    if type(module) is nn.Sequential or hasattr(module, "window"):
        return all(thinnable(child) for child in module.children())
    return isinstance(module, nn.MaxPool2d | nn.ReLU | nn.LocalResponseNorm)
