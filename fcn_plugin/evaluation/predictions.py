"""Predicted labels as files."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fcn_plugin.files import replacing

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
