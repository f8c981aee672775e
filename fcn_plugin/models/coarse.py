"""Labels, losses and scores of an image from scores on a coarse grid, block by block.

Upsampling is linear, known and local: fine = down @ coarse @ across.T, where each row of the two
matrices has a few weights side by side, whatever the scale, phase, crop, mirroring and later
resizing. Each block takes small dense parts of the matrices, so the full-resolution scores (64x
larger at stride 8) and the matrices (as large as the square of the side) are never all in memory.

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

# Fine scores of a block, over all classes: on a CPU as many as its caches hold, elsewhere enough to
# fill a GPU. Blocks are low, since each fine pixel is multiplied with all coarse rows of its block;
# whole vectors wide, or reductions take several times as long; and not wider than their dense
# matrices pay for.
ELEMENTS, ELEMENTS_ON_GPU = 2**20, 2**24
HEIGHT, WIDTH, VECTOR = 32, 1024, 32


class CoarseScores(NamedTuple):
    """Scores N x C x h x w and where an image's pixels lie among them.

    ``zero_border``: zeros lie beyond them; otherwise their border continues.
    """

    scores: Tensor
    rows: Placement
    cols: Placement
    zero_border: bool


@dataclass(frozen=True, eq=False)
class Axis:
    """The weights of coarse pixels in fine ones along one axis.

    Attributes:
        pixels: length x taps, int64: the coarse pixels of each fine one, side by side from the
            first with a weight on; some may lie past the last coarse pixel and weigh nothing.
        weights: length x taps, their weights.
        spans: for each fine pixel the first coarse pixel with a weight, and one past the last;
            they rise, or fall where the image is mirrored.
    """

    pixels: Tensor
    weights: Tensor
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.spans)

    def part(self, fine: slice, multiple: int = 1) -> tuple[slice, Tensor]:
        """The coarse pixels that some fine pixels need, and the dense matrix of their weights.

        Rows of zeros follow, up to a ``multiple``.
        """
        starts, stops = zip(self.spans[fine.start], self.spans[fine.stop - 1], strict=True)
        coarse = slice(min(starts), max(stops))
        length, width = fine.stop - fine.start, coarse.stop - coarse.start
        taps = self.weights.shape[1]
        matrix = self.weights.new_zeros(length + -length % multiple, width + taps)
        matrix[:length].scatter_(1, self.pixels[fine] - coarse.start, self.weights[fine])
        return coarse, matrix[:, :width]


# Cached, since crops have one size; on a GPU nothing then waits for the weights.
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
    """From ``size`` coarse pixels to the fine ones of ``placement``, and on to the original image.

    The fine pixels lose their ``padding`` at both ends, are reversed if ``mirrored``, and
    bilinearly resized to ``length``; default: they are not resized.
    """
    # On the CPU, where reading values waits for no GPU.
    exact = torch.empty(0, dtype=torch.float64, device="cpu")
    at = placement.coarse(exact)[padding[0] : placement.length - padding[1]]
    if mirrored:
        at = at.flip(0)
    pixels, weights = _neighbours(at, size, zero_border)
    if length is not None and length != len(at):
        # Each pixel of the original lies between two of these.
        scale = length / len(at)
        at = Placement(scale, (scale - 1) / 2, 0, length).coarse(exact)
        both, shares = _neighbours(at, len(weights), zero_border=False)
        pixels = pixels[both].flatten(1)
        weights = (weights[both] * shares[..., None]).flatten(1)
    needed = weights != 0
    # A fine pixel beyond zero borders needs none, and gets one of weight 0.
    needed[:, 0] |= ~needed.any(1)
    first = pixels.where(needed, size).amin(1, keepdim=True)
    stop = pixels.where(needed, -1).amax(1, keepdim=True) + 1
    taps = int((stop - first).max())
    # A pixel that is named twice gets both weights.
    tap = (pixels - first).clamp(0, taps - 1)
    weights = weights.new_zeros(len(weights), taps).scatter_add_(1, tap, weights)
    pixels = first + torch.arange(taps, device="cpu")
    spans = tuple(map(tuple, torch.cat((first, stop), 1).tolist()))
    return Axis(pixels.to(device), weights.to(device, dtype), spans)


def _neighbours(at: Tensor, size: int, zero_border: bool) -> tuple[Tensor, Tensor]:
    """The two of ``size`` pixels around each of P positions, and their weights; P x 2 each.

    Pixels beyond the ends weigh nothing if ``zero_border``; else the end pixel has all weight.
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

    ``across`` has extra rows, whose columns are ignored. ``buffer`` holds the fine scores of this
    block and then of the next: new memory each time can cost as much as what is computed in it.
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
        """Coarse scores N x h x C x w to the block's, (images rows) x C x columns."""
        window = scores[self.images, self.coarse_rows, :, self.coarse_cols]
        n, h, channels, w = window.shape
        wide = torch.mm(window.reshape(-1, w), self.across.t())
        shape = n, len(self.down), channels * len(self.across)
        fine = self.buffer[: prod(shape)].view(shape)
        torch.matmul(self.down, wide.view(n, h, -1), out=fine)
        return fine.view(-1, channels, len(self.across))

    def add_gradient(self, fine: Tensor, coarse: Tensor) -> None:
        """Add the block's gradient to that of the coarse scores; ``fine_scores`` transposed."""
        window = coarse[self.images, self.coarse_rows, :, self.coarse_cols]
        wide = torch.matmul(self.down.t(), fine.view(len(window), len(self.down), -1))
        window += torch.mm(wide.view(-1, len(self.across)), self.across).view(window.shape)

    def cut(self, fine: Tensor, filler: int) -> Tensor:
        """The block of a map N x H x W: (images rows) x 1 x columns, extra ones of ``filler``."""
        window = fine[self.images, self.rows, self.cols].flatten(0, 1)[:, None]
        return functional.pad(window, (0, len(self.across) - window.shape[-1]), value=filler)

    def put(self, values: Tensor, fine: Tensor) -> None:
        """Write to the map what ``cut`` would return."""
        window = fine[self.images, self.rows, self.cols]
        window.copy_(values[..., : window.shape[-1]].reshape(window.shape))


def blocks(images: int, channels: int, rows: Axis, cols: Axis) -> Iterator[Block]:
    """Blocks that cover the fine grid of N images."""
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
            for some in parts(images, batch):
                yield Block(
                    some, row_part, col_part, coarse_rows, coarse_cols, down, across, buffer
                )


def parts(length: int, most: int) -> list[slice]:
    """Cut ``length`` into parts of ``most`` and what remains.

    >>> parts(10, 4)
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    return [slice(start, min(start + most, length)) for start in range(0, length, most)]


def in_single(scores: Tensor) -> Tensor:
    """Scores in single precision at least."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def class_rows(scores: Tensor) -> Tensor:
    """N x C x h x w to the layout that blocks take, N x h x C x w."""
    return scores.permute(0, 2, 1, 3).contiguous()


@torch.no_grad()
def labels(scores: Tensor, rows: Axis, cols: Axis) -> Tensor:
    """The class of the highest score at each fine pixel.

    Scores N x C x h x w; returns N x H x W, int64. Equal scores give the first class, NaN any.
    """
    images, channels = scores.shape[:2]
    with torch.autocast(scores.device.type, enabled=False):
        scores = class_rows(in_single(scores))
        classes = torch.empty(images, len(rows), len(cols), dtype=torch.long, device=scores.device)
        # Several times faster than an arg-max on CPUs: the highest score becomes 1, all others 0,
        # and of those at 1 the first class weighs most.
        last = channels - 1
        weights = torch.arange(last, -1, -1, dtype=scores.dtype, device=scores.device)[:, None]
        for block in blocks(images, channels, rows, cols):
            fine = block.fine_scores(scores)
            fine = fine.eq_(fine.amax(1, keepdim=True)).mul_(weights)
            block.put(last - fine.amax(1), classes)
    return classes


@torch.no_grad()
def fine_scores(scores: Tensor, rows: Axis, cols: Axis) -> Tensor:
    """All fine scores: N x C x h x w to N x C x H x W, in single precision at least."""
    images, channels = scores.shape[:2]
    with torch.autocast(scores.device.type, enabled=False):
        scores = class_rows(in_single(scores))
        everything = scores.new_empty(images, channels, len(rows), len(cols))
        for block in blocks(images, channels, rows, cols):
            window = everything[block.images, :, block.rows, block.cols]
            fine = block.fine_scores(scores)[..., : window.shape[-1]]
            window.copy_(fine.view(len(window), -1, *fine.shape[1:]).transpose(1, 2))
    return everything
