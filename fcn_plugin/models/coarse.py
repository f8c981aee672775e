"""Scores of images that exist only on the coarse grid they were computed on.

Upsampling is linear and known: fine = down @ coarse @ across.T with two small interpolation
matrices, whatever the scale, phase, crop, mirroring and later resizing. What is wanted of the
fine scores, their labels or their loss, is computed block by block, and the fine scores, 64 times
as many at stride 8, never exist at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fcn_plugin.models.upsample import Placement, interpolation_matrix

# Fine scores, over all classes, at work at once: on a CPU as many as its caches hold, elsewhere
# enough to fill a GPU. Blocks are low, since each fine pixel is multiplied with all coarse rows of
# its block, and whole vectors wide, without which reductions take several times as long.
ELEMENTS, ELEMENTS_ON_GPU = 2**20, 2**24
HEIGHT, VECTOR = 32, 32


class CoarseScores(NamedTuple):
    """Scores N x C x h x w and the place of an image's pixels among them.

    ``zero_border`` says whether zeros lie beyond them; otherwise their border continues.
    """

    scores: Tensor
    rows: Placement
    cols: Placement
    zero_border: bool


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of an upsampling.

    Attributes:
        matrix: length x size, the weights of the coarse pixels in each fine one.
        spans: for each fine pixel the first coarse pixel of weight, and one past the last.
    """

    matrix: Tensor
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.spans)

    def part(self, fine: slice, multiple: int = 1) -> tuple[slice, Tensor]:
        """The coarse pixels that some fine pixels need, and their weights.

        Fine pixels without weights follow, up to a ``multiple``.
        """
        firsts, beyonds = zip(*self.spans[fine], strict=True)
        needed = slice(min(firsts), max(beyonds))
        weights = self.matrix[fine, needed]
        return needed, functional.pad(weights, (0, 0, 0, -len(weights) % multiple))


# A few are kept, since crops are of one size; on a GPU nothing then waits for the matrix.
@lru_cache(maxsize=32)
def axis(
    place: Placement,
    size: int,
    zero_border: bool,
    dtype: torch.dtype,
    device: torch.device,
    length: int | None = None,
    padding: tuple[int, int] = (0, 0),
    mirrored: bool = False,
) -> Axis:
    """To the fine pixels of ``place`` from ``size`` coarse ones, and on to the original image.

    The fine pixels lose their ``padding`` at both ends, are turned around if ``mirrored``, and
    bilinearly resized to ``length``; default: as many as there are.
    """
    # On the CPU, where looking at values waits for no GPU.
    exact = torch.empty(0, dtype=torch.float64, device="cpu")
    matrix = interpolation_matrix(place, size, exact, zero_border)
    matrix = matrix[padding[0] : place.length - padding[1]]
    if mirrored:
        matrix = matrix.flip(0)
    if length is not None and length != len(matrix):
        # Each pixel of the original lies between two of these.
        scale = length / len(matrix)
        at = Placement(scale, (scale - 1) / 2, 0, length).coarse(exact).clamp(0, len(matrix) - 1)
        before = at.floor().long()
        after = (before + 1).clamp(max=len(matrix) - 1)
        matrix = torch.lerp(matrix[before], matrix[after], (at - before)[:, None])
    weighs = (matrix != 0).int()
    first, beyond = weighs.argmax(1), size - weighs.flip(1).argmax(1)
    # A fine pixel beyond zero borders needs none, and gets one of weight 0.
    beyond = torch.where(weighs.any(1), beyond, 1)
    spans = tuple(zip(first.tolist(), beyond.tolist(), strict=True))
    return Axis(matrix.to(device, dtype), spans)


@dataclass(frozen=True)
class Block:
    """Fine pixels of some images, and what of the coarse scores they need.

    ``across`` has rows for more columns than the block's, which are not looked at. ``room`` is
    where the fine scores go, of this block and of the next: to ask for memory anew each time can
    cost as much as what is computed in it.
    """

    images: slice
    rows: slice
    cols: slice
    coarse_rows: slice
    coarse_cols: slice
    down: Tensor
    across: Tensor
    room: Tensor

    def upsample(self, scores: Tensor) -> Tensor:
        """Coarse scores N x h x C x w to the block's fine ones, (images rows) x C x cols."""
        window = scores[self.images, self.coarse_rows, :, self.coarse_cols]
        n, h, channels, w = window.shape
        wide = torch.mm(window.reshape(-1, w), self.across.t())
        shape = n, len(self.down), channels * len(self.across)
        fine = self.room[: prod(shape)].view(shape)
        torch.matmul(self.down, wide.view(n, h, -1), out=fine)
        return fine.view(-1, channels, len(self.across))

    def add_gradient(self, fine: Tensor, coarse: Tensor) -> None:
        """Add the block's gradient to that of the coarse scores; ``upsample`` transposed."""
        window = coarse[self.images, self.coarse_rows, :, self.coarse_cols]
        wide = torch.matmul(self.down.t(), fine.view(len(window), len(self.down), -1))
        window += torch.mm(wide.view(-1, len(self.across)), self.across).view(window.shape)

    def cut(self, fine: Tensor, beyond: int) -> Tensor:
        """The block of a map N x H x W: (images rows) x 1 x cols, then ``beyond``."""
        own = fine[self.images, self.rows, self.cols].flatten(0, 1)[:, None]
        return functional.pad(own, (0, len(self.across) - own.shape[-1]), value=beyond)

    def put(self, values: Tensor, fine: Tensor) -> None:
        """Write what ``cut`` would return."""
        place = fine[self.images, self.rows, self.cols]
        place.copy_(values[..., : place.shape[-1]].reshape(place.shape))


def blocks(images: int, channels: int, rows: Axis, cols: Axis) -> Iterator[Block]:
    """Blocks that cover the fine grid of N images."""
    on_gpu = rows.matrix.device.type != "cpu"
    pixels = max((ELEMENTS_ON_GPU if on_gpu else ELEMENTS) // channels, 1)
    wide = max(pixels // min(HEIGHT, len(rows)) // VECTOR, 1) * VECTOR
    many = max(pixels // (len(rows) * len(cols)), 1)
    across = [(part, *cols.part(part, VECTOR)) for part in parts(len(cols), wide)]
    widest = max(len(weights) for _, _, weights in across)
    most = min(many, images) * min(HEIGHT, len(rows)) * channels * widest
    room = torch.empty(most, dtype=rows.matrix.dtype, device=rows.matrix.device)
    for down in parts(len(rows), HEIGHT):
        coarse_rows, row_weights = rows.part(down)
        for part, coarse_cols, col_weights in across:
            for some in parts(images, many):
                yield Block(
                    some, down, part, coarse_rows, coarse_cols, row_weights, col_weights, room
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

    Scores N x C x h x w; returns N x H x W, int64. Equal scores give the first class; where a
    score is not a number, any.
    """
    images, channels = scores.shape[:2]
    with torch.autocast(scores.device.type, enabled=False):
        scores = class_rows(in_single(scores))
        found = torch.empty(images, len(rows), len(cols), dtype=torch.long, device=scores.device)
        # Several times faster than an arg-max on CPUs: the highest score becomes 1, all others 0,
        # and of those at 1 the first class weighs most.
        last = channels - 1
        weights = torch.arange(last, -1, -1, dtype=scores.dtype, device=scores.device)[:, None]
        for block in blocks(images, channels, rows, cols):
            fine = block.upsample(scores)
            fine = fine.eq_(fine.amax(1, keepdim=True)).mul_(weights)
            block.put(last - fine.amax(1), found)
    return found


def upsample(scores: Tensor, rows: Axis, cols: Axis) -> Tensor:
    """All fine scores: N x C x h x w to N x C x H x W, in single precision at least."""
    with torch.autocast(scores.device.type, enabled=False):
        return torch.matmul(torch.matmul(rows.matrix, in_single(scores)), cols.matrix.t())
