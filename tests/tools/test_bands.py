"""A set of pictures of five bands of 16 bits: trained, scored, predicted and exported."""

import json
import shutil

import numpy as np
import pytest
import rasterio
import tifffile
from data.band_files import blocks, write_tiff
from families import NEWER_TORCH
from mmengine.config import Config
from PIL import Image
from prediction.trained import weights_for
from prepare.own_pictures import masks as own_masks
from tools.running import ran, tool

from fcn_plugin.data.band_statistics import band_statistics
from fcn_plugin.data.display import shown
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.dataset import prepare_own
from fcn_plugin.prepare.own.source import Job

CONFIG = """
_base_ = "fields/fcn8s_vgg16-bn_fields-scratch.py"
model = dict(
    backbone=dict(depth=11, base_channels=2, fc_channels=8),
    decode_head=dict(in_channels=(8, 16, 8)),
)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
param_scheduler = None
"""
SHORT = "train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.checkpoint.interval=2"
IMAGES = "fields/JPEGImages"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Six labelled pictures prepared as a data set, a tiny config, and random weights."""
    folder = tmp_path_factory.mktemp("bands")
    rng = np.random.default_rng(0)
    for number in range(6):
        label = rng.integers(0, 2, (4, 4), np.uint8).repeat(8, 0).repeat(8, 1)
        own_masks(folder / "in", label, [f"{number}"])
        (folder / f"in/images/{number}.jpg").unlink()
        write_tiff(folder / f"in/images/{number}.tif", blocks(32, 32, number))
    job = Job(folder / "in", folder / "fields", val=0.3)
    assert any("images of 5 bands of uint16, 2 classes" in line for line in prepare_own(job))
    (folder / "tiny.py").write_text(CONFIG)
    weights_for(folder / "tiny.py", seed=2, dataset_meta=dict(classes=("background", "cat")))
    return folder


def validated(project) -> list[str]:
    return (project / "fields/ImageSets/Segmentation/val.txt").read_text().split()


def test_training_scores_and_a_page(project):
    ran(f"train.py tiny.py --work-dir run --cfg-options {SHORT}", folder=project)
    said = ran("test.py tiny.py run --report page.html --show-dir pictures", folder=project).stdout
    assert "Done: aAcc" in said
    assert "bands 1-3 of 5, scaled</figcaption>" in (project / "page.html").read_text()
    name = validated(project)[0]
    sheet = np.asarray(Image.open(project / f"pictures/{name}.png"))
    bands = tifffile.imread(project / f"{IMAGES}/{name}.tif")
    panel = shown(bands, (1, 2, 3)).pixels.repeat(8, 0).repeat(8, 1)
    assert np.array_equal(sheet[26 : 26 + 256, 8 : 8 + 256], panel)


@NEWER_TORCH
def test_the_exported_file_gives_the_predicted_labels(project):
    import onnxruntime

    place = dict(crs="EPSG:32632", transform=rasterio.transform.from_origin(5e5, 5e6, 10, 10))
    with rasterio.open(
        project / "placed.tif",
        "w",
        driver="GTiff",
        height=32,
        width=32,
        count=5,
        dtype="uint16",
        **place,
    ) as file:
        file.write(blocks(32, 32, 0).transpose(2, 0, 1))
    command = f"predict.py tiny.py weights.pth {IMAGES}/*.tif placed.tif --bands 5 1 1"
    said = ran(f"{command} --out new --polygons", folder=project).stdout
    assert "Done: 7 images, labels in new/labels" in said
    with rasterio.open(project / "new/labels/placed.tif") as file:
        assert file.crs.to_epsg() == 32632
        assert np.array_equal(file.read(1), np.asarray(Image.open(project / "new/labels/0.png")))
    for name, corner in (("placed", [5e5, 5e6]), ("0", [0, 0])):  # in pixels, without a place
        assert (project / f"new/overlays/{name}.jpg").is_file()
        features = json.loads((project / f"new/labels/{name}.geojson").read_text())["features"]
        assert {f["properties"]["class"] for f in features} == {"background", "cat"}
        assert any(corner in ring for f in features for ring in f["geometry"]["coordinates"])
    images = f"--images {IMAGES}/0.tif"
    ran(f"export_onnx.py tiny.py weights.pth network.onnx --size 32 32 {images}", folder=project)
    session = onnxruntime.InferenceSession(project / "network.onnx")
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["image"] == "N x H x W x 5, float32, as the config's loader gives them"
    assert len(json.loads(meta["mean"])) == 5
    for name in map(str, range(6)):
        bands = tifffile.imread(project / f"{IMAGES}/{name}.tif")
        (labels,) = session.run(None, {"image": bands[None].astype(np.float32)})
        predicted = np.asarray(Image.open(project / f"new/labels/{name}.png"))
        assert len(np.unique(predicted)) > 1 and np.array_equal(labels[0], predicted)
    wrong = tool(f"{command.replace('5 1 1', '4 3 6')} --out new", folder=project)
    assert "--bands 4 3 6: give one band, or three" in wrong.stderr


def test_pictures_that_are_not_alike_are_named(project):
    (project / "odd").mkdir()
    write_tiff(project / "odd/four.tif", blocks(32, 32, 0, bands=4))
    whole = (project / f"{IMAGES}/0.tif").read_bytes()
    (project / "odd/cut.tif").write_bytes(whole[:-9])
    run = tool("predict.py tiny.py weights.pth odd --out odd/out", folder=project)
    cut, four, last = run.stderr.splitlines()[-3:]
    assert "odd/cut.tif: damaged image" in cut and "2 of 2 images" in last
    assert "odd/four.tif: 4 bands of uint16, but LoadBands in the config takes 5 bands" in four


def test_pictures_without_data_are_named_where_the_user_has_them(tmp_path):
    for name in "ab":
        own_masks(tmp_path / "in", np.eye(32, dtype=np.uint8), [name])
        (tmp_path / f"in/images/{name}.jpg").unlink()
        empty = np.full((32, 32, 5), np.nan, np.float32)
        write_tiff(tmp_path / f"in/images/{name}.tif", empty)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "in")
    for folder in ("in", "packed.zip"):
        said = rf"^{tmp_path}/{folder}/images/[ab]\.tif: no pixel has data"
        with pytest.raises(UserError, match=said):
            prepare_own(Job(tmp_path / folder, tmp_path / "out", val=0.5))


def test_the_config_has_what_was_measured(project):
    """On the training pictures alone; images of other kinds among them are refused."""
    cfg = Config.fromfile(project / "tiny.py")
    names = (project / "fields/ImageSets/Segmentation/train.txt").read_text().split()
    measured = band_statistics([project / f"{IMAGES}/{name}.tif" for name in names], jobs=1)
    settings = cfg.model.data_preprocessor
    np.testing.assert_allclose(settings.mean, measured.mean, rtol=1e-5)
    np.testing.assert_allclose(settings.std, measured.std, rtol=1e-5)
    assert "bgr_to_rgb" not in settings and cfg.model.backbone.in_channels == 5
    own_masks(project / "in", np.eye(32, dtype=np.uint8), ["6"])
    with pytest.raises(
        UserError, match="image 5 has 5 bands of uint16, 6 one or three bands of 8 bits; give"
    ):
        prepare_own(Job(project / "in", project / "mixed"))
