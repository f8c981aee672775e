"""A config with a loader of its own, of five bands in .npy files, from its scores to a file."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS
from PIL import Image
from prediction.trained import CLASSES, trained
from tools.running import TOOLS

from fcn_plugin.data.display import shown
from fcn_plugin.errors import UserError
from fcn_plugin.prediction import Predictor
from fcn_plugin.prepare.shapes import write_shapes

VAL, IMAGE = 2, "data/shapes/JPEGImages/val_00001.npy"
CONFIG = """
model["data_preprocessor"] = dict(
    type="BandsPreProcessor", mean=[9000.0] * 5, std=[4000.0] * 5, _delete_=True
)
model["backbone"].update(in_channels=5)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        img_suffix=".npy",
        pipeline=[
            dict(type="LoadNumpy"),
            dict(type="LoadCheckedLabel", num_classes=5),
            dict(type="PackSegInputs"),
        ],
    ),
)
"""


@TRANSFORMS.register_module()
class LoadNumpy(BaseTransform):
    """H x W x 5, uint16."""

    def transform(self, results: dict) -> dict:
        results["img"] = np.load(results["img_path"])
        results["img_shape"] = results["ori_shape"] = results["img"].shape[:2]
        return results


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bands")
    write_shapes(folder / "data" / "shapes", train=1, val=VAL, size=32)
    images = folder / "data/shapes/JPEGImages"
    for number in range(VAL):
        name = images / f"val_{number:05}"
        blocks = np.random.default_rng(number).integers(0, 18000, (4, 4, 5))
        np.save(name.with_suffix(".npy"), blocks.astype(np.uint16).repeat(8, 0).repeat(8, 1))
        Image.new("RGB", (9, 9)).save(name.with_suffix(".png"))  # a preview
    trained(folder, CONFIG, dataset_meta=dict(classes=CLASSES))
    return folder


@pytest.fixture
def run(project, monkeypatch, capsys):
    """Runs a tool in this process, which has registered the loader."""
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.setenv("LOCAL_RANK", "0")  # or the tool sets it for all tests to come

    def run(name: str, *options: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, "tiny.py", "weights.pth", *map(str, options)])
        runpy.run_path(str(TOOLS / name))["main"]()
        return "".join(capsys.readouterr())

    return run


def test_scores_with_pictures_and_a_page(project, run):
    said = run("test.py", "--show-dir", "pictures", "--report", "page.html")
    assert "Done: aAcc" in said and f"{VAL} pictures are in pictures" in said
    assert "bands 1-3 of 5, scaled</figcaption>" in (project / "page.html").read_text()
    sheet = np.asarray(Image.open(project / "pictures/val_00001.png"))
    panel = shown(np.load(project / IMAGE)).pixels.repeat(8, 0).repeat(8, 1)
    assert np.array_equal(sheet[26 : 26 + 256, 8 : 8 + 256], panel)


def test_new_images(project, run, tmp_path):
    """In a folder, those of the data set's own suffix."""
    assert f"Done: {VAL} images" in run("predict.py", "data", "--out", tmp_path / "new")
    (label,) = (tmp_path / "new/labels").rglob("val_00001.png")
    predictor = Predictor(project / "tiny.py", project / "weights.pth", "cpu")
    bands = np.load(project / IMAGE)
    prediction = predictor(bands)
    assert np.array_equal(np.asarray(Image.open(label)), prediction.labels)
    assert len(np.unique(prediction.labels)) > 1
    assert prediction.note == "bands 1-3 of 5, scaled"
    (tmp_path / "text.npy").write_text("text")
    for wrong in (bands[..., :3], tmp_path / "text.npy", Image.new("RGB", (9, 9))):
        with pytest.raises(UserError):
            predictor(wrong)
