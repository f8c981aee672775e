"""Find pictures that are nearly the same: a copy resized, compressed anew or made brighter.

The hash is a dHash of 256 bits (Krawetz, "Kind of like that", 2013): whether the brightness falls
from each cell of a 16 x 17 grid to its neighbour on the right.
"""

import cv2
import numpy as np

ROWS, COLUMNS = 16, 17
BITS = ROWS * (COLUMNS - 1)
# A fall counts from this fraction of the picture's own contrast on, so that noise sets no bits.
FALL = 0.1
# Least standard deviation of the cells, in grey levels, and least number of bits set. Plainer
# pictures resemble one another, and are never called near duplicates; one edge sets 32 bits.
CONTRAST, FEWEST = 4, 36
# Near duplicates differ in at most this share of the bits set in either. Measured: 99 % of the
# copies of photographs below 0.1; different pictures above 0.3, neighbours in a video between.
LARGEST_SHARE = 0.12
BLOCK = 1 << 20  # comparisons at a time, so that memory grows with the images, not their square


def picture_hash(picture: np.ndarray) -> np.ndarray:
    """The hash of a picture [H, W] or [H, W, C] uint8: uint8 [32]; zeros if it is plain."""
    cells = cv2.resize(picture, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    grey = cells.reshape(ROWS, COLUMNS, -1).mean(-1)
    contrast = grey.std()
    falls = grey[:, :-1] - grey[:, 1:] > FALL * contrast
    return np.packbits(falls & (contrast >= CONTRAST))


def near_duplicates(hashes: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i, j) of near duplicates: for each j of ``others`` the most similar i of ``hashes``.

    Args:
        hashes, others: results of ``picture_hash``, uint8 [n, 32] and [m, 32].
    """
    pairs: list[tuple[int, int]] = []
    if not len(hashes):
        return pairs
    bits = np.unpackbits(hashes, axis=1).astype(np.float32)  # floats multiply much faster
    counts = bits.sum(1)
    rows = max(1, BLOCK // len(hashes))
    for start in range(0, len(others), rows):
        block = np.unpackbits(others[start : start + rows], axis=1).astype(np.float32)
        block_counts = block.sum(1)[:, None]
        shares = 1 - 2 * (block @ bits.T) / np.maximum(counts + block_counts, 1)
        shares[(counts < FEWEST) | (block_counts < FEWEST)] = 1
        for row in np.flatnonzero(shares.min(1) <= LARGEST_SHARE):
            pairs.append((int(shares[row].argmin()), start + int(row)))
    return pairs
