"""Read pictures for an exported file, without PyTorch."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fcn_plugin.data.decoding import PictureDecoder
from fcn_plugin.data.picture_files import content_of


class Photo(NamedTuple):
    """A picture to predict.

    Attributes:
        image: [H, W, 3] uint8, BGR.
        factors: of width and height, by which the exported file resizes it.
        name: for messages.
    """

    image: np.ndarray
    factors: tuple[float, float]
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image.shape

    @property
    def nbytes(self) -> int:
        return 2 * self.image.nbytes  # with its copy as the network's input


class PhotoReader(PictureDecoder):
    """Reads pictures as ``LoadCheckedImage`` does.

    Args:
        bits: of a 16-bit picture, see ``LoadCheckedImage``.
        resizing: settings of ``fcn_plugin.export.Resizing``, which the file itself does.
    """

    tells_size, takes_bands = True, False

    def __init__(self, bits: int | None, resizing: dict[str, Any] | None) -> None:
        self.bits, self.resizing = bits, resizing

    def __call__(self, image: str | Path | np.ndarray) -> Photo:
        if isinstance(image, np.ndarray):
            return Photo(image, self._factors(image.shape), "the image")
        pixels = self.decode(content_of(image, "image", None), str(image))
        return Photo(pixels, self._factors(pixels.shape), str(image))

    def _factors(self, shape: tuple[int, ...]) -> tuple[float, float]:
        rows, cols = shape[:2]
        if self.resizing is None:
            return 1.0, 1.0
        if "factor" in self.resizing:
            across, down = self.resizing["factor"]
            width, height = across * cols, down * rows
        else:
            width, height = self.resizing["scale"]
        if not self.resizing["keep_ratio"]:
            return width / cols, height / rows
        sizes, sides = sorted((width, height)), sorted((rows, cols))
        factor = min(size / side for size, side in zip(sizes, sides, strict=True))
        return factor, factor
