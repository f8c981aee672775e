"""A set of pictures of five bands of 16 bits: trained, scored, predicted and exported."""

import json

import numpy as np
import pytest
import tifffile
from data.band_files import CONFIG, blocks, write_tiff
from families import NEWER_TORCH
from PIL import Image
from prediction.trained import CLASSES, weights_for
from tools.running import config as tiny
from tools.running import ran, tool

from fcn_plugin.data.band_statistics import band_statistics
from fcn_plugin.data.display import shown
from fcn_plugin.prepare.shapes import write_shapes

VAL = 2


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bands")
    write_shapes(folder / "data" / "shapes", train=4, val=VAL, size=32)
    images = folder / "data/shapes/JPEGImages"
    for number, picture in enumerate(sorted(images.iterdir())):
        write_tiff(picture.with_suffix(".tif"), blocks(32, 32, number))
        picture.unlink()
    measured = band_statistics(sorted(images.glob("train_*")), jobs=1)
    config = CONFIG.format(mean=list(measured.mean), std=list(measured.std))
    weights_for(tiny(folder, config), seed=2, dataset_meta=dict(classes=CLASSES))
    return folder


def test_training_scores_and_a_page(project):
    ran("train.py tiny.py --work-dir run --cfg-options train_cfg.max_iters=2", folder=project)
    said = ran("test.py tiny.py run --report page.html --show-dir pictures", folder=project).stdout
    assert "Done: aAcc" in said
    assert "bands 4, 3, 2 of 5, scaled</figcaption>" in (project / "page.html").read_text()
    sheet = np.asarray(Image.open(project / "pictures/val_00001.png"))
    bands = tifffile.imread(project / "data/shapes/JPEGImages/val_00001.tif")
    panel = shown(bands, (4, 3, 2)).pixels.repeat(8, 0).repeat(8, 1)
    assert np.array_equal(sheet[26 : 26 + 256, 8 : 8 + 256], panel)


@NEWER_TORCH
def test_the_exported_file_gives_the_predicted_labels(project):
    import onnxruntime

    command = "predict.py tiny.py weights.pth data/shapes/JPEGImages/val_*.tif --bands 5 1 1"
    ran(f"{command} --out new", folder=project)
    images = "--images data/shapes/JPEGImages/val_00000.tif"
    ran(f"export_onnx.py tiny.py weights.pth network.onnx --size 32 32 {images}", folder=project)
    session = onnxruntime.InferenceSession(project / "network.onnx")
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["image"] == "N x H x W x 5, float32, as the config's loader gives them"
    assert len(json.loads(meta["mean"])) == 5
    for number in range(VAL):
        name = f"val_{number:05}"
        bands = tifffile.imread(project / f"data/shapes/JPEGImages/{name}.tif")
        (labels,) = session.run(None, {"image": bands[None].astype(np.float32)})
        predicted = np.asarray(Image.open(project / f"new/labels/{name}.png"))
        assert len(np.unique(predicted)) > 1 and np.array_equal(labels[0], predicted)
    wrong = tool(f"{command.replace('5 1 1', '4 3 6')} --out new", folder=project)
    assert "--bands 4 3 6: give one band, or three" in wrong.stderr


def test_pictures_that_are_not_alike_are_named(project):
    (project / "odd").mkdir()
    write_tiff(project / "odd/four.tif", blocks(32, 32, 0, bands=4))
    whole = (project / "data/shapes/JPEGImages/val_00000.tif").read_bytes()
    (project / "odd/cut.tif").write_bytes(whole[:-9])
    run = tool("predict.py tiny.py weights.pth odd --out odd/out", folder=project)
    cut, four, last = run.stderr.splitlines()
    assert "odd/cut.tif: damaged image" in cut and "2 of 2 images" in last
    assert "odd/four.tif: 4 bands of uint16, but LoadBands in the config takes 5 bands" in four
