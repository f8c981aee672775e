"""Any label and image: read as it was written, or refused in one line that names the file."""

import io
import time

import numpy as np
import pytest
from data.pictures import NOISE, READERS, exif, load_image, load_label, saved, written
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from property.amounts import share
from property.damage import damaged, one_line_naming
from property.png_files import GREY, PALETTE, label_png

from fcn_plugin.data.labels import read_label
from fcn_plugin.errors import UserError

SLOW = 5.0  # seconds; the largest of these files takes milliseconds
sides = st.integers(1, 20)
shapes = st.tuples(sides, sides)


def indices(bits: int) -> st.SearchStrategy[np.ndarray]:
    dtype = np.uint16 if bits == 16 else np.uint8
    return npst.arrays(dtype, shapes, elements=st.integers(0, 2**bits - 1))


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


SAVED = [("BMP", {}), ("TIFF", {}), ("TIFF", dict(compression="tiff_lzw"))]


@given(indices(8), st.sampled_from(SAVED))
def test_indices_come_back_from_what_pillow_saves(tmp_path, stored, form):
    path = written(tmp_path / "a", saved(stored, form[0], **form[1]))
    np.testing.assert_array_equal(read_label(path), stored)


@share(4)
@given(
    npst.arrays(np.uint8, shapes, elements=st.integers(0, 30) | st.integers(250, 255)),
    st.integers(1, 31) | st.integers(251, 255),
    st.booleans(),
    st.dictionaries(st.integers(0, 30), st.integers(0, 30) | st.just(255), max_size=4),
    st.just(255) | st.integers(0, 31),
)
def test_a_label_means_what_the_data_set_says_or_is_refused(
    tmp_path, stored, classes, reduce, label_map, ignored
):
    """Pixel by pixel, in mmseg's order: first the zero label, then the map; 255 is ignored too."""
    path = written(tmp_path / "a.png", label_png(stored, 8, GREY, False))
    sample = dict(num_classes=classes, ignore_index=ignored, reduce_zero_label=reduce)

    def meaning(value: int) -> int:
        if reduce:
            value = 255 if value in (0, 255) else value - 1
        value = label_map.get(value, value)
        return ignored if value == 255 else value

    expected = [[meaning(value) for value in row] for row in stored.tolist()]
    if all(value < classes or value == ignored for row in expected for value in row):
        found = load_label(path, label_map=label_map, **sample)
        assert found.dtype == np.uint8 and found.tolist() == expected
    else:
        with pytest.raises(UserError) as error:
            load_label(path, label_map=label_map, **sample)
        assert one_line_naming(error.value, path)


pictures = npst.arrays(np.uint8, shapes.map(lambda shape: (*shape, 3)))
LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "WEBP": dict(lossless=True, exact=True), "PPM": {}}
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


@given(pictures, st.sampled_from(sorted(UPRIGHT)), st.sampled_from(sorted(LOSSLESS)))
def test_an_image_comes_back_upright_as_blue_green_red(tmp_path, stored, orientation, kind):
    content = saved(stored, kind, exif=exif(orientation), **LOSSLESS[kind])
    found = load_image(written(tmp_path / "a", content))
    orientation = 1 if kind in ("BMP", "PPM") else orientation  # they have no room for it
    np.testing.assert_array_equal(found, UPRIGHT[orientation](stored)[..., ::-1])


PIXELS = NOISE[:20, :30]
COLOUR, LABEL = Image.fromarray(PIXELS), Image.fromarray(PIXELS[..., 0] % 21)
LABELS = {
    "grey": saved(LABEL),
    "palette": saved(LABEL.quantize(21)),
    "16 bits": saved(PIXELS[..., 0].astype(np.uint16)),
    "interlaced": label_png(PIXELS[..., 0] % 16, 4, PALETTE, True),
}
FILES = LABELS | {
    "PNG": saved(COLOUR),
    "JPEG": saved(COLOUR, "JPEG", exif=exif(6)),
    "progressive JPEG": saved(COLOUR, "JPEG", progressive=True),
    "WebP": saved(COLOUR, "WEBP", exif=exif(6)),
    "GIF": saved(COLOUR, "GIF", save_all=True, append_images=[COLOUR.rotate(180)]),
    "TIFF": saved(COLOUR, "TIFF", compression="tiff_lzw"),
    "BMP": saved(COLOUR, "BMP"),
    "TIFF label": saved(LABEL, "TIFF"),
}


@pytest.mark.parametrize("reader", READERS)
@share(8)
@given(st.sampled_from(sorted(FILES)), st.data())
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_are_read_or_refused(tmp_path, reader, name, data):
    """A PNG's checksums let no label through that is not as it was stored."""
    content = data.draw(damaged(st.just(FILES[name])))
    path, begun = written(tmp_path / "a.img", content), time.perf_counter()
    try:
        found = READERS[reader](path)
    except UserError as error:
        assert one_line_naming(error, path), str(error)
    else:
        assert found.ndim == (3 if reader == "image" else 2) and found.size > 0
        assert np.issubdtype(found.dtype, np.integer)
        assert reader == "label" or (found.dtype == np.uint8 and found.shape[2] == 3)
        if reader == "label" and name in LABELS:
            assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(LABELS[name]))))
    assert time.perf_counter() - begun < SLOW
