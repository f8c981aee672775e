"""Full-resolution labels and scores from scores on a coarse grid, block by block.

Upsampling is linear and local: fine = down @ coarse @ across.T, and each row of the two matrices
has a few neighbouring weights, whatever the scale, phase, crop, mirroring and final resizing. Each
block takes small dense parts of the matrices, so the full-resolution scores (64x larger at stride
8) and the matrices (as large as the square of the side) are never all in memory.

Shapes: coarse scores N x C x h x w, in blocks N x h x C x w; fine maps N x H x W.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fcn_plugin.models.upsample import Placement

# Fine scores of a block, over all classes: as many as a CPU's caches hold, or enough to fill a GPU.
ELEMENTS, ELEMENTS_ON_GPU = 2**20, 2**24
# Blocks are low, since each fine pixel is multiplied with all coarse rows of its block. Widths are
# multiples of 32 (reductions are slower otherwise) and at most 1024 (wider matrices cost more than
# they save).
HEIGHT, WIDTH, VECTOR = 32, 1024, 32


class CoarseScores(NamedTuple):
    """Scores N x C x h x w, and the rows and columns of the image's pixels on their grid.

    ``zero_border``: zeros lie beyond the scores; otherwise the outermost scores continue.
    """

    scores: Tensor
    rows: Placement
    cols: Placement
    zero_border: bool


@dataclass(frozen=True, eq=False)
class Axis:
    """The weights of coarse pixels in each fine pixel, along one axis.

    Attributes:
        pixels: length x taps, int64: each fine pixel's neighbouring coarse pixels, from the first
            with a weight; those past the last coarse pixel have weight 0.
        weights: length x taps: the weights of ``pixels``.
        spans: for each fine pixel the first coarse pixel with a weight, and one past the last;
            increasing, or decreasing where the image is mirrored.
    """

    pixels: Tensor
    weights: Tensor
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.spans)

    def part(self, fine: slice, multiple: int = 1) -> tuple[slice, Tensor]:
        """The coarse pixels that a slice of fine pixels needs, and their dense weight matrix.

        Rows of zeros are appended, up to a ``multiple``.
        """
        starts, stops = zip(self.spans[fine.start], self.spans[fine.stop - 1], strict=True)
        coarse = slice(min(starts), max(stops))
        length, width = fine.stop - fine.start, coarse.stop - coarse.start
        taps = self.weights.shape[1]
        matrix = self.weights.new_zeros(length + -length % multiple, width + taps)
        matrix[:length].scatter_(1, self.pixels[fine] - coarse.start, self.weights[fine])
        return coarse, matrix[:, :width]


# Cached, since training crops have one size: a GPU then does not wait for the weights.
@lru_cache(maxsize=32)
def axis(
    placement: Placement,
    size: int,
    zero_border: bool,
    dtype: torch.dtype,
    device: torch.device,
    length: int | None = None,
    padding: tuple[int, int] = (0, 0),
    mirrored: bool = False,
) -> Axis:
    """The weights of ``size`` coarse pixels in the pixels of ``placement`` or the original image.

    The fine pixels of ``placement`` are cut by ``padding`` at both ends, reversed if ``mirrored``,
    and bilinearly resized to ``length``; default: not resized.
    """
    # On the CPU: reading values there does not wait for a GPU.
    exact = torch.empty(0, dtype=torch.float64, device="cpu")
    at = placement.coarse(exact)[padding[0] : placement.length - padding[1]]
    if mirrored:
        at = at.flip(0)
    pixels, weights = _neighbours(at, size, zero_border)
    if length is not None and length != len(at):
        # Each pixel of the original image lies between two fine pixels.
        scale = length / len(at)
        at = Placement(scale, (scale - 1) / 2, 0, length).coarse(exact)
        both, shares = _neighbours(at, len(weights), zero_border=False)
        pixels = pixels[both].flatten(1)
        weights = (weights[both] * shares[..., None]).flatten(1)
    needed = weights != 0
    # A fine pixel beyond a zero border needs no coarse pixel; it gets one of weight 0.
    needed[:, 0] |= ~needed.any(1)
    first = pixels.where(needed, size).amin(1, keepdim=True)
    stop = pixels.where(needed, -1).amax(1, keepdim=True) + 1
    taps = int((stop - first).max())
    # A coarse pixel listed twice gets the sum of both weights.
    tap = (pixels - first).clamp(0, taps - 1)
    weights = weights.new_zeros(len(weights), taps).scatter_add_(1, tap, weights)
    pixels = first + torch.arange(taps, device="cpu")
    spans = tuple(map(tuple, torch.cat((first, stop), 1).tolist()))
    return Axis(pixels.to(device), weights.to(device, dtype), spans)


def _neighbours(at: Tensor, size: int, zero_border: bool) -> tuple[Tensor, Tensor]:
    """The two pixels, out of ``size``, around each of P positions and their weights; P x 2 each.

    Pixels beyond the ends have weight 0 if ``zero_border``; else the end pixel has all weight.
    """
    if not zero_border:
        at = at.clamp(0, size - 1)
    pixels = at.floor()[:, None] + torch.arange(2, dtype=at.dtype, device=at.device)
    weights = 1 - (at[:, None] - pixels).abs()
    inside = pixels.clamp(0, size - 1)
    return inside.long(), weights * (inside == pixels)


@dataclass(frozen=True)
class Block:
    """Fine pixels of some images, and the coarse scores they need.

    ``across`` has extra rows of zeros; their columns of fine scores are ignored. All blocks share
    ``buffer`` for their fine scores: allocating memory can take as long as computing them.
    """

    images: slice
    rows: slice
    cols: slice
    coarse_rows: slice
    coarse_cols: slice
    down: Tensor
    across: Tensor
    buffer: Tensor

    def fine_scores(self, scores: Tensor) -> Tensor:
        """The block of fine scores, (images rows) x C x columns, from coarse ones N x h x C x w."""
        window = scores[self.images, self.coarse_rows, :, self.coarse_cols]
        n, h, channels, w = window.shape
        wide = torch.mm(window.reshape(-1, w), self.across.t())
        shape = n, len(self.down), channels * len(self.across)
        fine = self.buffer[: prod(shape)].view(shape)
        torch.matmul(self.down, wide.view(n, h, -1), out=fine)
        return fine.view(-1, channels, len(self.across))

    def add_gradient(self, fine: Tensor, coarse: Tensor) -> None:
        """Add the block's gradient ``fine``, carried back to coarse pixels, to ``coarse``."""
        window = coarse[self.images, self.coarse_rows, :, self.coarse_cols]
        wide = torch.matmul(self.down.t(), fine.view(len(window), len(self.down), -1))
        window += torch.mm(wide.view(-1, len(self.across)), self.across).view(window.shape)

    def cut(self, fine: Tensor, filler: int) -> Tensor:
        """The block of a map N x H x W, (images rows) x 1 x columns, widened with ``filler``."""
        window = fine[self.images, self.rows, self.cols].flatten(0, 1)[:, None]
        return functional.pad(window, (0, len(self.across) - window.shape[-1]), value=filler)

    def put(self, values: Tensor, fine: Tensor) -> None:
        """Write values of the shape that ``cut`` returns into the map."""
        window = fine[self.images, self.rows, self.cols]
        window.copy_(values[..., : window.shape[-1]].reshape(window.shape))


def blocks(images: int, channels: int, rows: Axis, cols: Axis) -> Iterator[Block]:
    """Blocks that cover the fine grids of all images."""
    on_gpu = rows.weights.device.type != "cpu"
    pixels = max((ELEMENTS_ON_GPU if on_gpu else ELEMENTS) // channels, 1)
    height = min(HEIGHT, len(rows))
    width = min(max(pixels // height // VECTOR, 1) * VECTOR, WIDTH)
    batch = max(pixels // (len(rows) * len(cols)), 1)
    columns = [(part, *cols.part(part, VECTOR)) for part in parts(len(cols), width)]
    widest = max(len(weights) for _, _, weights in columns)
    buffer = rows.weights.new_empty(min(batch, images) * height * channels * widest)
    for row_part in parts(len(rows), HEIGHT):
        coarse_rows, down = rows.part(row_part)
        for col_part, coarse_cols, across in columns:
            for image_part in parts(images, batch):
                yield Block(
                    image_part, row_part, col_part, coarse_rows, coarse_cols, down, across, buffer
                )


def parts(length: int, most: int) -> list[slice]:
    """Slices of at most ``most`` that cover ``length``.

    >>> parts(10, 4)
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    return [slice(start, min(start + most, length)) for start in range(0, length, most)]


def in_single(scores: Tensor) -> Tensor:
    """Scores in at least single precision."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def class_rows(scores: Tensor) -> Tensor:
    """Scores N x C x h x w in the layout of blocks, N x h x C x w."""
    return scores.permute(0, 2, 1, 3).contiguous()


@torch.no_grad()
def labels(scores: Tensor, rows: Axis, cols: Axis) -> Tensor:
    """The class of the highest score at each fine pixel.

    Scores N x C x h x w; returns N x H x W, int64. A tie gives its first class, NaN any class.
    """
    images, channels = scores.shape[:2]
    with torch.autocast(scores.device.type, enabled=False):
        scores = class_rows(in_single(scores))
        classes = torch.empty(images, len(rows), len(cols), dtype=torch.long, device=scores.device)
        # Several times faster than an arg-max on CPUs: the highest scores become 1, all others 0,
        # and the first class of a tie has the largest weight.
        last = channels - 1
        weights = torch.arange(last, -1, -1, dtype=scores.dtype, device=scores.device)[:, None]
        for block in blocks(images, channels, rows, cols):
            fine = block.fine_scores(scores)
            fine = fine.eq_(fine.amax(1, keepdim=True)).mul_(weights)
            block.put(last - fine.amax(1), classes)
    return classes


@torch.no_grad()
def fine_scores(scores: Tensor, rows: Axis, cols: Axis) -> Tensor:
    """All fine scores, N x C x H x W in at least single precision, from scores N x C x h x w."""
    images, channels = scores.shape[:2]
    with torch.autocast(scores.device.type, enabled=False):
        scores = class_rows(in_single(scores))
        all_scores = scores.new_empty(images, channels, len(rows), len(cols))
        for block in blocks(images, channels, rows, cols):
            window = all_scores[block.images, :, block.rows, block.cols]
            fine = block.fine_scores(scores)[..., : window.shape[-1]]
            window.copy_(fine.view(len(window), -1, *fine.shape[1:]).transpose(1, 2))
    return all_scores
