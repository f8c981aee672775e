"""Three ways to carry scores from a coarse grid onto a finer one.

Each takes scores N x C x h x w and, for either axis, a ``Placement``: which pixels of the finer
grid are asked for and where they lie in the coarse one. Any factor, any phase and any size is
such a placement, so nothing is cropped or resized afterwards.

A coarse pixel at x lies at scale * x + offset on the finer grid; e.g. without padding and for a
factor of 2, offset is 0.5: fine pixels 0, 1, 2 lie at -0.25, 0.25, 0.75.
"""

from fractions import Fraction
from math import floor
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.geometry import AxisMap, upsampling

# Fine pixels of an axis that are interpolated with one dense matrix, so that no matrix grows with
# the square of the side.
PIECE = 1024


class Placement(NamedTuple):
    """Pixels ``start`` .. ``start + length - 1`` of the finer grid, along one axis."""

    scale: float
    offset: float
    start: int
    length: int

    def coarse(self, like: Tensor) -> Tensor:
        """Where these pixels lie in the coarse grid: ``length`` values in double precision.

        In a graph in ``like``'s, at least single: what runs it may know no other.
        """
        dtype = finest(like.device)
        if torch.compiler.is_compiling():
            dtype = torch.promote_types(like.dtype, torch.float32)
        fine = torch.arange(self.length, dtype=dtype, device=like.device)
        fine += self.start
        return (fine - self.offset) / self.scale

    def parts(self, x: Tensor, dim: int) -> list[tuple["Placement", Tensor]]:
        """Short pieces of it, each with the part of ``x`` along ``dim`` that it lies in.

        In a graph, where sizes may be symbols, it stays in one piece.
        """
        in_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if in_graph or self.length <= PIECE:
            return [(self, x)]
        size, end = x.shape[dim], self.start + self.length
        pieces = []
        for start in range(self.start, end, PIECE):
            length = min(PIECE, end - start)
            ends = ((fine - self.offset) / self.scale for fine in (start, start + length - 1))
            first, last = (min(max(floor(at), 0), size - 1) for at in ends)
            piece = Placement(self.scale, self.offset + first * self.scale, start, length)
            pieces.append((piece, x.narrow(dim, first, min(last + 2, size) - first)))
        return pieces

    @property
    def pixels(self) -> slice:
        """These pixels on the finer grid."""
        return slice(self.start, self.start + self.length)


def finest(device: torch.device) -> torch.dtype:
    """The finest precision of a device; Apple's GPUs have single precision only."""
    return torch.float32 if device.type == "mps" else torch.float64


class Upsampling(nn.Module):
    """Scores of ``channels`` classes to a grid ``factor`` times as fine.

    The fixed kinds need none of the numbers, they follow the placement.
    """

    def __init__(self, channels: int, factor: int, kernel: int | None = None) -> None:
        super().__init__()

    def radius(self, scale: float) -> float:
        """How far, in fine pixels, a coarse pixel reaches: less than this."""
        return scale

    def scale(self, coarse: int, fine: int) -> float:
        """Fine pixels per coarse pixel, if both sizes cover the same area."""
        return fine / coarse


class Bilinear(Upsampling):
    """Fixed bilinear interpolation, as products with interpolation matrices.

    The same numbers as a transposed convolution with the bilinear kernel (``zero_border``) or as
    ``functional.interpolate`` (otherwise), at any scale and phase.
    """

    def forward(self, x: Tensor, rows: Placement, cols: Placement, zero_border: bool) -> Tensor:
        high = [
            torch.matmul(interpolation_matrix(fine, part.shape[-2], x, zero_border), part)
            for fine, part in rows.parts(x, -2)
        ]
        x = torch.cat(high, -2) if len(high) > 1 else high[0]
        wide = [
            torch.matmul(part, interpolation_matrix(fine, part.shape[-1], x, zero_border).t())
            for fine, part in cols.parts(x, -1)
        ]
        return torch.cat(wide, -1) if len(wide) > 1 else wide[0]


def interpolation_matrix(axis: Placement, size: int, like: Tensor, zero_border: bool) -> Tensor:
    """length x size: the weights of ``size`` coarse pixels in each fine one, in ``like``'s dtype.

    A fine pixel at x takes 1 - |x - i| of coarse pixel i. Rows sum to 1, unless ``zero_border``
    lets the pixels beyond the ends count as zeros.
    """
    at = axis.coarse(like)
    if not zero_border:
        at = at.clamp(0, size - 1)
    pixels = torch.arange(size, dtype=at.dtype, device=at.device)
    return (1 - (at[:, None] - pixels).abs()).clamp(min=0).to(like.dtype)


def bilinear_kernel(size: int) -> Tensor:
    """size x size in double precision, for upsampling by (size + 1) // 2 (Caffe ``surgery.py``)."""
    at = torch.arange(size, dtype=torch.float64, device="cpu")
    tent = 1 - (at - (size - 1) / 2).abs() / ((size + 1) // 2)
    return torch.outer(tent, tent)


class Nearest(Upsampling):
    """Each fine pixel takes the coarse pixel nearest to it."""

    def radius(self, scale: float) -> float:
        return scale / 2

    def forward(self, x: Tensor, rows: Placement, cols: Placement, zero_border: bool) -> Tensor:
        down, across = (
            (axis.coarse(x) + 0.5).floor().long().clamp(0, size - 1)
            for axis, size in ((rows, x.shape[-2]), (cols, x.shape[-1]))
        )
        return x.index_select(-2, down).index_select(-1, across)


class Deconv(Upsampling):
    """Learned transposed convolution, class by class, that starts as bilinear interpolation.

    Stride and kernel are fixed when it is built, so it serves one whole factor only. The kernel
    defaults to that between grids which begin at the same edge (64/32; 3/2 of an odd factor).
    """

    def __init__(self, channels: int, factor: int, kernel: int | None = None) -> None:
        super().__init__(channels, factor)
        self.factor = factor
        if kernel is None:
            same_edge = AxisMap(Fraction(factor), Fraction(factor - 1, 2))
            kernel = upsampling(same_edge).kernel
        self.deconv = nn.ConvTranspose2d(channels, channels, kernel, factor, bias=False)
        self.init_weights()

    def radius(self, scale: float) -> float:
        return self.deconv.kernel_size[0] / 2

    def scale(self, coarse: int, fine: int) -> float:
        # Strided layers round sizes up, so the last coarse pixel may cover less than factor.
        if -(-fine // self.factor) == coarse:
            return self.factor
        return fine / coarse

    def init_weights(self) -> None:
        """The bilinear kernel from each class to itself, nothing between classes."""
        kernel = bilinear_kernel(self.deconv.kernel_size[0])
        with torch.no_grad():
            self.deconv.weight.zero_()
            self.deconv.weight.diagonal(dim1=0, dim2=1).copy_(kernel[..., None])

    def forward(self, x: Tensor, rows: Placement, cols: Placement, zero_border: bool) -> Tensor:
        # Repeating the border once lets the first and last fine pixels see a neighbour on
        # either side; with zeros beyond it they would fade.
        border = 0 if zero_border else 1
        if border:
            x = functional.pad(x, (border,) * 4, mode="replicate")
        canvas = self.deconv(x)
        down, across = (self._window(axis, border) for axis in (rows, cols))
        return canvas[..., down, across]

    def _window(self, axis: Placement, border: int) -> slice:
        """Where the pixels asked for lie in the transposed convolution's output."""
        centre = (self.deconv.kernel_size[0] - 1) / 2
        start = axis.start - axis.offset + centre + border * self.factor
        if axis.scale != self.factor or start != int(start):
            raise UserError(
                f"SkipFusionHead: the learned upsampling was built for a factor of {self.factor} "
                f"and a kernel of {self.deconv.kernel_size[0]}, which does not carry features "
                f"{axis.scale:g} apart at {axis.offset:g}; give strides=(...), finest first, "
                "kernels=(...) of an odd or even size, or upsample='bilinear'"
            )
        return slice(int(start), int(start) + axis.length)


UPSAMPLINGS = {"bilinear": Bilinear, "deconv": Deconv, "nearest": Nearest}
