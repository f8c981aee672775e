"""Decode picture files as 8-bit BGR; needs neither torch nor mmcv."""

import logging
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from fcn_plugin.data.file_kinds import OUR_LOADER
from fcn_plugin.data.picture_files import (
    JPEG_END,
    JPEG_START,
    WIDE_MODES,
    CheckSize,
    check_rows,
    damage_named,
    numbers_in_words,
    open_checked,
    raw_mode_of,
)
from fcn_plugin.errors import UserError
from fcn_plugin.system.memory import check_picture

# OpenCV refuses pictures of this many pixels; pixels to convert at a time.
OPENCV_PIXELS, AT_ONCE = 2**30, 2**20
FEWEST, MOST = 8, 16  # limits of LoadCheckedImage's argument `bits`
# Many cameras store 12-bit numbers in 16-bit files; the upper 8 of 16 bits are nearly black then.
USUAL = 12
# JPEGs are decoded at 1/n of their size by an inverse DCT of fewer coefficients.
DIVISORS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class PictureDecoder:
    """Decodes the bytes of picture files, as ``LoadCheckedImage`` describes it.

    Attributes:
        bits: how many bits of a 16-bit picture are used; None: all, with a warning if the first
            such picture becomes nearly black.
        check_size: called with path, width and height before a picture is decoded; the default
            refuses a picture that does not fit into free memory.
    """

    check_size: CheckSize = staticmethod(check_picture)
    bits: int | None = None
    _warned = False

    def warn(self, text: str) -> None:
        """Log a warning."""
        logging.getLogger("fcn_plugin").warning("%s", text)

    def decode(self, content: bytes, path: str) -> np.ndarray:
        """The picture [H, W, 3] in a file's bytes; errors name ``path``."""
        return self.decode_for(content, path, None)[0]

    def decode_for(
        self, content: bytes, path: str, scale: Sequence[int] | None
    ) -> tuple[np.ndarray, int]:
        """A picture [H / n, W / n, 3] that is resized to fit into ``scale`` next, and n.

        n is 1, 2, 4 or 8 for a JPEG that OpenCV decodes, else 1.
        """
        opened = open_checked(content, path, "image", self.check_size)
        divisor = _divisor(opened.size, scale or opened.size)
        with damage_named(path, "image", content):
            image: Image.Image = opened
            raw_mode = raw_mode_of(opened)
            img = _whole_jpeg(image, content, DIVISORS[divisor])
            if img is None:
                opened.load()
            check_rows(image, img, content)
            if img is None and ";16" in raw_mode and image.mode not in WIDE_MODES:
                image = self._narrow_colour(image, content, path)
        return (self.convert(image, path), 1) if img is None else (img, divisor)

    def convert(self, image: Image.Image, path: str) -> np.ndarray:
        """A Pillow picture of any mode as 8-bit BGR [H, W, 3], upright."""
        if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
            raise UserError(f"{path}: {numbers_in_words(image)}; {OUR_LOADER}")
        with damage_named(path, "image", None):
            image.load()  # a PNG may store its orientation after the pixels
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # or Pillow makes a copy
                image = ImageOps.exif_transpose(image)
        if image.mode in WIDE_MODES:
            image = Image.fromarray(self._narrow(np.asarray(image), path))
        # A few rows at a time, because each step makes a copy.
        bgr = np.empty((image.height, image.width, 3), np.uint8)
        for top in range(0, image.height, rows := max(1, AT_ONCE // image.width)):
            part = image.crop((0, top, image.width, min(top + rows, image.height)))
            if part.mode == "P":
                # First to RGBA: Pillow warns if it drops transparency itself.
                part = part.convert("RGBA")
            if part.mode != "RGB":
                part = part.convert("RGB")
            cv2.cvtColor(np.asarray(part), cv2.COLOR_RGB2BGR, bgr[top : top + rows])
        return bgr

    def _narrow(self, pixels: np.ndarray, path: str) -> np.ndarray:
        """16-bit whole numbers of any shape as uint8: the upper 8 of ``bits``."""
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high >= 1 << MOST:
            raise UserError(f"{path}: an image of more than 16 bits; save it with 8 bits")
        bits = self.bits or MOST
        if high >= 1 << bits:
            raise UserError(
                f"{path}: a value of {high}, which {bits} bits cannot hold; set bits of "
                f"LoadCheckedImage to {high.bit_length()} or more"
            )
        if not self.bits and 0 < high < 1 << USUAL and not self._warned:
            self._warned = True
            self.warn(
                f"{path}: nearly black, for its largest value is {high} of {(1 << MOST) - 1}; if "
                f"its numbers have {USUAL} bits, set bits={USUAL} of LoadCheckedImage, the first "
                "step of the config's pipelines"
            )
        return (pixels >> (bits - 8)).astype(np.uint8)

    def _narrow_colour(self, image: Image.Image, content: bytes, path: str) -> Image.Image:
        """A colour picture with 16 bits per channel; ``image`` has Pillow's upper 8 of them."""
        brightest = np.asarray(image)[..., : len(image.mode.rstrip("A"))].max()
        if not self.bits and brightest >= 1 << (USUAL - 8):
            return image
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if pixels is None or pixels.dtype != np.uint16:
            raise UserError(f"{path}: OpenCV does not read it as 16 bits; save it with 8 bits")
        narrow = Image.fromarray(cv2.cvtColor(self._narrow(pixels, path), cv2.COLOR_BGR2RGB))
        turn = ExifTags.Base.Orientation
        narrow.getexif()[turn] = image.getexif().get(turn, 1)
        return narrow


def _divisor(size: Sequence[int], scale: Sequence[int]) -> int:
    """The largest n that divides both sides and makes them no smaller than ``scale`` does.

    An n with a remainder would add a partial pixel at a border, and shift the picture.
    """
    sides, limits = sorted(size), sorted(scale)
    exact = [n for n in DIVISORS if sides[0] % n == sides[1] % n == 0]
    return max((n for n in exact if np.less_equal(limits, np.divide(sides, n)).any()), default=1)


def _whole_jpeg(image: Image.Image, content: bytes, flag: int) -> np.ndarray | None:
    """A grey or colour JPEG as BGR, upright, by OpenCV, which is faster than Pillow.

    None for any other picture, for a JPEG without an end marker (OpenCV before 5 invents the
    missing part), and for a JPEG with XMP (it may hold an orientation that OpenCV ignores).
    """
    if image.mode not in ("L", "RGB") or "xmp" in image.info:
        return None
    if not content.startswith(JPEG_START) or not content.endswith(JPEG_END):
        return None
    if image.width * image.height >= OPENCV_PIXELS:
        return None
    return cv2.imdecode(np.frombuffer(content, np.uint8), flag)
