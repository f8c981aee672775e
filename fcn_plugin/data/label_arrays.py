"""Count and write label arrays; needs neither torch nor mmseg."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fcn_plugin.data.numbering import VALUES
from fcn_plugin.data.picture_files import save_picture

BLOCK = 1 << 20  # pixels to count at a time


def pixel_counts(labels: np.ndarray, count: int = VALUES) -> np.ndarray:
    """The number of pixels of each label 0 .. count - 1, int64 [count].

    Args:
        labels: unsigned integers of any shape, all below ``count``.
    """
    counts, pixels = np.zeros(count, np.int64), labels.reshape(-1)
    for start in range(0, len(pixels), BLOCK):  # bincount copies its input as int64
        counts += np.bincount(pixels[start : start + BLOCK], minlength=count)
    return counts


def save_labels(
    labels: np.ndarray, path: Path, palette: Sequence[Sequence[int]] | None = None
) -> None:
    """Write labels [H, W], uint8 or uint16, as a PNG that stores them unchanged.

    With ``palette``, RGB in 0-255 for the labels from 0 on, the PNG is indexed; without, grey.
    """
    image = Image.fromarray(labels)
    if palette is not None:
        image.putpalette([level for colour in palette for level in colour])
    save_picture(image, path)
