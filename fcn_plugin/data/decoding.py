"""Decode picture files as 8-bit BGR; needs neither torch nor mmcv."""

import logging
from collections.abc import Callable

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from fcn_plugin.data.file_kinds import OUR_LOADER
from fcn_plugin.data.picture_files import (
    JPEG_END,
    JPEG_START,
    TURNED,
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
# libjpeg's inverse DCT of fewer coefficients gives a picture of 1/8, 1/4 or 1/2.
FRACTIONS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}

Shape = tuple[int, ...]
# (H, W) of a picture, upright -> (H, W) to which it is resized later.
NewShape = Callable[[Shape], Shape]


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

    def decode(self, content: bytes, path: str, new_shape: NewShape | None = None) -> np.ndarray:
        """The picture [H, W, 3] in a file's bytes; errors name ``path``.

        Args:
            new_shape: resize a JPEG to this, bilinear, from the smallest of 1/8, 1/4, 1/2 and 1/1
                of its size that is no smaller. If OpenCV cannot, the picture comes in full; so do
                other files, for which it is not called.
        """
        opened = open_checked(content, path, "image", self.check_size)
        with damage_named(path, "image", content):
            image: Image.Image = opened
            raw_mode = raw_mode_of(opened)
            img = _jpeg(image, content, new_shape) if _is_plain_jpeg(image, content) else None
            if img is None:
                opened.load()
            check_rows(image, img, content)
            if img is None and ";16" in raw_mode and image.mode not in WIDE_MODES:
                image = self._narrow_colour(image, content, path)
        return self.convert(image, path) if img is None else img

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


def _is_plain_jpeg(image: Image.Image, content: bytes) -> bool:
    """Whether OpenCV decodes it, which is faster than Pillow: a grey or colour JPEG.

    Not one without an end marker (OpenCV before 5 invents the missing part), and not one with XMP
    (it may hold an orientation that OpenCV ignores).
    """
    return (
        image.mode in ("L", "RGB")
        and "xmp" not in image.info
        and content.startswith(JPEG_START)
        and content.endswith(JPEG_END)
        and image.width * image.height < OPENCV_PIXELS
    )


def _jpeg(image: Image.Image, content: bytes, new_shape: NewShape | None) -> np.ndarray | None:
    """A JPEG as BGR, upright, by OpenCV; None if it cannot.

    With ``new_shape`` resized to that, and None if OpenCV does not see Pillow's orientation.
    """
    encoded = np.frombuffer(content, np.uint8)
    if new_shape is None:
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    turned = image.getexif().get(ExifTags.Base.Orientation) in TURNED
    shape = image.size if turned else image.size[::-1]
    wanted = new_shape(shape)
    for fraction, flag in FRACTIONS.items():
        part = tuple(-(-side // fraction) for side in shape)
        if fraction == 1 or all(np.greater_equal(part, wanted)):
            img = cv2.imdecode(encoded, flag)
            whole = img is not None and img.shape[:2] == part
            return _resized(img, np.divide(shape, fraction), wanted) if whole else None
    return None


def _resized(img: np.ndarray, extent: np.ndarray, shape: Shape) -> np.ndarray:
    """The part [0, extent) of an image, which may end within its last pixels, resized."""
    if np.array_equal(extent, img.shape[:2]):
        return cv2.resize(img, shape[::-1])
    down, across = extent / shape
    to_source = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])
    flags, border = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
    return cv2.warpAffine(img, to_source, shape[::-1], flags=flags, borderMode=border)
