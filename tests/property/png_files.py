"""PNGs of one channel as the format's specification has them: every depth, interlaced or not."""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3
# Adam7: of each of seven passes the first column and row, and the steps between them.
PASSES = [
    *[(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)],
    *[(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)],
]


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def packed(pixels: np.ndarray, bits: int) -> bytes:
    """Rows of samples, the first in the highest bits, each after the number of its filter, 0."""
    if pixels.size == 0:
        return b""
    rows = b""
    for row in pixels.tolist():
        text = "".join(format(value, f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    return rows


def png(pixels: np.ndarray, bits: int, colour_type: int, interlaced: bool) -> bytes:
    """A file with the values of ``pixels`` [H, W], each below 2 to the power of ``bits``."""
    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
    rows = packed(pixels, bits)
    if interlaced:
        rows = b"".join(packed(pixels[y::dy, x::dx], bits) for x, y, dx, dy in PASSES)
    colours = chunk(b"PLTE", bytes(3 << bits)) if colour_type == PALETTE else b""
    return (
        SIGNATURE
        + chunk(b"IHDR", header)
        + colours
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
