"""Open and write picture files; one that is damaged or cut off is refused in one line by its name.

Decoders make up rows that are missing: Pillow leaves them black where the data of a PNG end early
with right checksums, libjpeg makes them grey where a JPEG ends too soon. Most files are quickly
seen to be whole; the others are read a second time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32, decompressobj

import mmengine.fileio as fileio
import numpy as np
from PIL import ExifTags, Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fcn_plugin.data.file_kinds import is_raw, kind_of, tiff_in_words
from fcn_plugin.errors import DamagedFile, UserError
from fcn_plugin.system.files import is_special, replacing
from fcn_plugin.system.memory import check_picture

# Called with a picture's path and its width and height, before it is decoded.
CheckSize = Callable[[str | Path, tuple[int, int]], None]

FORMATS = {".png": "PNG", ".jpg": "JPEG"}
WIDE_MODES = ("I", "I;16", "I;16B", "I;16L")  # Pillow's, of one channel of more than 8 bits
TURNED = (5, 6, 7, 8)  # EXIF's orientations of pictures that lie on their side
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
# What libjpeg puts for missing pixels, also when these are inverted, as CMYK is.
GREY = (127, 128)
FILLING = bytes(range(1, 65))  # no code of a JPEG's end, and not the same for long
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the header's colour type
# First column and row, steps across and down, of each pass of an interlaced PNG.
ADAM7 = [tuple(map(int, each)) for each in ["0088", "4088", "0448", "2044", "0224", "1022", "0112"]]
BLOCK = 1 << 16  # bytes that are unpacked at a time

# Held while Pillow's guard against large pictures, which is one for all threads, is lifted.
UNGUARDED = Lock()


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


# --- open ----------------------------------------------------------------------------------------


def open_picture(source: Any, formats: list[str] | None = None) -> ImageFile.ImageFile:
    """A picture of any size, from a file or bytes, its pixels still to be decoded.

    Pillow refuses large pictures as attacks; here memory decides.
    """
    with UNGUARDED:
        guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = guard


def size_and_turn(path: str) -> tuple[tuple[int, int], bool]:
    """Width and height from the head of a picture's file, and whether upright they swap places."""
    with open_picture(path) as image:
        return image.size, image.getexif().get(ExifTags.Base.Orientation) in TURNED


def content_of(path: str | Path, kind: str, backend_args: dict | None) -> bytes:
    """The bytes of a file, an "image" or a "label".

    Raises:
        UserError: it is missing, unreadable, or a pipe, device or socket.
    """
    if not backend_args and is_special(path):
        raise DamagedFile(f"{path}: a pipe, device or socket; save the {kind} to a file")
    try:
        return fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        remedy = "add the file, or take its name out of the data set's list"
        raise UserError(f"{path}: no such {kind}; {remedy}") from None
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read ({error.strerror}); make it readable") from error


def open_checked(
    content: bytes, path: str | Path, kind: str, check_size: CheckSize = check_picture
) -> ImageFile.ImageFile:
    """A picture whose pixels are still to be decoded; all checksums of a PNG are right.

    Raises:
        UserError: it is damaged or no picture, or ``check_size`` refuses it.
    """
    with damage_named(path, kind, content):
        image = open_picture(BytesIO(content))
        # Pillow would have Ghostscript run an EPS, sees only the preview of a raw file, and only
        # the name of a stub.
        raw = isinstance(image, TiffImageFile) and is_raw(content, image.tag_v2)
        if raw or image.format == "EPS" or isinstance(image, ImageFile.StubImageFile):
            raise Image.UnidentifiedImageError
        if image.format == "PNG":
            image.verify()  # the checksums of the pixels, which decoding does not look at
            image = open_picture(BytesIO(content))  # the verified one cannot be used further
    check_size(path, image.size)
    return image


@contextmanager
def damage_named(path: str | Path, kind: str, content: bytes | None) -> Iterator[None]:
    """Turn whatever a decoder raises into one line that names the file."""
    lenient = ImageFile.LOAD_TRUNCATED_IMAGES  # another package may have set it
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    except UserError:
        raise
    # What a decoder raises on arbitrary bytes is not documented: OSError, SyntaxError, struct.error
    # and more have been seen.
    except Exception as error:
        unknown = isinstance(error, Image.UnidentifiedImageError)
        if unknown and content and (other := kind_of(content)):
            raise DamagedFile(f"{path}: {other.name}; {other.remedy}") from error
        if content == b"":
            reason = "the file is empty"
        elif unknown:
            reason = "no image format is recognised in it"
        else:
            reason = " ".join(str(error).split())  # OpenCV's go over several lines
        remedy = "copy, download or unpack it again"
        raise DamagedFile(f"{path}: damaged {kind}, {reason}; {remedy}") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def raw_mode_of(image: ImageFile.ImageFile) -> str:
    """Pillow's name for the pixels as the file has them, before it has decoded them."""
    if not image.tile:
        return image.mode
    raw_mode = image.tile[0][3]
    return str(raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode)


def numbers_in_words(image: Image.Image) -> str:
    """A picture of other numbers than 8 or 16 bits hold, such as ``a TIFF of 1 band, ...``."""
    tags = getattr(image, "tag_v2", None)
    return tiff_in_words(tags) if tags else "a picture of numbers beyond 16 bits"


# --- whether all rows are there ------------------------------------------------------------------


def check_rows(image: Image.Image, bgr: np.ndarray | None, content: bytes) -> None:
    """Refuse a picture whose last rows its file does not have.

    Args:
        image: decoded, unless ``bgr`` is there.
        bgr: H x W x 3 as OpenCV decoded it, turned or not.

    Raises:
        OSError: rows are missing.
    """
    right, bottom = image.width - 1, image.height - 1
    missing = False
    if image.format == "PNG":
        last_row = np.asarray(image.crop((0, bottom, right + 1, bottom + 1)))
        is_interlaced = content[28] != 0
        missing = (is_interlaced or not last_row.any()) and _png_lacks_rows(content, is_interlaced)
    elif image.format in ("JPEG", "MPO"):
        if bgr is None:
            corners = [np.asarray(image.crop((right, bottom, right + 1, bottom + 1)))]
        else:
            corners = [bgr[row, column] for row in (0, -1) for column in (0, -1)]
        is_grey = any(np.isin(corner, GREY).all() for corner in corners)
        missing = is_grey and _jpeg_lacks_blocks(content)
    if missing:
        raise OSError("its data end before its last row")


def _png_lacks_rows(content: bytes, is_interlaced: bool) -> bool:
    """Whether the data unpack to less than the header promises; all checksums have been checked."""
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    bits = content[24] * PNG_CHANNELS[content[25]]
    promised = 0
    for left, top, across, down in ADAM7 if is_interlaced else [(0, 0, 1, 1)]:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        if columns:
            promised += rows * (1 + (columns * bits + 7) // 8)  # each with the number of its filter
    unpacking, at = decompressobj(), 8
    while promised > 0 and at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        packed = content[at + 8 : end - 4] if content[at + 4 : at + 8] == b"IDAT" else b""
        while promised > 0 and packed:
            promised -= len(unpacking.decompress(packed, BLOCK))
            packed = unpacking.unconsumed_tail
        at = end
    return promised > 0


def _jpeg_lacks_blocks(content: bytes) -> bool:
    """Whether more data before the end would be decoded as pixels; a whole file ignores them."""
    end = content.rindex(JPEG_END)
    filled = content[:end] + FILLING + content[end:]
    before, after = (crc32(open_picture(BytesIO(each)).tobytes()) for each in (content, filled))
    return before != after
