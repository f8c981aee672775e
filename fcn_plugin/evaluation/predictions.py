"""Predicted labels as files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def save_labels(
    labels: np.ndarray, path: Path, palette: Sequence[Sequence[int]] | None = None
) -> None:
    """Write labels H x W, uint8, as a PNG whose values are the labels themselves.

    ``palette`` gives RGB in 0-255 for the labels from 0 on, and an indexed PNG; without it the PNG
    is grey.
    """
    image = Image.fromarray(labels)
    if palette is not None:
        image.putpalette([level for colour in palette for level in colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
