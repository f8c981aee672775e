"""Pictures of 16 bits with 8: which of the bits are taken."""

import logging

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import ExifTags, Image

from fcn_plugin.errors import UserError

FEWEST, MOST = 8, 16
# Cameras' and scanners' numbers, which files of 16 bits hold: their upper 8 bits are nearly black.
USUAL = 12


class Narrowing:
    """From 16 bits to 8.

    Args:
        bits: of the 16, those that hold numbers; the upper 8 of these are taken. None: all 16, with
            a warning of the first picture that seems to have 12 or fewer.

    Raises:
        UserError: bits are not 8 to 16.
    """

    def __init__(self, bits: int | None) -> None:
        if bits is not None and (type(bits) is not int or not FEWEST <= bits <= MOST):
            raise UserError(f"LoadCheckedImage: bits={bits!r}; give {FEWEST} to {MOST}")
        self.bits = bits
        self._warned = False

    def __call__(self, pixels: np.ndarray, path: str) -> np.ndarray:
        """Whole numbers of any shape as uint8.

        Raises:
            UserError: there are numbers that the bits cannot hold.
        """
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high >= 1 << MOST:
            raise UserError(f"{path}: an image of more than 16 bits; save it with 8 bits")
        bits = self.bits or MOST
        if high >= 1 << bits:
            raise UserError(
                f"{path}: a value of {high}, which {bits} bits cannot hold; set bits of "
                f"LoadCheckedImage to {high.bit_length()} or more"
            )
        if not self.bits and 0 < high < 1 << USUAL:
            self._warn(path, high)
        return (pixels >> (bits - 8)).astype(np.uint8)

    def _warn(self, path: str, high: int) -> None:
        if self._warned:
            return
        self._warned = True
        print_log(
            f"{path}: its largest value is {high} of {(1 << MOST) - 1}, and so it is nearly black; "
            f"if its numbers have {USUAL} bits, set bits={USUAL} of LoadCheckedImage, the first "
            "step of the config's pipelines",
            logger="current",
            level=logging.WARNING,
        )

    def colour(self, image: Image.Image, content: bytes, path: str) -> Image.Image:
        """A picture of 16 bits a channel, of which Pillow decodes the upper 8."""
        brightest = np.asarray(image)[..., : len(image.mode.rstrip("A"))].max()
        if not self.bits and brightest >= 1 << (USUAL - 8):
            return image
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if pixels is None or pixels.dtype != np.uint16:
            raise UserError(f"{path}: not 16 bits to OpenCV; save it with 8 bits")
        narrow = Image.fromarray(cv2.cvtColor(self(pixels, path), cv2.COLOR_BGR2RGB))
        turn = ExifTags.Base.Orientation
        narrow.getexif()[turn] = image.getexif().get(turn, 1)
        return narrow
