"""Pictures whose data end before their last row: refused, in whatever form they are stored."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from property.png_files import PASSES, SIGNATURE, chunk

from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.labels import read_label
from fcn_plugin.errors import DamagedFile

RNG = np.random.default_rng(0)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ONE_CHANNEL = (0, 3)
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
FORMS = [(colour_type, bits) for colour_type in DEPTHS for bits in DEPTHS[colour_type]]


def rows(
    colour_type: int, bits: int, interlaced: bool, size: tuple[int, int], black: bool
) -> list[bytes]:
    """The pixels before they are compressed, each row after its filter's number."""
    width, height = size
    content = []
    for left, top, across, down in PASSES if interlaced else [(0, 0, 1, 1)]:
        columns, lines = len(range(left, width, across)), len(range(top, height, down))
        length = -(-columns * CHANNELS[colour_type] * bits // 8)
        for _ in range(lines if columns else 0):
            content.append(b"\0" + (bytes(length) if black else RNG.bytes(length)))
    return content


def png(colour_type: int, bits: int, interlaced: bool, size: tuple[int, int], content: bytes):
    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, interlaced)
    colours = chunk(b"PLTE", bytes(range(3 * 2 ** min(bits, 6)))) if colour_type == 3 else b""
    packed = zlib.compress(content)
    data = [chunk(b"IDAT", packed[at : at + 40]) for at in range(0, len(packed), 40)]
    return b"".join([SIGNATURE, chunk(b"IHDR", header), colours, *data, chunk(b"IEND", b"")])


def load(path):
    return LoadCheckedImage().transform(dict(img_path=str(path)))["img"]


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("colour_type", "bits"), FORMS)
def test_a_png_of_too_few_rows(tmp_path, colour_type, bits, interlaced):
    for size in ((13, 11), (1, 1), (3, 9)):
        for black in (False, True):
            content = rows(colour_type, bits, interlaced, size, black)
            path = tmp_path / "a.png"
            readers = [load, read_label] if colour_type in ONE_CHANNEL else [load]
            path.write_bytes(png(colour_type, bits, interlaced, size, b"".join(content)))
            for read in readers:
                assert read(path).shape[:2] == size[::-1]
            # Without the last rows, or a byte of the last: that is what Pillow has a word for.
            for kept in (content[: len(content) // 2], content[:-1], [b"".join(content)[:-1]]):
                path.write_bytes(png(colour_type, bits, interlaced, size, b"".join(kept)))
                for read in readers:
                    with pytest.raises(DamagedFile, match=r"a\.png: damaged .*; copy, download"):
                        read(path)


def test_data_after_the_last_row_do_no_harm(tmp_path):
    content = b"".join(rows(0, 8, False, (5, 4), black=True)) + bytes(100)
    (tmp_path / "a.png").write_bytes(png(0, 8, False, (5, 4), content))
    assert read_label(tmp_path / "a.png").shape == (4, 5)


def test_another_package_may_have_told_pillow_to_be_lenient(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    Image.fromarray(RNG.integers(0, 20, (64, 64), np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for read in (load, read_label):
        (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
        with pytest.raises(DamagedFile, match=r"b\.png: damaged"):
            read(tmp_path / "b.png")
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def jpeg(mode: str, **options) -> bytes:
    stream = io.BytesIO()
    noise = RNG.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


JPEGS = {
    "colour": ("RGB", {}),
    "full chroma": ("RGB", dict(subsampling=0)),
    "grey": ("L", {}),
    "CMYK": ("CMYK", {}),
    "restarts": ("RGB", dict(restart_marker_blocks=2)),
    **{f"turned {number}": ("RGB", dict(exif=turned(number))) for number in (2, 3, 6, 8)},
}


@pytest.mark.parametrize("kept", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_whose_end_comes_too_soon(tmp_path, name, kept):
    mode, options = JPEGS[name]
    content = jpeg(mode, **options)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    load(path)
    begin = content.index(b"\xff\xda")
    cut = content[: begin + int(kept * (len(content) - begin))].rstrip(b"\xff")
    path.write_bytes(cut + b"\xff\xd9")
    with pytest.raises(DamagedFile, match=r"a\.jpg: damaged image, .*; copy, download"):
        load(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_whole_jpeg_may_be_grey(tmp_path, mode, progressive):
    """As missing pixels are."""
    grey = Image.new("L", (50, 40), 128).convert("RGB")
    if mode != "L":
        grey.paste((250, 3, 9), (10, 10, 20, 20))
    grey.convert(mode).save(tmp_path / "a.jpg", quality=95, progressive=progressive)
    assert load(tmp_path / "a.jpg").shape == (40, 50, 3)
