"""Scores of images that exist only on the coarse grid they were computed on.

Upsampling is linear, known and local: fine = down @ coarse @ across.T, where each row of the two
matrices has a few weights side by side, whatever the scale, phase, crop, mirroring and later
resizing. What is wanted of the fine scores, their labels or their loss, is computed block by block
with small dense parts of the matrices. Neither the fine scores, 64 times as many at stride 8, nor
the matrices, which would grow with the square of the side, ever exist as a whole.
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

# Fine scores, over all classes, at work at once: on a CPU as many as its caches hold, elsewhere
# enough to fill a GPU. Blocks are low, since each fine pixel is multiplied with all coarse rows of
# its block, whole vectors wide, without which reductions take several times as long, and not wider
# than their dense matrices pay for.
ELEMENTS, ELEMENTS_ON_GPU = 2**20, 2**24
HEIGHT, WIDTH, VECTOR = 32, 1024, 32


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
        pixels: length x taps, int64: coarse pixels side by side from the first that weighs in a
            fine one; those past the last coarse pixel weigh nothing.
        weights: length x taps, what these weigh.
        spans: for each fine pixel the first coarse pixel of weight, and one past the last; they
            rise, or fall where the image is mirrored.
    """

    pixels: Tensor
    weights: Tensor
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.spans)

    def part(self, fine: slice, multiple: int = 1) -> tuple[slice, Tensor]:
        """The coarse pixels that some fine pixels need, and the dense matrix of their weights.

        Fine pixels without weights follow, up to a ``multiple``.
        """
        firsts, beyonds = zip(self.spans[fine.start], self.spans[fine.stop - 1], strict=True)
        needed = slice(min(firsts), max(beyonds))
        length, wide = fine.stop - fine.start, needed.stop - needed.start
        taps = self.weights.shape[1]
        matrix = self.weights.new_zeros(length + -length % multiple, wide + taps)
        matrix[:length].scatter_(1, self.pixels[fine] - needed.start, self.weights[fine])
        return needed, matrix[:, :wide]


# Some are kept, since crops are of one size; on a GPU nothing then waits for the weights.
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
    at = place.coarse(exact)[padding[0] : place.length - padding[1]]
    if mirrored:
        at = at.flip(0)
    pixels, weights = _neighbours(at, size, zero_border)
    if length is not None and length != len(at):
        # Each pixel of the original lies between two of these.
        scale = length / len(at)
        at = Placement(scale, (scale - 1) / 2, 0, length).coarse(exact)
        two, shares = _neighbours(at, len(weights), zero_border=False)
        pixels = pixels[two].flatten(1)
        weights = (weights[two] * shares[..., None]).flatten(1)
    weighs = weights != 0
    # A fine pixel beyond zero borders needs none, and gets one of weight 0.
    weighs[:, 0] |= ~weighs.any(1)
    first = pixels.where(weighs, size).amin(1, keepdim=True)
    beyond = pixels.where(weighs, -1).amax(1, keepdim=True) + 1
    taps = int((beyond - first).max())
    # A pixel that is named twice gets both weights.
    tap = (pixels - first).clamp(0, taps - 1)
    weights = weights.new_zeros(len(weights), taps).scatter_add_(1, tap, weights)
    pixels = first + torch.arange(taps, device="cpu")
    spans = tuple(map(tuple, torch.cat((first, beyond), 1).tolist()))
    return Axis(pixels.to(device), weights.to(device, dtype), spans)


def _neighbours(at: Tensor, size: int, zero_border: bool) -> tuple[Tensor, Tensor]:
    """The two of ``size`` pixels that each place lies between, and their weights; P x 2 each.

    Pixels beyond the ends weigh nothing if ``zero_border``, else the one at the end has it all.
    """
    if not zero_border:
        at = at.clamp(0, size - 1)
    pixels = at.floor()[:, None] + torch.arange(2, dtype=at.dtype, device=at.device)
    weights = 1 - (at[:, None] - pixels).abs()
    inside = pixels.clamp(0, size - 1)
    return inside.long(), weights * (inside == pixels)


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
    on_gpu = rows.weights.device.type != "cpu"
    pixels = max((ELEMENTS_ON_GPU if on_gpu else ELEMENTS) // channels, 1)
    wide = min(max(pixels // min(HEIGHT, len(rows)) // VECTOR, 1) * VECTOR, WIDTH)
    many = max(pixels // (len(rows) * len(cols)), 1)
    across = [(part, *cols.part(part, VECTOR)) for part in parts(len(cols), wide)]
    widest = max(len(weights) for _, _, weights in across)
    most = min(many, images) * min(HEIGHT, len(rows)) * channels * widest
    room = rows.weights.new_empty(most)
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


@torch.no_grad()
def upsample(scores: Tensor, rows: Axis, cols: Axis) -> Tensor:
    """All fine scores: N x C x h x w to N x C x H x W, in single precision at least."""
    images, channels = scores.shape[:2]
    with torch.autocast(scores.device.type, enabled=False):
        scores = class_rows(in_single(scores))
        everything = scores.new_empty(images, channels, len(rows), len(cols))
        for block in blocks(images, channels, rows, cols):
            place = everything[block.images, :, block.rows, block.cols]
            fine = block.upsample(scores)[..., : place.shape[-1]]
            place.copy_(fine.view(len(place), -1, *fine.shape[1:]).transpose(1, 2))
    return everything
