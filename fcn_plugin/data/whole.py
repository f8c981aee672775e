"""Pictures of any size, and whether they have all rows that their headers promise.

Decoders make up those that are missing. Pillow leaves them black where the data of a PNG end early
with right checksums, and libjpeg makes them grey where a JPEG's end comes too soon. Most files are
quickly seen to be whole; only where that is not so, the file is read a second time.
"""

from io import BytesIO
from threading import Lock
from typing import Any
from zlib import crc32, decompressobj

import numpy as np
from PIL import ExifTags, Image, ImageFile

TURNED = (5, 6, 7, 8)  # EXIF's orientations of pictures that lie on their side
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the header's colour type
# First column and row of the passes of an interlaced PNG, and the steps from them.
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
BLOCK = 1 << 16  # bytes that are unpacked at a time

JPEG_END = b"\xff\xd9"
# What libjpeg puts for missing pixels, also when these are inverted, as CMYK is.
GREY = (127, 128)
FILLING = bytes(range(1, 65))  # no code of a JPEG's end, and not the same for long

# Held while Pillow's guard against large pictures, which is one for all threads, is lifted.
UNGUARDED = Lock()


def open_picture(source: Any, formats: list[str] | None = None) -> ImageFile.ImageFile:
    """A picture of a file or of bytes, of any size, its pixels still to be decoded.

    Pillow takes large pictures for attacks, and refuses them; here memory decides.
    """
    with UNGUARDED:
        guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = guard


def size_and_turn(path: str) -> tuple[tuple[int, int], bool]:
    """Width and height by the head of a picture's file, and whether upright they change places."""
    with open_picture(path) as image:
        return image.size, image.getexif().get(ExifTags.Base.Orientation) in TURNED


def check_rows(image: Image.Image, bgr: np.ndarray | None, content: bytes) -> None:
    """Refuse a picture whose last rows its file does not have.

    Args:
        image: decoded, unless ``bgr`` is there.
        bgr: H x W x 3 as OpenCV decoded it, turned or not.

    Raises:
        OSError: rows are missing.
    """
    right, bottom = image.width - 1, image.height - 1
    if image.format == "PNG":
        last_row = np.asarray(image.crop((0, bottom, right + 1, bottom + 1)))
        lacking = (_interlaced(content) or not last_row.any()) and _png_lacks_rows(content)
    elif image.format in ("JPEG", "MPO"):
        if bgr is None:
            corners = [np.asarray(image.crop((right, bottom, right + 1, bottom + 1)))]
        else:
            corners = [bgr[row, column] for row in (0, -1) for column in (0, -1)]
        grey = any(np.isin(corner, GREY).all() for corner in corners)
        lacking = grey and _jpeg_lacks_blocks(content)
    else:
        lacking = False
    if lacking:
        raise OSError("its data end before its last row")


def _interlaced(content: bytes) -> bool:
    return bool(content[28])


def _png_lacks_rows(content: bytes) -> bool:
    """Whether the data unpack to less than the header promises; all checksums have been checked."""
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    bits = content[24] * PNG_CHANNELS[content[25]]
    missing = 0
    for left, top, across, down in ADAM7 if _interlaced(content) else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            missing += rows * (1 + (columns * bits + 7) // 8)  # each with the number of its filter
    unpacking = decompressobj()
    start = 8
    while missing > 0 and start < len(content):
        length = int.from_bytes(content[start : start + 4], "big")
        packed = content[start + 8 : start + 8 + length]
        if content[start + 4 : start + 8] == b"IDAT":
            while missing > 0 and packed:
                missing -= len(unpacking.decompress(packed, BLOCK))
                packed = unpacking.unconsumed_tail
        start += 12 + length
    return missing > 0


def _jpeg_lacks_blocks(content: bytes) -> bool:
    """Whether more data before the end would be taken for pixels; else they are passed over."""
    end = content.rindex(JPEG_END)
    filled = content[:end] + FILLING + content[end:]
    before, after = (crc32(open_picture(BytesIO(each)).tobytes()) for each in (content, filled))
    return before != after
