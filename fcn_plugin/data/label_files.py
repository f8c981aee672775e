"""Labels and pictures as files, and the colours of label PNGs."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fcn_plugin.system.files import replacing

FORMATS = {".png": "PNG", ".jpg": "JPEG"}


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
    save_picture(image, path)


def save_picture(image: Image.Image, path: Path, **options: Any) -> None:
    """Write a .png or .jpg whole or not at all; several processes may write the same one.

    Args:
        options: Pillow's, of the format.
    """
    # Into memory first: to a file Pillow writes JPEGs itself, and does not see that the disk took
    # only a part.
    content = BytesIO()
    image.save(content, FORMATS[path.suffix], **options)
    with replacing(path, alone=False) as part:
        part.write_bytes(content.getbuffer())


def voc_palette() -> list[list[int]]:
    """The 256 RGB colours of PASCAL VOC: the bits of the index, dealt out to R, G, B in turn."""
    return [
        [
            sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8))
            for channel in range(3)
        ]
        for index in range(256)
    ]


def in_full(palette: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """256 colours, VOC's after one's own: of fewer Pillow spends fewer bits on a pixel."""
    return [*palette, *voc_palette()[len(palette) :]]
