"""GeoTIFFs keep their place, and get in windows the labels that they get as a whole."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from data.band_files import CONFIG, blocks
from PIL import Image
from prediction.trained import CLASSES, trained, weights_for
from rasterio.features import rasterize
from rasterio.transform import Affine
from tools.running import config

from fcn_plugin.errors import UserError
from fcn_plugin.prediction import Predictor, geotiff
from fcn_plugin.prediction.geotiff import predict_geotiff
from fcn_plugin.prediction.polygons import write_polygons
from fcn_plugin.prediction.scene import has_place
from fcn_plugin.prediction.video import predict_video

# Rotated, so that no axis may be mistaken for the other.
PLACE = Affine.translation(500_000, 5_100_000) * Affine.rotation(30) * Affine.scale(10, -10)
PLACED = dict(crs="EPSG:32632", transform=PLACE)
HEIGHT, WIDTH = 1500, 300


def write(path, pixels, **options):
    """[H, W, bands] as a GeoTIFF."""
    height, width, count = pixels.shape
    form = dict(height=height, width=width, count=count, dtype=pixels.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **form, **options) as file:
            file.write(pixels.transpose(2, 0, 1))
    return path


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """Of five bands of 16 bits."""
    file = config(tmp_path_factory.mktemp("five"), CONFIG.format(mean=[9000] * 5, std=[5200] * 5))
    weights = weights_for(file, seed=2, dataset_meta=dict(classes=CLASSES))
    return Predictor(file, weights, "cpu")


def test_windows_place_and_polygons(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(geotiff, "MOST", 300_000)
    pixels = blocks(HEIGHT, WIDTH, 9)
    hidden = np.zeros((HEIGHT, WIDTH), bool)
    hidden[:100, 200:] = hidden[1400:, :7] = True
    pixels[hidden] = 0
    pixels[300, 200, :4] = 0  # 0 in some bands only is data
    scene = write(tmp_path / "scene.tif", pixels, nodata=0, compress="lzw", **PLACED)
    target, polygons = tmp_path / "labels/scene.tif", tmp_path / "labels/scene.geojson"
    probabilities, confidence = tmp_path / "scene.npy", tmp_path / "confidence.tif"
    found = predict_geotiff(predictor, scene, target, probabilities, confidence)
    assert found.windows > 1 and found.overlay().size >= (WIDTH, HEIGHT)
    whole = predictor(scene, probabilities=True, confidence=True)
    expected = np.where(hidden, 255, whole.labels)
    with rasterio.open(target) as file:
        labels = file.read(1)
        assert (file.crs.to_epsg(), file.nodata, file.dtypes) == (32632, 255, ("uint8",))
        assert file.transform.almost_equals(PLACE) and file.shape == (HEIGHT, WIDTH)
        assert file.colormap(1)[2][:3] == tuple(found.classes.palette[2])
        assert json.loads(file.tags()["classes"])["3"] == CLASSES[3]
    assert np.array_equal(labels, expected) and len(np.unique(labels)) > 3
    assert found.counts().tolist() == [(expected == number).sum() for number in range(5)]
    assert np.abs(np.load(probabilities) - whole.probabilities).max() < 1e-2  # float16
    with rasterio.open(confidence) as file:
        difference = file.read(1).astype(int) - whole.confidence
        assert file.transform.almost_equals(PLACE) and np.abs(difference).max() <= 1
    assert [path.name for path in target.parent.iterdir()] == ["scene.tif"]

    write_polygons(target, found.classes, polygons)
    content = json.loads(polygons.read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    features = content["features"]
    assert {(f["properties"]["value"], f["properties"]["class"]) for f in features} == {
        (number, CLASSES[number]) for number in np.unique(whole.labels[~hidden])
    }
    geometries = [(f["geometry"], f["properties"]["value"]) for f in features]
    drawn = rasterize(geometries, (HEIGHT, WIDTH), fill=255, transform=PLACE, dtype=np.uint8)
    assert np.array_equal(drawn, labels)


def test_arrays_are_bands_as_the_loader_gives_them(predictor):
    pixels = blocks(40, 50, 3)
    assert predictor(pixels).labels.shape == (40, 50)
    for wrong in (
        pixels[..., :4],
        pixels.astype(np.uint8),
        pixels[..., 0],
        Image.new("RGB", (9, 9)),
    ):
        with pytest.raises(UserError, match="bands"):
            predictor(wrong)
    with pytest.raises(UserError, match="a video, but the network takes bands"):
        next(predict_video(Path("a.mp4"), predictor))


def test_photos_and_what_changes_them(tmp_path):
    """Of three bands of 8 bits, with alpha; a test pipeline that resizes takes them whole."""
    pixels = np.concatenate([blocks(90, 70, 1, 3) // 71, np.full((90, 70, 1), 255)], -1)
    pixels = pixels.astype(np.uint8)
    pixels[:20, :30, 3] = 0
    photo = write(tmp_path / "photo.tif", pixels, **PLACED)
    file, weights = trained(tmp_path, dataset_meta=dict(classes=CLASSES))
    step = dict(type="Resize", scale_factor=1.5)
    resizing = tmp_path / "resizing.py"
    resizing.write_text(
        f'_base_ = "tiny.py"\nsteps = _base_.test_dataloader.dataset.pipeline\n'
        f"test_dataloader = dict(dataset=dict(pipeline=[steps[0], {step}, *steps[1:]]))\n"
    )
    for name in (file, resizing):
        predictor = Predictor(name, weights, "cpu")
        found = predict_geotiff(predictor, photo, tmp_path / "out.tif")
        expected = predictor(np.ascontiguousarray(pixels[..., 2::-1]))
        with rasterio.open(tmp_path / "out.tif") as written:
            labels = written.read(1)
        assert (labels[:20, :30] == 255).all()
        labels[:20, :30] = expected.labels[:20, :30]
        assert np.array_equal(labels, expected.labels) and len(np.unique(labels)) > 1
        assert np.array_equal(found.image, pixels[..., :3])
    grey = write(tmp_path / "grey.tif", pixels[..., :1], **PLACED)  # only the loader knows it
    predict_geotiff(predictor, grey, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as written:
        assert np.array_equal(written.read(1), predictor(grey).labels)


def test_what_has_a_place_and_what_does_not_fit(predictor, tmp_path, monkeypatch):
    four = write(tmp_path / "four.tif", blocks(9, 9, 0, 4), **PLACED)
    with pytest.raises(UserError, match=r"four\.tif: 4 bands of uint16, but LoadBands"):
        predict_geotiff(predictor, four, tmp_path / "out.tif")
    cut = tmp_path / "cut.tif"
    pixels = write(tmp_path / "whole.tif", blocks(99, 99, 0), **PLACED).read_bytes()
    cut.write_bytes(pixels[: len(pixels) // 2])
    with pytest.raises(UserError, match=r"cut\.tif: damaged image"):
        predict_geotiff(predictor, cut, tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()
    plain = write(tmp_path / "plain.tif", blocks(9, 9, 0))
    (tmp_path / "text.tif").write_text("text")
    assert [has_place(f) for f in (four, plain, tmp_path / "text.tif")] == [True, False, False]
    warned = []
    monkeypatch.setattr(
        "fcn_plugin.prediction.scene.print_log", lambda text, *_: warned.append(text)
    )
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)  # as if not installed
    assert not has_place(four) and not has_place(plain)
    assert len(warned) == 1 and warned[0].endswith("run pip install 'fcn-plugin[geo]'")
