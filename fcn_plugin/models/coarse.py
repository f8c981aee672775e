"""Scores of images that exist only on the coarse grid they were computed on.

Upsampling is linear and known: fine = down @ coarse @ across.T with two small interpolation
matrices, whatever the scale, phase, crop, mirroring and later resizing. What is wanted of the
fine scores, their labels or their loss, is computed block by block, and the fine scores, 64 times
as many at stride 8, never exist at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fcn_plugin.models.upsample import Placement, interpolation_matrix

# Fine scores, over all classes, at work at once: on a CPU as many as its caches hold, elsewhere
# enough to fill a GPU. Blocks are narrow, since each fine pixel is multiplied with all coarse
# columns of its block.
ELEMENTS, ELEMENTS_ON_GPU = 2**19, 2**24
WIDTH = 128


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of an upsampling.

    Attributes:
        matrix: length x size, the weights of the coarse pixels in each fine one.
        spans: for each fine pixel the first coarse pixel of weight, and one past the last.
    """

    matrix: Tensor
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, matrix: Tensor, like: Tensor) -> "Axis":
        """From a matrix on the CPU, where looking at its values waits for no GPU."""
        weighs, size = (matrix != 0).int(), matrix.shape[1]
        first, beyond = weighs.argmax(1), size - weighs.flip(1).argmax(1)
        # A fine pixel beyond zero borders needs none, and gets one of weight 0.
        beyond = torch.where(weighs.any(1), beyond, 1)
        spans = tuple(zip(first.tolist(), beyond.tolist(), strict=True))
        return cls(matrix.to(like.device, like.dtype), spans)

    def __len__(self) -> int:
        return len(self.spans)

    def part(self, fine: slice) -> tuple[slice, Tensor]:
        """The coarse pixels that some fine pixels need, and their weights."""
        firsts, beyonds = zip(*self.spans[fine], strict=True)
        needed = slice(min(firsts), max(beyonds))
        return needed, self.matrix[fine, needed]


def placed_axis(place: Placement, size: int, zero_border: bool, like: Tensor) -> Axis:
    """To the fine pixels of ``place`` from ``size`` coarse ones."""
    return original_axis(place, size, place.length, (0, 0), False, zero_border, like)


def original_axis(
    place: Placement,
    size: int,
    length: int,
    padding: tuple[int, int],
    mirrored: bool,
    zero_border: bool,
    like: Tensor,
) -> Axis:
    """To ``length`` pixels of the original image from ``size`` coarse ones.

    The fine pixels of ``place`` lose their ``padding`` at both ends, are turned around if
    ``mirrored``, and bilinearly resized.
    """
    dtype = torch.float32 if like.dtype in (torch.float16, torch.bfloat16) else like.dtype
    return _axis(place, size, length, padding, mirrored, zero_border, like.device, dtype)


# Kept, since images are of few sizes; on a GPU nothing then waits for the matrix.
@lru_cache(maxsize=256)
def _axis(
    place: Placement,
    size: int,
    length: int,
    padding: tuple[int, int],
    mirrored: bool,
    zero_border: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> Axis:
    exact = torch.empty(0, dtype=torch.float64, device="cpu")
    matrix = interpolation_matrix(place, size, exact, zero_border)
    matrix = matrix[padding[0] : place.length - padding[1]]
    if mirrored:
        matrix = matrix.flip(0)
    if length != len(matrix):
        # Each pixel of the original lies between two of these.
        scale = length / len(matrix)
        at = Placement(scale, (scale - 1) / 2, 0, length).coarse(exact).clamp(0, len(matrix) - 1)
        before = at.floor().long()
        after = (before + 1).clamp(max=len(matrix) - 1)
        matrix = torch.lerp(matrix[before], matrix[after], (at - before)[:, None])
    return Axis.of(matrix, torch.empty(0, dtype=dtype, device=device))


@dataclass(frozen=True)
class Block:
    """Fine pixels of some images, and what of the coarse scores they need."""

    images: slice
    rows: slice
    cols: slice
    coarse_rows: slice
    coarse_cols: slice
    down: Tensor
    across: Tensor

    def upsample(self, scores: Tensor) -> Tensor:
        """Coarse scores N x h x C x w to the block's fine ones, (images rows) x C x cols."""
        window = scores[self.images, self.coarse_rows, :, self.coarse_cols]
        n, h, channels, w = window.shape
        tall = torch.matmul(self.down, window.reshape(n, h, channels * w))
        fine = torch.mm(tall.view(-1, w), self.across.t())
        return fine.view(-1, channels, fine.shape[-1])

    def add_gradient(self, fine: Tensor, coarse: Tensor) -> None:
        """Add the block's gradient to that of the coarse scores; ``upsample`` transposed."""
        channels = fine.shape[1]
        tall = torch.mm(fine.view(-1, fine.shape[-1]), self.across)
        tall = tall.view(-1, self.down.shape[0], channels * self.across.shape[1])
        window = coarse[self.images, self.coarse_rows, :, self.coarse_cols]
        window += torch.matmul(self.down.t(), tall).view(window.shape)

    def of(self, fine: Tensor) -> Tensor:
        """The block of a map N x H x W: (images rows) x cols."""
        return fine[self.images, self.rows, self.cols].reshape(-1, self.across.shape[0])

    def put(self, values: Tensor, fine: Tensor) -> None:
        """Write what ``of`` would return."""
        place = fine[self.images, self.rows, self.cols]
        place.copy_(values.view(place.shape))


def blocks(images: int, channels: int, rows: Axis, cols: Axis, device: str) -> Iterator[Block]:
    """Blocks that cover the fine grid of N images."""
    pixels = max((ELEMENTS if device == "cpu" else ELEMENTS_ON_GPU) // channels, 1)
    wide = min(WIDTH, len(cols))
    high = min(max(pixels // wide, 1), len(rows))
    many = max(pixels // (len(rows) * len(cols)), 1)
    for row_part in parts(len(rows), high):
        coarse_rows, down = rows.part(row_part)
        for col_part in parts(len(cols), wide):
            coarse_cols, across = cols.part(col_part)
            for some in parts(images, many):
                yield Block(some, row_part, col_part, coarse_rows, coarse_cols, down, across)


def parts(length: int, most: int) -> list[slice]:
    """Cut ``length`` into equal parts, give or take one, of at most ``most``.

    >>> parts(10, 4)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    number = -(-length // most)
    ends = [length * i // number for i in range(number + 1)]
    return [slice(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)]


def class_rows(scores: Tensor) -> Tensor:
    """N x C x h x w to the layout that blocks take, N x h x C x w, in single precision at least."""
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    return scores.permute(0, 2, 1, 3).contiguous()


@torch.no_grad()
def labels(scores: Tensor, rows: Axis, cols: Axis) -> Tensor:
    """The class of the highest score at each fine pixel.

    Scores N x C x h x w; returns N x H x W, int64. Equal scores give the first class.
    """
    images, channels = scores.shape[:2]
    scores = class_rows(scores)
    found = torch.empty(images, len(rows), len(cols), dtype=torch.long, device=scores.device)
    # Several times faster than an arg-max on CPUs: the highest score becomes 1, all others 0, and
    # of those at 1 the first class weighs most.
    last = channels - 1
    weights = torch.arange(last, -1, -1, dtype=scores.dtype, device=scores.device)[:, None]
    for block in blocks(images, channels, rows, cols, scores.device.type):
        fine = block.upsample(scores)
        fine -= fine.amax(1, keepdim=True)
        fine = fine.sign_().add_(1).mul_(weights)
        block.put(last - fine.amax(1), found)
    return found


def upsample(scores: Tensor, rows: Axis, cols: Axis) -> Tensor:
    """All fine scores: N x C x h x w to N x C x H x W, in single precision at least."""
    scores = scores.to(rows.matrix.dtype)
    return torch.matmul(torch.matmul(rows.matrix, scores), cols.matrix.t())
