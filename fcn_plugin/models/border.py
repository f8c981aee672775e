"""Equal rows of a wide border, computed once.

``padding='reference'`` lays 100 zeros around the image. Far from the image all border rows are
equal, and so are their features: both ends of a map have a block of equal rows, and both sides a
block of equal columns. A stage gets only as many rows of a block as it needs to make one row of
its own block; that one is repeated where all are wanted. Nothing else changes: rows are left out
in multiples of the stage's stride, so that each remaining window sees what it saw, and the
backward pass of repeating is summing.

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


class EqualRows(NamedTuple):
    """``length`` equal rows of a map from ``start`` on, less those that a tensor leaves out.

    Only ``start`` depends on the size of the image, so the same rows are left out of any.
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
        """The fewest rows from which ``layers`` make one equal row; all if they make none."""
        spare = max(self.through(layers).length - 1, 0)
        stride = prod([layer.stride for layer in layers])
        return EqualRows(self.start, self.length, spare * stride)

    def through(self, layers: Sequence[Layer]) -> "EqualRows":
        """The outputs of ``layers``, first layer first, that see only these rows.

        A layer with a stride has at least as many of them wherever its grid falls.
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
    """``image``, N x C x H x W, in ``width`` zeros less those that ``border`` leaves out."""
    if width == 0:
        return image
    top, bottom, left, right = (width - equal.left_out for equal in border)
    return functional.pad(image, (left, right, top, bottom))


def refilled(x: Tensor, old: Border, new: Border) -> Tensor:
    """N x C x h x w with the rows and columns that ``new`` holds instead of those of ``old``.

    In channels-last memory, or ``x`` itself where both hold the same.
    """
    if [rows.held for rows in old] == [rows.held for rows in new]:
        return x
    # In the order of memory: slices and repetitions of a channels-last tensor do not look like
    # one, and torch.cat would return another memory format.
    x = x.permute(0, 2, 3, 1)
    x = _refilled(x, 1, old[:2], new[:2])
    x = _refilled(x, 2, old[2:], new[2:])
    return x.permute(0, 3, 1, 2)


def _refilled(x: Tensor, dim: int, old: Sequence[EqualRows], new: Sequence[EqualRows]) -> Tensor:
    sizes, copies = [], []
    done = missing = 0
    for before, after in zip(old, new, strict=True):
        if before.held != after.held:
            start = before.start - missing
            sizes += [start - done, before.held]
            copies.append(after.held)
            done = start + before.held
        missing += before.left_out
    if not copies:
        return x
    # One split, whose backward pass is one torch.cat; that of slices has a whole map for each.
    parts = list(x.split([*sizes, x.shape[dim] - done], dim))
    for i, count in enumerate(copies):
        row = parts[2 * i + 1].narrow(dim, 0, 1)
        parts[2 * i + 1] = row.expand(*x.shape[:dim], count, *x.shape[dim + 1 :])
    return torch.cat(parts, dim)


def thinnable(module: nn.Module) -> bool:
    """Whether leaving out equal rows changes no other row, and no hook sees the map.

    It would where positions are averaged or drawn at random: normalisation by the batch or by the
    image, dropout; and maybe in an unknown layer.
    """
    if is_hooked(module):
        return False
    if type(module) is nn.Conv2d:
        return module.padding_mode == "zeros"
    if isinstance(module, _BatchNorm):
        return not module.training and module.running_mean is not None
    if isinstance(module, _DropoutNd):
        return not module.training or module.p == 0
    if type(module) is nn.Sequential or hasattr(module, "window"):
        return all(thinnable(child) for child in module.children())
    return isinstance(module, nn.MaxPool2d | nn.ReLU | nn.LocalResponseNorm)
