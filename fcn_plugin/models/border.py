"""What lies on wide padding, computed once.

``padding='reference'`` lays 100 zeros around the image. Out of the image's reach one row of that
border is like the next, and the layers make like rows of like ones: at both ends of a map lie
runs of identical rows, and at both sides runs of identical columns. A stage is given only as much
of a run as it takes to make one row of its own run, and that one is repeated where all are
wanted. Nothing else changes: rows are left out in multiples of the stage's stride, so that every
window that remains sees what it saw, and the backward pass of repeating is summing.

The upper border of VGG16, rows from the first to the last of a run:

    stage   run before   left out   run after
    1        0 - 99      92         1 - 47
    2        1 - 47      40         2 - 22
    3        2 - 22      12         3 -  9
    4        3 -  9       0         none
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
from fcn_plugin.models.bypass import is_hooked


class Run(NamedTuple):
    """``length`` rows of a map from ``start`` on, all alike, of which a tensor may lack some.

    Only ``start`` depends on the size of the image, so that the same rows are left out of any.
    """

    start: int = 0
    length: int = 0
    left_out: int = 0

    @property
    def held(self) -> int:
        return self.length - self.left_out

    def whole(self) -> "Run":
        return Run(self.start, self.length)

    def thinned(self, layers: Sequence[Layer]) -> "Run":
        """As few rows as ``layers`` make one row of their own run from; all if they make none."""
        spare = max(self.through(layers).length - 1, 0)
        stride = prod([layer.stride for layer in layers])
        return Run(self.start, self.length, spare * stride)

    def through(self, layers: Sequence[Layer]) -> "Run":
        """The outputs of ``layers``, first layer first, that see nothing but this run.

        Of a layer with a stride as many as there are wherever its grid falls.
        """
        start, length, left_out = self
        for layer in layers:
            start = -(-(start + layer.padding) // layer.stride)
            places = length - layer.dilation * (layer.kernel - 1)
            length = max(places // layer.stride, 0)
            left_out //= layer.stride
        return Run(start, length, left_out)


class Border(NamedTuple):
    """The runs at the ends of a map's rows and columns."""

    top: Run
    bottom: Run
    left: Run
    right: Run

    @classmethod
    def around(cls, image: Tensor, width: int) -> "Border":
        """Of ``image`` with ``width`` rows and columns of zeros on each side.

        None while a graph is made, which is to be of the plain network and to hold for any size:
        torch.compile would compile anew for every other.
        """
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return cls(*[Run()] * 4)
        rows, cols = image.shape[-2:]
        ends = (0, width + rows, 0, width + cols)
        return cls(*[Run(start, width) for start in ends])

    def whole(self) -> "Border":
        return Border(*[run.whole() for run in self])

    def thinned(self, layers: Sequence[Layer]) -> "Border":
        return Border(*[run.thinned(layers) for run in self])

    def through(self, layers: Sequence[Layer]) -> "Border":
        return Border(*[run.through(layers) for run in self])


def padded(image: Tensor, width: int, border: Border) -> Tensor:
    """``image``, N x C x H x W, within ``width`` zeros less those that ``border`` leaves out."""
    if width == 0:
        return image
    top, bottom, left, right = (width - run.left_out for run in border)
    return functional.pad(image, (left, right, top, bottom))


def refilled(x: Tensor, old: Border, new: Border) -> Tensor:
    """N x C x h x w with the rows and columns of ``old`` to the same with those of ``new``.

    In channels-last memory, or ``x`` itself where there is nothing to do.
    """
    if [run.held for run in old] == [run.held for run in new]:
        return x
    # In the order of memory; slices and repetitions of a channels-last tensor do not look like
    # one, and torch.cat would make another layout of them.
    x = x.permute(0, 2, 3, 1)
    x = _refilled(x, 1, old[:2], new[:2])
    x = _refilled(x, 2, old[2:], new[2:])
    return x.permute(0, 3, 1, 2)


def _refilled(x: Tensor, dim: int, old: Sequence[Run], new: Sequence[Run]) -> Tensor:
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
    # One split, for its backward pass is one torch.cat; of slices it would be a map of each.
    parts = list(x.split([*sizes, x.shape[dim] - done], dim))
    for i, count in enumerate(copies):
        one = parts[2 * i + 1].narrow(dim, 0, 1)
        parts[2 * i + 1] = one.expand(*x.shape[:dim], count, *x.shape[dim + 1 :])
    return torch.cat(parts, dim)


def thinnable(module: nn.Module) -> bool:
    """Whether rows left out of a run change no other row, and nobody would see them gone.

    They would where positions are averaged or drawn at random: normalisation by the batch or by
    the image, dropout; of an unknown layer it has to be assumed. A hook is to see whole maps.
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
