"""Images: mmseg's pixels from good files, and 8 of 16 bits.

Any damage is in property/test_any_label.py.
"""

import numpy as np
import pytest
from data.pictures import (
    HIGH,
    NOISE,
    RAMP,
    WIDE,
    by_opencv,
    exif,
    load_image,
    saved,
    written,
)
from mmcv.transforms import LoadImageFromFile
from mmseg.registry import TRANSFORMS
from PIL import Image, ImageFile
from property.png_files import chunk

from fcn_plugin.data import images
from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.errors import DamagedFile, UserError

RGB, GREY = Image.fromarray(RAMP), Image.fromarray(RAMP[..., 0])
ALPHA = Image.fromarray(np.dstack([RAMP, RAMP[..., 0]]))
UPSIDE_DOWN = Image.fromarray(RAMP[::-1])
PALETTE = RGB.quantize(200)
RED = Image.new("CMYK", (WIDE, HIGH), (0, 255, 255, 0))
# Files that mmseg's loader reads alike.
AS_MMSEG = {
    "RGB": saved(RGB),
    "JPEG": saved(RGB, "JPEG", quality=95),
    "progressive JPEG": saved(RGB, "JPEG", progressive=True),
    "grey": saved(GREY),
    "grey JPEG": saved(GREY, "JPEG"),
    "RGBA": saved(ALPHA),
    "palette": saved(PALETTE),
    "transparent palette": saved(PALETTE, transparency=bytes(range(200))),
    "1 bit": saved(RGB.convert("1")),
    "16-bit grey": saved((RAMP[..., 0].astype(np.uint16) << 8) + 255),
    "WebP": saved(RGB, "WEBP", lossless=True),
    "1 x 1": saved(RAMP[:1, :1]),
    "400 x 1": saved(np.repeat(RAMP[:1, :1], 400, axis=0), "JPEG"),
    "1 x 400": saved(np.tile(RAMP[:1], (1, 25, 1))),
    **{f"turned {n}": saved(RGB, "JPEG", quality=95, exif=exif(n)) for n in range(1, 9)},
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


# Where mmseg reads otherwise or not at all: the first pixel in BGR.
ON_ITS_OWN = {
    "16-bit RGB": (by_opencv(".png", RAMP[..., ::-1].astype(np.uint16) << 8), (77, 0, 0)),
    "grey with alpha": (saved(ALPHA.convert("LA")), (9, 9, 9)),
    "the first picture of a GIF": (
        saved(PALETTE, "GIF", save_all=True, append_images=[UPSIDE_DOWN]),
        tuple(np.asarray(PALETTE.convert("RGB"))[0, 0, ::-1]),
    ),
    "the first page of a TIFF": (
        saved(RGB, "TIFF", save_all=True, append_images=[UPSIDE_DOWN]),
        (77, 0, 0),
    ),
    "red in CMYK": (saved(RED, "JPEG"), (36, 28, 237)),
}


@pytest.mark.filterwarnings("error:::PIL")
@pytest.mark.parametrize("name", ON_ITS_OWN)
def test_an_image_that_mmseg_reads_otherwise(tmp_path, name):
    content, pixel = ON_ITS_OWN[name]
    img = load_image(written(tmp_path / "a", content))
    assert img.shape == (HIGH, WIDE, 3)
    np.testing.assert_allclose(img[0, 0].astype(int), pixel, atol=60 if "red" in name else 0)


def test_the_turn_of_xmp_shows(tmp_path):
    """Pillow looks there too, OpenCV does not."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'
    path = written(tmp_path / "a", saved(Image.new("RGB", (30, 20)), "JPEG", xmp=xmp))
    assert load_image(path).shape == (30, 20, 3)


# --- which decoder -------------------------------------------------------------------------------


def test_a_whole_jpeg_is_decoded_by_opencv_and_else_by_pillow(tmp_path, monkeypatch):
    """Which would make up a missing half (before OpenCV 5), and mixes CMYK in its own way."""
    names = ("JPEG", "grey JPEG", "turned 6", "progressive JPEG")
    paths = [written(tmp_path / name, AS_MMSEG[name]) for name in names]
    with monkeypatch.context() as context:
        context.setattr(ImageFile.ImageFile, "load", None)  # Pillow only reads the header
        quick = [load_image(path) for path in paths]
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: None)
    for path, img in zip(paths, quick, strict=True):
        np.testing.assert_allclose(img, load_image(path).astype(int), atol=2)
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: 1 / 0)
    whole = saved(NOISE, "JPEG")
    for other in (saved(RGB.convert("CMYK"), "JPEG"), whole + b"\n", AS_MMSEG["RGB"]):
        load_image(written(tmp_path / "other", other))
    with pytest.raises(DamagedFile, match="truncated"):
        load_image(written(tmp_path / "half", whole[: len(whole) // 2]))


def test_a_large_picture_is_converted_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "AT_ONCE", 16 * 5)
    for mode in ("RGB", "L", "P", "RGBA", "CMYK"):
        path = written(tmp_path / mode, saved(RGB.convert(mode), "TIFF"))
        expected = np.asarray(Image.open(path).convert("RGB"))[..., ::-1]
        assert np.array_equal(load_image(path), expected)


# --- images of 16 bits ---------------------------------------------------------------------------

TWELVE = np.arange(4096, dtype=np.uint16).reshape(64, 64)
COLOURS = np.stack([TWELVE, TWELVE.T, TWELVE[::-1]], -1)
SIXTEEN_BITS = {
    "grey.png": TWELVE,
    "grey.tiff": TWELVE,
    "colour.png": COLOURS,
    "colour.tiff": COLOURS,
    "alpha.png": np.dstack([COLOURS, np.full_like(TWELVE, 65535)]),
}


@pytest.fixture
def warnings_of(monkeypatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(images, "print_log", lambda text, **_: texts.append(text))
    return texts


@pytest.mark.parametrize("name", SIXTEEN_BITS)
def test_twelve_of_sixteen_bits(tmp_path, warnings_of, name):
    """By default nearly black, which is said once; with bits=12 as bright as they should be."""
    pixels = SIXTEEN_BITS[name]
    path = written(tmp_path / name, by_opencv(path_suffix(name), pixels))
    loader = LoadCheckedImage()
    for _ in range(2):
        assert loader(dict(img_path=str(path)))["img"].max() == 15
    (warning,) = warnings_of
    assert str(path) in warning and "4095" in warning and "bits=12" in warning
    expected = (pixels if pixels.ndim == 3 else np.stack([TWELVE] * 3, -1))[..., :3] >> 4
    np.testing.assert_array_equal(load_image(path, bits=12), expected)
    with pytest.raises(UserError, match=rf"{name}: a value of 4095, which 10 bits cannot .* to 12"):
        load_image(path, bits=10)

    bright = written(tmp_path / f"bright {name}", by_opencv(path_suffix(name), pixels << 4))
    assert load_image(bright).max() == load_image(bright, bits=16).max() == 255
    black = written(tmp_path / f"black {name}", by_opencv(path_suffix(name), pixels * 0))
    assert not load_image(black).any()
    assert len(warnings_of) == 1


def path_suffix(name: str) -> str:
    return f".{name.split('.')[1]}"


def test_bits_are_of_16_bits_only(tmp_path):
    path = written(tmp_path / "8.png", saved(RAMP))
    np.testing.assert_array_equal(load_image(path, bits=12), load_image(path))
    for bits in (0, 7, 17, "12", True):
        with pytest.raises(UserError, match=r"LoadCheckedImage: bits=.*; give 8 to 16"):
            TRANSFORMS.build(dict(type="LoadCheckedImage", bits=bits))


def test_the_turn_of_a_picture_of_12_bits(tmp_path):
    content = by_opencv(".png", COLOURS[:40])
    turn = chunk(b"eXIf", exif(6).tobytes()[6:])  # without the marker that JPEGs have
    path = written(tmp_path / "a.png", content[:33] + turn + content[33:])
    assert load_image(path).shape == (64, 40, 3)
    np.testing.assert_array_equal(load_image(path, bits=12), np.rot90(COLOURS[:40] >> 4, -1))
