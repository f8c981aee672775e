"""Any label and image: read as it was written, or refused in one line that names the file."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from property.amounts import share
from property.damage import damaged, one_line_naming
from property.png_files import GREY, PALETTE, label_png

from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.labels import LoadCheckedLabel, read_label
from fcn_plugin.errors import UserError

SLOW = 5.0  # seconds; the largest of these files takes milliseconds
sides = st.integers(1, 20)
shapes = st.tuples(sides, sides)


def written(path: Path, content: bytes) -> Path:
    path.unlink(missing_ok=True)  # some file systems wait for the disk to write over a file
    path.write_bytes(content)
    return path


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def indices(bits: int) -> st.SearchStrategy[np.ndarray]:
    dtype = np.uint16 if bits == 16 else np.uint8
    return npst.arrays(dtype, shapes, elements=st.integers(0, 2**bits - 1))


# --- labels that are as they should be -----------------------------------------------------------

FORMS = [(bits, GREY) for bits in (1, 2, 4, 8, 16)] + [(bits, PALETTE) for bits in (1, 2, 4, 8)]


@share(3)
@given(st.sampled_from(FORMS), st.booleans(), st.data())
def test_indices_come_back_from_any_png(tmp_path, form, interlaced, data):
    bits, colour_type = form
    stored = data.draw(indices(bits))
    path = written(tmp_path / "a.png", label_png(stored, bits, colour_type, interlaced))
    found = read_label(path)
    assert found.dtype in (np.uint8, np.uint16) and found.shape == stored.shape
    np.testing.assert_array_equal(found, stored)


SAVED = {
    "TIFF": [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"],
    "BMP": [None],
    "PNG": [None],
}


@given(indices(8), st.sampled_from([(k, c) for k, of in SAVED.items() for c in of]), st.booleans())
def test_indices_come_back_from_what_pillow_saves(tmp_path, stored, form, palette):
    kind, compression = form
    image = Image.fromarray(stored)
    if palette:
        image.putpalette([level // 3 for level in range(768)])
    options = dict(compression=compression) if compression else {}
    path = written(tmp_path / "a", encoded(image, kind, **options))
    np.testing.assert_array_equal(read_label(path), stored)


LOSSY = {"JPEG": {}, "JPEG2000": {}, "GIF": {}, "PPM": {}, "TIFF": dict(compression="jpeg")}


@pytest.mark.parametrize("kind", LOSSY)
def test_formats_that_do_not_keep_indices_are_refused(tmp_path, kind):
    """mmseg takes what comes out of them: of these values JPEG makes others, GIF all."""
    stored = np.random.default_rng(0).integers(0, 21, (16, 16), dtype=np.uint8)
    path = written(tmp_path / "a", encoded(Image.fromarray(stored), kind, **LOSSY[kind]))
    with pytest.raises(UserError, match=r"a: label in .*, which may change .*; save .* as PNG"):
        read_label(path)


@share(2)
@given(
    npst.arrays(np.uint8, shapes, elements=st.integers(0, 30) | st.just(255)),
    st.integers(1, 31),
    st.booleans(),
    st.dictionaries(st.integers(0, 30), st.integers(0, 30) | st.just(255), max_size=4),
    st.just(255) | st.integers(0, 31),
)
def test_a_label_means_what_the_data_set_says_or_is_refused(
    tmp_path, stored, classes, reduce, label_map, ignored
):
    """Pixel by pixel, in mmseg's order: first the zero label, then the map; 255 is ignored too."""
    path = written(tmp_path / "a.png", label_png(stored, 8, GREY, False))
    sample = dict(seg_map_path=path, seg_fields=[], reduce_zero_label=reduce, label_map=label_map)

    def meaning(value: int) -> int:
        if reduce:
            value = 255 if value in (0, 255) else value - 1
        value = label_map.get(value, value)
        return ignored if value == 255 else value

    expected = [[meaning(value) for value in row] for row in stored.tolist()]
    load = LoadCheckedLabel(classes, ignore_index=ignored)
    if all(value < classes or value == ignored for row in expected for value in row):
        found = load.transform(sample)["gt_seg_map"]
        assert found.dtype == np.uint8 and found.tolist() == expected
    else:
        with pytest.raises(UserError) as error:
            load.transform(sample)
        assert one_line_naming(error.value, path)


# --- images that are as they should be -----------------------------------------------------------

pictures = npst.arrays(np.uint8, shapes.map(lambda shape: (*shape, 3)))
LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "WEBP": dict(lossless=True, exact=True), "PPM": {}}


@given(pictures, st.sampled_from(sorted(LOSSLESS)))
def test_an_image_comes_back_as_blue_green_red(tmp_path, stored, kind):
    path = written(tmp_path / "a", encoded(Image.fromarray(stored), kind, **LOSSLESS[kind]))
    found = LoadCheckedImage().transform(dict(img_path=str(path)))
    assert found["img_shape"] == found["ori_shape"] == stored.shape[:2]
    np.testing.assert_array_equal(found["img"], stored[..., ::-1])


# What is done to the image as it is stored to see it upright, by number (EXIF 2.3, 4.6.4).
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x.transpose(1, 0, 2)[:, ::-1],
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: x.transpose(1, 0, 2)[::-1],
}


@given(pictures, st.sampled_from(sorted(UPRIGHT)), st.sampled_from(["PNG", "WEBP", "TIFF"]))
def test_an_image_is_turned_upright(tmp_path, stored, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(stored), kind, exif=exif, **LOSSLESS[kind])
    path = written(tmp_path / "a", content)
    found = LoadCheckedImage().transform(dict(img_path=str(path)))["img"]
    np.testing.assert_array_equal(found, UPRIGHT[orientation](stored)[..., ::-1])


# --- damaged ones --------------------------------------------------------------------------------

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6
COLOUR = Image.fromarray(NOISE)
LABEL = Image.fromarray(NOISE[..., 0] % 21)
FILES = {
    "PNG": encoded(COLOUR, "PNG"),
    "JPEG": encoded(COLOUR, "JPEG", exif=TURNED),
    "progressive JPEG": encoded(COLOUR, "JPEG", progressive=True),
    "CMYK JPEG": encoded(COLOUR.convert("CMYK"), "JPEG"),
    "WebP": encoded(COLOUR, "WEBP", exif=TURNED),
    "GIF": encoded(COLOUR, "GIF", save_all=True, append_images=[COLOUR.rotate(180)]),
    "TIFF": encoded(COLOUR, "TIFF", compression="tiff_lzw"),
    "BMP": encoded(COLOUR, "BMP"),
    "label": encoded(LABEL, "PNG"),
    "palette label": encoded(LABEL.quantize(21), "PNG"),
    "16-bit label": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16)), "PNG"),
    "interlaced label": label_png(NOISE[..., 0] % 16, 4, PALETTE, True),
    "TIFF label": encoded(LABEL, "TIFF"),
}
READERS = {
    "image": lambda path: LoadCheckedImage().transform(dict(img_path=str(path)))["img"],
    "label": read_label,
}


def check(reader: str, path: Path) -> bool:
    """Whether the file was read; anything but an array or a UserError of one line raises."""
    begun = time.perf_counter()
    try:
        found = READERS[reader](path)
    except UserError as error:
        assert one_line_naming(error, path), str(error)
        found = None
    assert time.perf_counter() - begun < SLOW
    if found is not None:
        assert found.ndim == (3 if reader == "image" else 2) and found.size > 0
        assert np.issubdtype(found.dtype, np.integer)
        assert reader == "label" or (found.dtype == np.uint8 and found.shape[2] == 3)
    return found is not None


@pytest.mark.parametrize("reader", READERS)
@share(8)
@given(content=damaged(st.sampled_from(sorted(FILES.values()))))
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_are_read_or_refused(tmp_path, reader, content):
    check(reader, written(tmp_path / "a.img", content))


HEADS = [b"", b"\xff\xd8\xff\xe0", label_png(np.zeros((1, 1), int), 8, GREY, False)[:33], b"GIF89a"]
HEADS += [b"II*\0", b"MM\0*", b"BM", b"RIFF\0\0\0\0WEBP", b"P5 3 3 255\n", b"\0\0\0\x0cjP  "]


@pytest.mark.parametrize("reader", READERS)
@share(2)
@given(head=st.sampled_from(HEADS), rest=st.binary(max_size=200))
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_any_bytes_are_read_or_refused(tmp_path, reader, head, rest):
    check(reader, written(tmp_path / "a.img", head + rest))


@share(4)
@given(damaged(st.sampled_from([FILES["label"], FILES["palette label"], FILES["16-bit label"]])))
def test_a_damaged_png_shows_no_other_label(tmp_path, content):
    """Its checksums let no pixel through that is not as it was stored."""
    path = written(tmp_path / "a.png", content)
    try:
        found = read_label(path)
    except UserError:
        return
    originals = [np.asarray(LABEL), np.asarray(LABEL.quantize(21)), NOISE[..., 0]]
    assert any(np.array_equal(found, original) for original in originals)


def test_a_flipped_bit_that_only_a_checksum_shows(tmp_path):
    """Each bit of a label's pixels in turn; Pillow and OpenCV decode some of these files."""
    original = np.kron(NOISE[:8, :8, 0] % 21, np.ones((4, 4), np.uint8))
    content = encoded(Image.fromarray(original), "PNG")
    first, last, noticed_by_pillow = content.index(b"IDAT") + 4, content.index(b"IEND") - 8, 0
    for place in range(8 * first, 8 * last):
        made = bytearray(content)
        made[place // 8] ^= 1 << place % 8
        path = written(tmp_path / "a.png", bytes(made))
        with pytest.raises(UserError, match=r"a\.png: damaged label"):
            read_label(path)
        try:
            np.asarray(Image.open(path))
        except (OSError, SyntaxError):
            noticed_by_pillow += 1
    assert noticed_by_pillow < 8 * (last - first)
