"""Files that are no whole picture: each is refused in one line that names it and what to do.

Any damage is in property/test_any_label.py.
"""

import os
from itertools import product

import numpy as np
import pytest
from data.pictures import (
    HIGH,
    NOISE,
    RAMP,
    READERS,
    RNG,
    WIDE,
    by_opencv,
    exif,
    load_image,
    saved,
    written,
)
from PIL import Image, ImageFile, TiffImagePlugin
from property.png_files import filled_rows, png

from fcn_plugin.data.labels import read_label
from fcn_plugin.errors import DamagedFile, UserError

JPEG, PNG = saved(NOISE, "JPEG"), saved(NOISE)
DAMAGED = [
    (b"", "the file is empty"),
    (JPEG[: len(JPEG) // 2], "truncated"),
    (saved(NOISE, "JPEG", progressive=True)[: len(JPEG) // 3], "truncated"),
    (PNG[:-12], "truncated"),
    (PNG[:3000] + bytes([PNG[3000] ^ 1]) + PNG[3001:], "broken PNG file"),
    (bytes(1000), "no image format is recognised"),
    (PNG[:16] + b"\x7f\xff\xff\xff" * 2 + PNG[24:], ""),  # a size beyond all memory
]


@pytest.mark.parametrize(("content", "reason"), DAMAGED)
def test_a_damaged_image_is_named(tmp_path, monkeypatch, content, reason):
    """Whatever another package has told Pillow of truncated files."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = written(tmp_path / "a.jpg", content)
    with pytest.raises(DamagedFile, match=f"a.jpg: damaged image, .*{reason}.*; copy, download"):
        load_image(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_file_to_read(tmp_path, kind):
    load = READERS[kind]
    with pytest.raises(UserError, match=f"a.png: no such {kind}; add the file, or take its name"):
        load(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(DamagedFile, match=r"b.png: cannot be read \(Is a directory\)"):
        load(tmp_path / "b.png")
    os.mkfifo(tmp_path / "c.png")
    with pytest.raises(DamagedFile, match=f"c.png: a pipe, device or socket; save the {kind}"):
        load(tmp_path / "c.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_memory_decides_what_is_too_large_not_pillow(tmp_path, monkeypatch):
    """Pillow's guard is as it was afterwards; a picture is refused by its head alone."""
    files = {name: saved(RAMP[..., 0], name) for name in ("PNG", "JPEG", "BMP")}
    cases = [(load_image, written(tmp_path / name, files[name])) for name in files]
    cases.append((read_label, tmp_path / "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDE)
    monkeypatch.setattr("fcn_plugin.data.decoding.AT_ONCE", WIDE)  # Pillow 12 guards crops, too
    for load, path in cases:
        assert load(path).shape[:2] == (HIGH, WIDE)
    assert Image.MAX_IMAGE_PIXELS == WIDE
    monkeypatch.setattr("fcn_plugin.system.memory.SMALL", 10)
    monkeypatch.setattr("fcn_plugin.system.memory.free_memory", lambda: 1000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    for load, path in cases:
        with pytest.raises(UserError, match=rf"{path}: a picture of 16x24 .* are free") as error:
            load(path)
        assert not isinstance(error.value, DamagedFile)


def tagged(tag: int) -> bytes:
    """A TIFF with one more tag."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag] = 1
    return saved(RAMP, "TIFF", tiffinfo=tags)


REST = bytes(99)
FTYP = b"\0\0\0\x18ftyp%s\0\0\0\0" + REST
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
OWN_LOADER = "convert it to three bands of 8 bits, or put a loader"
OUR_LOADER = "convert it to three bands of 8 bits, or put LoadBands"
RAW = "a camera's raw file", "develop it"
# file, what it is, what to do with it
OTHERS = [
    (FTYP % b"isom", "a video", "ffmpeg"),
    (FTYP % b"heic", "a HEIC picture", "convert it"),
    (tagged(50706), *RAW),  # DNG
    (tagged(254), *RAW),  # a preview first
    (by_opencv(".tiff", np.zeros((8, 9, 3), np.float32)), "32-bit floating-point", OUR_LOADER),
    (saved(np.ones((3, 4), np.float32), "TIFF"), "a TIFF of 1 band, 32-bit floating-point", ""),
    (saved(RAMP, "EPS"), "a program in PostScript", "save what it draws"),
    (b'<?xml version="1.0"?>\n<!-- -->\n<svg width="9">', "an SVG drawing", "save it as PNG"),
    (bytes(128) + b"DICM" + REST, "a DICOM file", OWN_LOADER),
    (b"\x93NUMPY\x01\0v\0" + REST, "an array of NumPy", OWN_LOADER),
    (b"a.jpg".ljust(257, b"\0") + b"ustar\00000", "an archive", "unpack it"),
    (b"\n<!DOCTYPE html><title>404</title>", "a web page", "download that again"),
    (LFS, "a pointer of Git LFS", "git lfs pull"),
]


@pytest.mark.parametrize(("content", "kind", "remedy"), OTHERS)
def test_what_is_no_image_is_told_and_not_called_damaged(tmp_path, content, kind, remedy):
    path = written(tmp_path / "a.jpg", content)
    for load in READERS.values():
        with pytest.raises(UserError, match=rf"a\.jpg: .*{kind}.*; .*{remedy}") as error:
            load(path)
        assert "damaged" not in str(error.value) and len(str(error.value).splitlines()) == 1


# --- data that end before the last row -----------------------------------------------------------

DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("colour_type", DEPTHS)
def test_a_png_of_too_few_rows(tmp_path, colour_type, interlaced):
    path = tmp_path / "a.png"
    readers = [load_image, read_label] if colour_type in (0, 3) else [load_image]
    for bits, size, fill, read in product(
        DEPTHS[colour_type], ((13, 11), (1, 1), (3, 9)), (bytes, RNG.bytes), readers
    ):
        rows = filled_rows(colour_type, bits, interlaced, size, fill)
        whole = b"".join(rows)
        for more in (b"", bytes(9)):  # which does no harm
            written(path, png(whole + more, bits, colour_type, interlaced, size))
            assert read(path).shape[:2] == size[::-1]
        # Without the last rows, or a byte of the last: Pillow has a word for that.
        for cut in (rows[: len(rows) // 2], rows[:-1], [whole[:-1]]):
            written(path, png(b"".join(cut), bits, colour_type, interlaced, size))
            with pytest.raises(DamagedFile, match=r"a\.png: damaged .*; copy"):
                read(path)


JPEGS = [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", dict(restart_marker_blocks=2))]
JPEGS += [("RGB", dict(exif=exif(number))) for number in (3, 6)]


@pytest.mark.parametrize(("mode", "options"), JPEGS)
def test_a_jpeg_whose_end_comes_too_soon(tmp_path, mode, options):
    noise = Image.fromarray(np.tile(NOISE, (2, 2, 1))[:70, :90])
    content = saved(noise.convert(mode), "JPEG", **options)
    load_image(written(tmp_path / "a.jpg", content))
    begin = content.index(b"\xff\xda")
    for kept in (0.4, 0.7, 0.95):
        cut = content[: begin + int(kept * (len(content) - begin))].rstrip(b"\xff")
        with pytest.raises(DamagedFile, match=r"a\.jpg: damaged image, .*; copy, download"):
            load_image(written(tmp_path / "a.jpg", cut + b"\xff\xd9"))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_whole_jpeg_may_be_grey_as_missing_pixels_are(tmp_path, mode):
    grey = Image.new("L", (50, 40), 128).convert(mode)
    content = saved(grey, "JPEG", quality=95)
    assert load_image(written(tmp_path / "a.jpg", content)).shape == (40, 50, 3)
