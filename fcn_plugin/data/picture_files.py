"""Open and write picture files; a damaged or truncated file raises one line that names it.

Decoders invent missing rows: Pillow leaves them black if a PNG with correct checksums ends early,
and libjpeg fills them with grey if a JPEG does. A last row or corner in such a colour is suspect,
and so is an interlaced PNG; only these files are decoded a second time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32, decompressobj

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
WIDE_MODES = ("I", "I;16", "I;16B", "I;16L")  # Pillow's modes of one channel above 8 bits
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
# libjpeg's value for missing pixels, as it is and inverted, as in CMYK.
GREY = {127, 128}
# Extra JPEG data: varied, so that it decodes to something, and without 0xff, so without a marker.
FILLING = bytes(range(1, 65))
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type in the header -> channels
# Each pass of an interlaced PNG: first column, first row, column step, row step.
ADAM7 = [tuple(map(int, row)) for row in ["0088", "4088", "0448", "2044", "0224", "1022", "0112"]]
BLOCK = 1 << 16  # bytes to decompress at a time

# Held while Pillow's limit on large pictures is off, because all threads share that limit.
UNGUARDED = Lock()


def save_picture(image: Image.Image, path: Path, **options: Any) -> None:
    """Write a .png or .jpg whole or not at all; several processes may write the same file.

    Args:
        options: Pillow's options for the format.
    """
    # Into memory first: Pillow does not notice if a full disk takes only part of a JPEG.
    content = BytesIO()
    image.save(content, FORMATS[path.suffix], **options)
    with replacing(path, alone=False) as part:
        part.write_bytes(content.getbuffer())


# --- open ----------------------------------------------------------------------------------------


def open_picture(source: Any, formats: list[str] | None = None) -> ImageFile.ImageFile:
    """A picture of any size from a file or bytes, with its pixels not decoded yet.

    Pillow's size limit is lifted; ``check_picture`` compares with the free memory instead.
    """
    with UNGUARDED:
        guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = guard


def size_and_turn(path: str) -> tuple[tuple[int, int], bool]:
    """(width, height) in a picture file's header, and whether turning it upright swaps them."""
    with open_picture(path) as image:
        return image.size, image.getexif().get(ExifTags.Base.Orientation) in TURNED


def content_of(path: str | Path, kind: str, backend_args: dict | None) -> bytes:
    """The bytes of a file; ``kind``, "image" or "label", is for the messages.

    Raises:
        UserError: the file is missing, unreadable, or a pipe, device or socket.
    """
    if not backend_args and is_special(path):
        raise DamagedFile(f"{path}: a pipe, device or socket; save the {kind} to a file")
    try:
        if not backend_args and "://" not in str(path):
            return Path(path).read_bytes()
        import mmengine.fileio as fileio  # here, because pictures on the disk need no mmengine

        return fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        remedy = "add the file, or take its name out of the data set's list"
        raise UserError(f"{path}: no such {kind}; {remedy}") from None
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read ({error.strerror}); make it readable") from error


def open_checked(
    content: bytes, path: str | Path, kind: str, check_size: CheckSize = check_picture
) -> ImageFile.ImageFile:
    """A picture with its pixels not decoded yet; the checksums of a PNG have been verified.

    Raises:
        UserError: the file is damaged or no picture, or ``check_size`` refuses it.
    """
    with damage_named(path, kind, content):
        image = open_picture(BytesIO(content))
        # Pillow would run Ghostscript on an EPS, would read only the preview of a camera's raw
        # file, and cannot decode formats that it has only a stub for.
        raw = isinstance(image, TiffImageFile) and is_raw(content, image.tag_v2)
        if raw or image.format == "EPS" or isinstance(image, ImageFile.StubImageFile):
            raise Image.UnidentifiedImageError
        if image.format == "PNG":
            image.verify()  # decoding does not verify the pixels' checksums
            image = open_picture(BytesIO(content))  # verify() leaves an image unusable
    check_size(path, image.size)
    return image


@contextmanager
def damage_named(path: str | Path, kind: str, content: bytes | None) -> Iterator[None]:
    """Turn any exception of a decoder into a ``DamagedFile`` of one line that names the file."""
    lenient = ImageFile.LOAD_TRUNCATED_IMAGES  # another package may have set it
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    except UserError:
        raise
    # Decoders do not document what they raise on arbitrary bytes: OSError, SyntaxError,
    # struct.error and more have occurred.
    except Exception as error:
        unknown = isinstance(error, Image.UnidentifiedImageError)
        if unknown and content and (other := kind_of(content)):
            raise DamagedFile(f"{path}: {other.name}; {other.remedy}") from error
        if content == b"":
            reason = "the file is empty"
        elif unknown:
            reason = "no image format is recognised in it"
        else:
            reason = " ".join(str(error).split())  # OpenCV's messages have several lines
        remedy = "copy, download or unpack it again"
        raise DamagedFile(f"{path}: damaged {kind}, {reason}; {remedy}") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def raw_mode_of(image: ImageFile.ImageFile) -> str:
    """Pillow's name for the pixel format in the file; call it before decoding."""
    if not image.tile:
        return image.mode
    raw_mode = image.tile[0][3]
    return str(raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode)


def numbers_in_words(image: Image.Image) -> str:
    """Describe a picture of floats or wide integers, such as ``a TIFF of 1 band, ...``."""
    tags = getattr(image, "tag_v2", None)
    return tiff_in_words(tags) if tags else "a picture of numbers beyond 16 bits"


# --- whether all rows are there ------------------------------------------------------------------


def check_rows(image: Image.Image, bgr: np.ndarray | None, content: bytes) -> None:
    """Raise an error if the file of a picture lacks its last rows.

    Args:
        image: decoded, unless ``bgr`` is given.
        bgr: [H, W, 3] as decoded by OpenCV, turned upright or not.

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
        is_grey = any(GREY.issuperset(corner.ravel().tolist()) for corner in corners)
        missing = is_grey and _jpeg_lacks_blocks(content)
    if missing:
        raise OSError("its data end before its last row")


def _png_lacks_rows(content: bytes, is_interlaced: bool) -> bool:
    """Whether a PNG with correct checksums decompresses to fewer bytes than its header promises."""
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    bits = content[24] * PNG_CHANNELS[content[25]]
    promised = 0
    for left, top, across, down in ADAM7 if is_interlaced else [(0, 0, 1, 1)]:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        if columns:
            promised += rows * (1 + (columns * bits + 7) // 8)  # 1: the row's filter
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
    """Whether data added before the end marker changes the pixels; a complete JPEG ignores it."""
    end = content.rindex(JPEG_END)
    filled = content[:end] + FILLING + content[end:]
    before, after = (crc32(open_picture(BytesIO(jpeg)).tobytes()) for jpeg in (content, filled))
    return before != after
