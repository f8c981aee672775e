"""TIFFs of any bands and types, in all the ways that files hold them."""

import sys

import numpy as np
import pytest
import rasterio
import tifffile
from data.band_files import blocks, write_tiff
from rasterio.errors import NotGeoreferencedWarning

from fcn_plugin.data.band_statistics import band_statistics
from fcn_plugin.data.bands import LoadBands, is_multiband, read_bands
from fcn_plugin.data.labels import LoadCheckedLabel, save_labels
from fcn_plugin.errors import DamagedFile, UserError

pytestmark = pytest.mark.filterwarnings("ignore", category=NotGeoreferencedWarning)
PIXELS = blocks(40, 24, 0)
PLANES = PIXELS.transpose(2, 0, 1)


def gdal(path, pixels=PIXELS, **options):
    height, width, count = pixels.shape
    form = dict(height=height, width=width, count=count, dtype=pixels.dtype)
    with rasterio.open(path, "w", driver="GTiff", **form, **options) as file:
        file.write(pixels.transpose(2, 0, 1))


WAYS = {
    "pixel by pixel": lambda path: write_tiff(path, PIXELS),
    "big-endian": lambda path: write_tiff(path, PIXELS, byteorder=">"),
    "in planes": lambda path: tifffile.imwrite(
        path, PLANES, photometric="minisblack", planarconfig="separate"
    ),
    "in pages": lambda path: tifffile.imwrite(path, PLANES, photometric="minisblack"),
    "tiles": lambda path: gdal(
        path, tiled=True, blockxsize=16, blockysize=16, compress="deflate", predictor=2
    ),
    "LZW, of rasterio": lambda path: gdal(path, compress="lzw", interleave="band"),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_gives_the_same_and_damage_is_named(way, tmp_path):
    file = tmp_path / "bands.tif"
    WAYS[way](file)
    pixels, empty = read_bands(file)
    assert np.array_equal(pixels, PIXELS) and pixels.dtype == np.uint16 and not empty.any()
    assert pixels.flags.c_contiguous and pixels.dtype.isnative and is_multiband(file)
    content = file.read_bytes()
    last = -9 if way != "in pages" else -700  # the end is no pixels there
    for part in (content[: len(content) // 2], content[:last], content[:60], b""):
        file.write_bytes(part)
        with pytest.raises(DamagedFile, match=r"bands\.tif: damaged image"):
            read_bands(file)


@pytest.mark.parametrize(
    ("dtype", "bands", "loaded", "several"),
    [
        ("uint8", 1, "uint8", False),
        ("uint8", 2, "uint8", True),
        ("uint8", 3, "uint8", False),
        ("uint8", 13, "uint8", True),
        ("uint16", 1, "uint16", True),
        ("int16", 3, "float32", True),
        ("float32", 4, "float32", True),
    ],
)
def test_bands_and_types(dtype, bands, loaded, several, tmp_path):
    pixels = (blocks(9, 8, 1, bands) // 80).astype(dtype)
    file = write_tiff(tmp_path / "a.tif", pixels)
    read, _ = read_bands(file)
    assert read.dtype == loaded and np.array_equal(read, pixels)
    assert is_multiband(file) == several


@pytest.mark.parametrize("compression", ["none", "lzw"])
def test_transparency_is_no_band(compression, tmp_path, monkeypatch):
    """GDAL calls the fourth of four bands so; a near infrared is not 0 or 255 everywhere."""
    pixels = (PIXELS[..., :4] // 80).astype(np.uint8)
    gdal(tmp_path / "infrared.tif", pixels, compress=compression)
    # Two bands and transparency: Pillow knows no such picture.
    gdal(tmp_path / "two.tif", pixels[..., :3], photometric="minisblack", alpha="yes")
    pixels[..., 3] = np.where(pixels[..., 3] > 99, 255, 0)
    gdal(tmp_path / "cut-out.tif", pixels, compress=compression)
    monkeypatch.setitem(sys.modules, "rasterio", None)  # as if not installed
    assert is_multiband(tmp_path / "two.tif")
    for name, several in (("infrared", True), ("cut-out", False)):
        with tifffile.TiffFile(tmp_path / f"{name}.tif") as file:
            assert file.pages[0].extrasamples == (2,)
        assert is_multiband(tmp_path / f"{name}.tif") == several


def test_what_is_refused(tmp_path, monkeypatch):
    text, double = tmp_path / "text.tif", tmp_path / "double.tif"
    text.write_text("text")
    write_tiff(double, PIXELS.astype(np.float64))
    for file, said in ((text, "a text, and LoadBands reads TIFFs"), (double, "bands of float64")):
        with pytest.raises(UserError, match=said):
            read_bands(file)
    assert not is_multiband(text)
    gdal(tmp_path / "lzw.tif", compress="lzw")
    monkeypatch.setitem(sys.modules, "rasterio", None)  # as if not installed
    with pytest.raises(UserError, match=r"compressed by LZW: needs .*'fcn-plugin\[geo\]'"):
        read_bands(tmp_path / "lzw.tif")
    for settings in (dict(bands=0), dict(bands=5, dtype="int16"), dict(bands=5, fill=(1, 2))):
        with pytest.raises(UserError, match="LoadBands"):
            LoadBands(**settings)


def test_pixels_without_data_are_void(tmp_path):
    """NaN in any band, or the file's nodata number in all."""
    pixels = PIXELS.astype(np.float32)
    pixels[3, 4, 2], pixels[5, 6], pixels[7, 8, :4] = np.nan, -9999, -9999
    gdal(tmp_path / "a.tif", pixels, nodata=-9999)
    save_labels(np.ones(pixels.shape[:2], np.uint8), tmp_path / "a.png")
    info = dict(img_path=tmp_path / "a.tif", seg_map_path=tmp_path / "a.png", seg_fields=[])
    info |= dict(reduce_zero_label=False, label_map=None)
    loaded = LoadBands(5, "float32", fill=(1, 2, 3, 4, 5)).transform(info)
    label = LoadCheckedLabel(num_classes=2).transform(loaded)["gt_seg_map"]
    assert np.argwhere(label == 255).tolist() == [[3, 4], [5, 6]]
    assert loaded["img"][3, 4].tolist() == loaded["img"][5, 6].tolist() == [1, 2, 3, 4, 5]
    assert loaded["img"][7, 8, 0] == -9999


def test_mean_and_std_are_those_of_all_pixels_with_data(tmp_path):
    """NumPy's own over all of them; also where the mean is far larger than the spread."""
    pictures = [blocks(size, 20, size).astype(np.float32) + 1e6 for size in (8, 30, 50)]
    files = [tmp_path / f"{number}.tif" for number in range(3)]
    for file, picture in zip(files, pictures, strict=True):
        picture[:2, :3, 1] = np.nan
        picture[..., 4] = 7
        write_tiff(file, picture)
    values = np.concatenate([picture.reshape(-1, 5) for picture in pictures]).astype(float)
    values = values[np.isfinite(values).all(1)]
    found = band_statistics(files, jobs=1)
    assert (found.dtype, found.bands) == ("float32", 5)
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std[:4], values.std(0)[:4], rtol=1e-9)
    assert found.std[4] == 1  # constant
    assert band_statistics(files, jobs=2) == found
    write_tiff(files[1], PIXELS)
    with pytest.raises(
        UserError, match=r"1\.tif: 5 bands of uint16, but .*0\.tif has 5 of float32"
    ):
        band_statistics(files, jobs=1)
