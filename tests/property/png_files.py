"""PNGs as the format's specification has them: every colour type and depth, interlaced or not."""

import struct
import zlib
from collections.abc import Callable

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# Adam7: of each of seven passes the first column and row, and the steps between them.
PASSES = [
    *[(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)],
    *[(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)],
]


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(rows: bytes, bits: int, colour_type: int, interlaced: bool, size: tuple[int, int]) -> bytes:
    """A file of the size (width, height) with these rows, in chunks of 40 bytes."""
    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, interlaced)
    colours = chunk(b"PLTE", bytes(3 << min(bits, 8))) if colour_type == PALETTE else b""
    data = zlib.compress(rows)
    parts = [chunk(b"IDAT", data[at : at + 40]) for at in range(0, len(data), 40)]
    return b"".join([SIGNATURE, chunk(b"IHDR", header), colours, *parts, chunk(b"IEND", b"")])


def filled_rows(
    colour_type: int, bits: int, interlaced: bool, size: tuple[int, int], fill: Callable
) -> list[bytes]:
    """Rows of ``fill(length)``, each after the number of its filter, 0."""
    rows = []
    for left, top, across, down in PASSES if interlaced else [(0, 0, 1, 1)]:
        columns, lines = len(range(left, size[0], across)), len(range(top, size[1], down))
        length = -(-columns * CHANNELS[colour_type] * bits // 8)
        rows += [b"\0" + fill(length) for _ in range(lines if columns else 0)]
    return rows


def packed(pixels: np.ndarray, bits: int) -> bytes:
    """Rows of samples, the first in the highest bits, each after the number of its filter, 0."""
    if not pixels.size:
        return b""
    shifts = np.arange(bits)[::-1]
    samples = (pixels[..., None].astype(np.int64) >> shifts & 1).reshape(len(pixels), -1)
    return b"".join(b"\0" + row.tobytes() for row in np.packbits(samples.astype(bool), axis=1))


def label_png(pixels: np.ndarray, bits: int, colour_type: int, interlaced: bool) -> bytes:
    """A file of one channel with the values ``pixels`` [H, W], each below 2 ** ``bits``."""
    passes = PASSES if interlaced else [(0, 0, 1, 1)]
    rows = b"".join(packed(pixels[y::dy, x::dx], bits) for x, y, dx, dy in passes)
    return png(rows, bits, colour_type, interlaced, pixels.shape[::-1])
