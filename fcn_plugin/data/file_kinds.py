"""Recognise files that cannot be read as images by their first bytes, with a remedy for each."""

import io
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    ImageFileDirectory_v2,
)

START = 512  # bytes of a file that are compared with the patterns
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TIFF_NUMBERS = {1: "whole numbers", 2: "numbers with a sign", 3: "floating-point numbers"}
NEW_SUBFILE_TYPE, REDUCED, DNG_VERSION = 254, 1, 50706  # TIFF tag, its value for previews, tag


class Kind(NamedTuple):
    """What a file is, and what to do with it."""

    name: str
    remedy: str
    reader: str = ""  # Pillow's name of a format that only some installations of it can read


CONVERT = "convert it to PNG or JPEG"
OWN_LOADER = (
    "convert it to three bands of 8 bits, or put a loader for such files in place of "
    "LoadCheckedImage in the config's pipelines"
)
OUR_LOADER = (
    "convert it to three bands of 8 bits, or put LoadBands, which takes all bands, in place of "
    "LoadCheckedImage in the config's pipelines"
)
DOWNLOAD = "it may say why it is not the picture; download that again"
RAW = Kind("a camera's raw file", "develop it to PNG, TIFF or JPEG")
VIDEO = Kind("a video", "extract its frames, for example with ffmpeg -i FILE frame_%05d.png")
NUMBERS = Kind("an array of numbers", OWN_LOADER)
# Patterns of a file's first bytes; the first match decides.
KINDS: tuple[tuple[bytes, Kind], ...] = (
    (rb"....ftyp(avif|avis)", Kind("an AVIF picture", CONVERT, "AVIF")),
    (rb"....ftyp(hei|hev|mif1|msf1)", Kind("a HEIC picture", CONVERT, "HEIF")),
    (rb"....ftypcrx |.{8}CR\x02\0|FUJIFILMCCD-RAW|II(U\0|RO|RS)|MMOR|FOVb|\0MRM", RAW),
    (rb"....(ftyp|moov|mdat|wide)|RIFF....AVI |\x1a\x45\xdf\xa3|FLV\x01", VIDEO),
    (rb"\0\0\x01[\xba\xb3]|\x30\x26\xb2\x75|OggS|G.{187}G", VIDEO),
    (rb"%PDF-", Kind("a PDF", "save its pictures as PNG")),
    (rb"%!PS|\xc5\xd0\xd3\xc6", Kind("a program in PostScript", "save what it draws as PNG")),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", Kind("a JPEG XL picture", CONVERT, "JPEGXL")),
    (rb"#\?R|v/1\x01", Kind("a high dynamic range picture (HDR, EXR)", OWN_LOADER)),
    (rb".{128}DICM", Kind("a DICOM file", OWN_LOADER)),
    (rb"\x93NUMPY", Kind("an array of NumPy", OWN_LOADER)),
    (rb"\x89HDF|CDF[\x01\x02\x05]|MATLAB 5|SIMPLE  =|.{344}n[i+]1\0", NUMBERS),
    (
        rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar",
        Kind("an archive", "unpack it"),
    ),
    (
        rb"version https://git-lfs",
        Kind("a pointer of Git LFS and not the file itself", "fetch that with: git lfs pull"),
    ),
    (
        rb"(?i)\s*(<\?xml.*)?(<!--.*)?(<!doctype svg.*)?<svg",
        Kind("an SVG drawing", "save it as PNG"),
    ),
    (rb"(?i)\s*(<!--.*)?<(!doctype html|html|head|body)", Kind("a web page", DOWNLOAD)),
    (rb"(\xef\xbb\xbf)?[\t\n\r\x20-\x7e]+\Z", Kind("a text", DOWNLOAD)),
)


def kind_of(content: bytes) -> Kind | None:
    """The kind of a file that Pillow cannot open as an image; None if it is unknown."""
    if content.startswith(TIFF_STARTS):
        return _tiff(content)
    for pattern, kind in KINDS:
        if re.match(pattern, content[:START], re.DOTALL):
            return kind if kind.reader not in Image.OPEN else None
    return None


def _tiff(content: bytes) -> Kind | None:
    file = io.BytesIO(content)
    big = content[2:4] in (b"+\0", b"\0+")
    try:
        tags = ImageFileDirectory_v2(file.read(16 if big else 8))
        file.seek(tags.next)
        tags.load(file)
        return RAW if is_raw(content, tags) else Kind(tiff_in_words(tags), OUR_LOADER)
    # Pillow does not document what it raises on arbitrary bytes.
    except Exception:
        return None


def tiff_in_words(tags: ImageFileDirectory_v2) -> str:
    """A description such as ``a TIFF of 5 bands, 16-bit whole numbers``."""
    bits, bands = tags[BITSPERSAMPLE][0], tags.get(SAMPLESPERPIXEL, 1)
    numbers = TIFF_NUMBERS.get(tags.get(SAMPLEFORMAT, (1,))[0], "numbers")
    return f"a TIFF of {bands} band{'' if bands == 1 else 's'}, {bits}-bit {numbers}"


def is_raw(content: bytes, tags: Mapping[int, Any]) -> bool:
    """Whether a TIFF is a camera's raw file; Pillow would read only its preview."""
    from_canon = content[8:10] == b"CR"
    return from_canon or DNG_VERSION in tags or tags.get(NEW_SUBFILE_TYPE) == REDUCED
