"""Ways to upsample scores from a coarse grid to a finer one, and where they lie there.

A ``Placement`` says for one axis which pixels of the finer grid are wanted and where the coarse
pixels lie on it: coarse pixel x at scale * x + offset. Any factor, phase and size is a placement,
so nothing is cropped or resized afterwards. E.g. without padding and for a factor of 2, offset is
0.5: fine pixels 0, 1, 2 lie at -0.25, 0.25, 0.75 on the coarse grid.

Shapes: coarse scores N x C x h x w, fine scores N x C x rows.length x cols.length.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.geometry import AxisMap, transposed_convolution

# The most fine pixels that one dense matrix interpolates: a whole axis's matrix would grow with the
# square of the side.
PIECE = 1024


class Placement(NamedTuple):
    """Pixels ``start`` .. ``start + length - 1`` of the finer grid, along one axis."""

    scale: float
    offset: float
    start: int
    length: int

    def coarse(self, like: Tensor) -> Tensor:
        """The positions of these pixels on the coarse grid: ``length`` values in double precision.

        In a graph: in ``like``'s precision, at least single, since its runtime may have no double.
        """
        dtype = finest(like.device)
        if torch.compiler.is_compiling():
            dtype = torch.promote_types(like.dtype, torch.float32)
        fine = torch.arange(self.length, dtype=dtype, device=like.device)
        fine += self.start
        return (fine - self.offset) / self.scale

    def parts(self, x: Tensor, dim: int) -> list[tuple["Placement", Tensor]]:
        """This placement cut into short ones, each with the part of ``x`` that it needs.

        ``x`` is cut along ``dim``. In a graph, where sizes may be symbols, there is one piece.
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
    """Takes coarse scores, a placement per axis, and whether zeros lie beyond the scores."""

    def radius(self, scale: float) -> float:
        """The distance, in fine pixels, at which the weight of a coarse pixel becomes 0."""
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
        for dim, placement in ((-2, rows), (-1, cols)):
            fine = []
            for piece, part in placement.parts(x, dim):
                matrix = interpolation_matrix(piece, part.shape[dim], x, zero_border)
                fine.append(matrix @ part if dim == -2 else part @ matrix.t())
            x = torch.cat(fine, dim) if len(fine) > 1 else fine[0]
        return x


def interpolation_matrix(
    placement: Placement, size: int, like: Tensor, zero_border: bool
) -> Tensor:
    """The weights of ``size`` coarse pixels in each fine one, length x size, of ``like``'s dtype.

    A fine pixel at x takes 1 - |x - i| of coarse pixel i. Rows sum to 1, except with
    ``zero_border`` near the ends, where the pixels beyond count as zeros.
    """
    at = placement.coarse(like)
    if not zero_border:
        at = at.clamp(0, size - 1)
    pixels = torch.arange(size, dtype=at.dtype, device=at.device)
    return (1 - (at[:, None] - pixels).abs()).clamp(min=0).to(like.dtype)


def bilinear_kernel(size: int) -> Tensor:
    """The float64 kernel, size x size, that upsamples by (size + 1) // 2 (Caffe ``surgery.py``)."""
    at = torch.arange(size, dtype=torch.float64, device="cpu")
    tent = 1 - (at - (size - 1) / 2).abs() / ((size + 1) // 2)
    return torch.outer(tent, tent)


class Nearest(Upsampling):
    """Each fine pixel takes the coarse pixel nearest to it."""

    def radius(self, scale: float) -> float:
        return scale / 2

    def forward(self, x: Tensor, rows: Placement, cols: Placement, zero_border: bool) -> Tensor:
        down, across = (
            (placement.coarse(x) + 0.5).floor().long().clamp(0, size - 1)
            for placement, size in ((rows, x.shape[-2]), (cols, x.shape[-1]))
        )
        return x.index_select(-2, down).index_select(-1, across)


class Deconv(Upsampling):
    """Learned transposed convolution of ``channels`` classes that starts as bilinear interpolation.

    ``factor`` is an integer. ``kernel`` is the kernel's side; the default fits grids that begin at
    the same edge (64 for a factor of 32; 2 * factor - 1 for an odd factor).
    """

    bias = False

    def __init__(self, channels: int, factor: int, kernel: int | None = None) -> None:
        super().__init__()
        self.factor = factor
        if kernel is None:
            same_edge = AxisMap(Fraction(factor), Fraction(factor - 1, 2))
            kernel = transposed_convolution(same_edge).kernel
        self.deconv = nn.ConvTranspose2d(channels, channels, kernel, factor, bias=self.bias)
        self.init_weights()

    def radius(self, scale: float) -> float:
        return self.deconv.kernel_size[0] / 2

    def scale(self, coarse: int, fine: int) -> float:
        # Strided layers round sizes up: the last coarse pixel may cover fewer than factor pixels.
        if -(-fine // self.factor) == coarse:
            return self.factor
        return fine / coarse

    def init_weights(self) -> None:
        """The bilinear kernel from each class to itself, nothing between classes."""
        kernel = bilinear_kernel(self.deconv.kernel_size[0])
        with torch.no_grad():
            self.deconv.weight.zero_()
            self.deconv.weight.diagonal(dim1=0, dim2=1).copy_(kernel[..., None])
            if self.deconv.bias is not None:
                self.deconv.bias.zero_()

    def forward(self, x: Tensor, rows: Placement, cols: Placement, zero_border: bool) -> Tensor:
        # Repeat the border once, so that the first and last fine pixels have a neighbour on
        # either side; without one they would fade.
        if not zero_border:
            x = functional.pad(x, (1, 1, 1, 1), mode="replicate")
        border = 0 if zero_border else 1
        down, across = (self._window(placement, border) for placement in (rows, cols))
        return self.deconv(x)[..., down, across]

    def _window(self, placement: Placement, border: int) -> slice:
        """The placement's pixels in the transposed convolution's output."""
        centre = (self.deconv.kernel_size[0] - 1) / 2
        start = placement.start - placement.offset + centre + border * self.factor
        if placement.scale != self.factor or start != int(start):
            raise UserError(
                f"SkipFusionHead: the learned upsampling was built for a factor of {self.factor} "
                f"and a kernel of {self.deconv.kernel_size[0]}, which does not fit features every "
                f"{placement.scale:g} pixels from {placement.offset:g} on; set strides=(...), "
                "finest first, kernels=(...) of an odd or even size, or upsample='bilinear'"
            )
        return slice(int(start), int(start) + placement.length)


class Conv2DTranspose(Deconv):
    """``Deconv`` with a bias, and zeros beyond the scores: scores fade towards the border.

    TensorFlow's and Keras' layer of this name with padding 'same'.
    """

    bias = True

    def forward(self, x: Tensor, rows: Placement, cols: Placement, zero_border: bool) -> Tensor:
        return super().forward(x, rows, cols, zero_border=True)


LEARNED: dict[str, type[Deconv]] = {"deconv": Deconv, "conv2d_transpose": Conv2DTranspose}
KINDS = ("bilinear", "nearest", *LEARNED)


def new_upsampling(kind: str, channels: int, factor: int, kernel: int | None = None) -> Upsampling:
    """A module of one of ``KINDS``; only ``LEARNED`` ones use the other arguments."""
    if kind in LEARNED:
        return LEARNED[kind](channels, factor, kernel)
    return Bilinear() if kind == "bilinear" else Nearest()


def placements(
    sizes: Sequence[Sequence[int]],
    maps: Sequence[AxisMap] | None,
    upsamplings: Iterable[Any],
    crop_to_reach: bool,
) -> list[tuple[Placement, Placement]]:
    """The placements (rows, columns) of each grid on the next finer one, deepest grid first.

    Args:
        sizes: (H, W) of the grids, finest first.
        maps: the grids in the image, if known; otherwise all are taken to cover the same area.
        upsamplings: from each grid but the first to the one before it.
        crop_to_reach: crop the grids between the first and the last to the pixels that upsampling
            the coarser grid reaches, as the published networks do; else they stay whole.
    """
    modules = list(upsamplings)
    rows, cols = (
        _along_axis(axis, maps, modules, crop_to_reach) for axis in zip(*sizes, strict=True)
    )
    return list(zip(rows, cols, strict=True))


def _along_axis(
    sizes: Sequence[int],
    maps: Sequence[AxisMap] | None,
    upsamplings: Sequence[Upsampling],
    crop_to_reach: bool,
) -> list[Placement]:
    deepest_first = []
    length = sizes[-1]
    coarse_map = maps[-1] if maps else None
    for i in reversed(range(len(upsamplings))):
        upsampling, start, end = upsamplings[i], 0, sizes[i]
        if maps is None or coarse_map is None:
            scale = upsampling.scale(length, sizes[i])
            offset = (scale - 1) / 2
        else:
            step = coarse_map.within(maps[i])
            coarse_map = maps[i]
            scale, offset = float(step.scale), float(step.offset)
            if crop_to_reach and i > 0:
                # The first and last pixel that the coarser grid reaches. The scale is whole here;
                # int() keeps sizes integers in a graph.
                radius = upsampling.radius(scale)
                start = max(floor(offset - radius) + 1, 0)
                end = min(ceil(offset + radius) + (length - 1) * int(scale), end)
                coarse_map = coarse_map.shifted(start)
        length = end - start
        deepest_first.append(Placement(scale, offset, start, length))
    return deepest_first
