"""Images: mmseg's pixels from good files, and 8 of 16 bits.

Any damage is in property/test_any_label.py.
"""

import numpy as np
import pytest
from data.pictures import HIGH, RAMP, WIDE, by_opencv, exif, load_image, saved, written
from mmcv.transforms import LoadImageFromFile
from PIL import Image
from property.png_files import chunk

from fcn_plugin.data import images
from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.errors import UserError

RGB, GREY = Image.fromarray(RAMP), Image.fromarray(RAMP[..., 0])
ALPHA = Image.fromarray(np.dstack([RAMP, RAMP[..., 0]]))
UPSIDE_DOWN = Image.fromarray(RAMP[::-1])
PALETTE = RGB.quantize(200)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'
RED = Image.new("CMYK", (WIDE, HIGH), (0, 255, 255, 0))
# Files that mmseg's loader reads alike.
AS_MMSEG = {
    "RGB": saved(RGB),
    "JPEG": saved(RGB, "JPEG", quality=95),
    "progressive JPEG": saved(RGB, "JPEG", progressive=True),
    "grey JPEG": saved(GREY, "JPEG"),
    "RGBA": saved(ALPHA),
    "transparent palette": saved(PALETTE, transparency=bytes(range(200))),
    "1 bit": saved(RGB.convert("1")),
    "16-bit grey": saved((RAMP[..., 0].astype(np.uint16) << 8) + 255),
    "400 x 1": saved(np.repeat(RAMP[:1, :1], 400, axis=0), "JPEG"),
    "turned 6": saved(RGB, "JPEG", quality=95, exif=exif(6)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", AS_MMSEG)
def test_an_image_loads_as_with_mmseg(tmp_path, name):
    path = written(tmp_path / "a", AS_MMSEG[name])
    expected = LoadImageFromFile()(dict(img_path=str(path)))
    loaded = LoadCheckedImage()(dict(img_path=str(path)))
    assert loaded.keys() == expected.keys()
    assert loaded["img_shape"] == loaded["ori_shape"] == expected["ori_shape"]
    img = loaded["img"]
    assert img.dtype == np.uint8 and img.flags.c_contiguous and img.flags.writeable
    # Two decoders of JPEG may round otherwise; nothing else may differ.
    tolerance = 2 if AS_MMSEG[name].startswith(b"\xff\xd8") else 0
    np.testing.assert_allclose(img.astype(int), expected["img"], rtol=0, atol=tolerance)


# Where mmseg reads otherwise or not at all: the first pixel in BGR, how exactly.
ON_ITS_OWN = [
    (by_opencv(".png", RAMP[..., ::-1].astype(np.uint16) << 8), (77, 0, 0), 0),
    (saved(ALPHA.convert("LA")), (9, 9, 9), 0),
    (saved(RGB, "TIFF", save_all=True, append_images=[UPSIDE_DOWN]), (77, 0, 0), 0),
    (saved(RED, "JPEG"), (36, 28, 237), 60),
    # Pillow sees the turn that XMP has, OpenCV does not.
    (saved(RGB.rotate(90, expand=True), "JPEG", xmp=XMP, quality=95), (77, 0, 0), 9),
]


@pytest.mark.filterwarnings("error:::PIL")
@pytest.mark.parametrize(("content", "pixel", "tolerance"), ON_ITS_OWN)
def test_an_image_that_mmseg_reads_otherwise(tmp_path, content, pixel, tolerance):
    img = load_image(written(tmp_path / "a", content))
    assert img.shape == (HIGH, WIDE, 3)
    np.testing.assert_allclose(img[0, 0].astype(int), pixel, atol=tolerance)


# --- images of 16 bits ---------------------------------------------------------------------------

TWELVE = np.arange(4096, dtype=np.uint16).reshape(64, 64)
COLOURS = np.stack([TWELVE, TWELVE.T, TWELVE[::-1]], -1)
ALPHAS = np.dstack([COLOURS, np.full_like(TWELVE, 65535)])
SIXTEEN_BITS = [(TWELVE, ".png"), (COLOURS, ".tiff"), (ALPHAS, ".png")]


@pytest.mark.parametrize(("pixels", "suffix"), SIXTEEN_BITS)
def test_twelve_of_sixteen_bits(tmp_path, monkeypatch, pixels, suffix):
    """By default nearly black, which is said once; with bits=12 as bright as they should be."""
    warnings: list[str] = []
    monkeypatch.setattr(images, "print_log", lambda text, **_: warnings.append(text))
    path = written(tmp_path / f"a{suffix}", by_opencv(suffix, pixels))
    loader = LoadCheckedImage()
    for _ in range(2):
        assert loader(dict(img_path=str(path)))["img"].max() == 15
    (warning,) = warnings
    assert str(path) in warning and "4095" in warning and "bits=12" in warning
    expected = (pixels if pixels.ndim == 3 else np.stack([TWELVE] * 3, -1))[..., :3] >> 4
    np.testing.assert_array_equal(load_image(path, bits=12), expected)
    with pytest.raises(UserError, match=r"a.*: a value of 4095, which 10 bits cannot .* to 12"):
        load_image(path, bits=10)
    bright = written(tmp_path / f"bright{suffix}", by_opencv(suffix, pixels << 4))
    assert load_image(bright).max() == load_image(bright, bits=16).max() == 255
    assert len(warnings) == 1


def test_bits_are_of_16_bits_only(tmp_path):
    path = written(tmp_path / "8.png", saved(RAMP))
    np.testing.assert_array_equal(load_image(path, bits=12), load_image(path))
    for bits in (7, 17, "12"):
        with pytest.raises(UserError, match=r"LoadCheckedImage: bits=.*; give 8 to 16"):
            LoadCheckedImage(bits=bits)


def test_the_turn_of_a_picture_of_12_bits(tmp_path):
    content = by_opencv(".png", COLOURS[:40])
    turn = chunk(b"eXIf", exif(6).tobytes()[6:])  # without the marker that JPEGs have
    path = written(tmp_path / "a.png", content[:33] + turn + content[33:])
    assert load_image(path).shape == (64, 40, 3)
    np.testing.assert_array_equal(load_image(path, bits=12), np.rot90(COLOURS[:40] >> 4, -1))
