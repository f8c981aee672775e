"""One data set whose config takes its classes in another order, through every tool.

CamVid without cars, its classes from last to first: what each tool writes is in CamVid's numbers.
"""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from families import NEWER_TORCH
from PIL import Image
from prediction.trained import image, weights_for
from report_samples import Page
from tools.running import REPOSITORY, ran, started

from fcn_plugin.data.camvid import CLASSES as CAMVID

NAMES = [name for name in CAMVID if name != "car"][::-1]
NUMBERS = [list(CAMVID).index(name) for name in NAMES]
CONFIG = f"""
_base_ = "{REPOSITORY}/configs/fcn8s_vgg16_camvid.py"
model = dict(
    backbone=dict(depth=11, base_channels=2, fc_channels=8, init_cfg=None),
    decode_head=dict(in_channels=(8, 16, 8), num_classes=10),
)
test_pipeline = [
    dict(type="LoadCheckedImage"),
    dict(type="Resize", scale=(96, 80), keep_ratio=True),
    dict(type="LoadCheckedLabel", num_classes=10),
    dict(type="PackSegInputs"),
]
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(metainfo=dict(classes={NAMES}), pipeline=test_pipeline),
)
custom_hooks = []
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder, chance = tmp_path_factory.mktemp("numbers"), np.random.default_rng(0)
    (folder / "data/camvid/valannot").mkdir(parents=True)
    for i in range(3):
        image(folder / f"data/camvid/val/{i}.png", 60, 70, seed=i)
        label = Image.fromarray(chance.integers(0, 12, (60, 70), dtype=np.uint8))
        label.save(folder / f"data/camvid/valannot/{i}.png")
    (folder / "tiny.py").write_text(CONFIG)
    weights_for(folder / "tiny.py")
    outputs = "--out out --submission out.zip --report r.html"
    ran(f"test.py tiny.py weights.pth {outputs}", folder=folder)
    return folder


def labels(folder: Path) -> dict[str, list]:
    files = sorted(folder.glob("*.png"))
    return {file.stem: np.asarray(Image.open(file)).tolist() for file in files}


def test_what_a_test_writes(project):
    shutil.unpack_archive(project / "out.zip", project / "submitted")
    written = labels(project / "out")
    assert labels(project / "submitted") == written and list(written) == ["0", "1", "2"]
    assert len({value for rows in written.values() for row in rows for value in row}) > 2
    text = " ".join(Page((project / "r.html").read_text()).text.split())
    assert all(f"{number} {name}" in text for number, name in zip(NUMBERS, NAMES, strict=True))
    assert not re.search(rf"\b0 {NAMES[0]}", text)


def test_predictions_and_their_probabilities(project):
    options = "data/camvid/val --out new --probabilities --device cpu"
    ran(f"predict.py tiny.py weights.pth {options}", folder=project)
    assert labels(project / "new/labels") == labels(project / "out")
    for name, rows in labels(project / "out").items():
        best = np.load(project / f"new/probabilities/{name}.npy").argmax(0)
        assert (np.array(NUMBERS)[best] == rows).mean() > 0.99  # half precision has ties


@NEWER_TORCH
def test_the_exported_file(project):
    images = "--images data/camvid/val/0.png"
    said = ran(f"export_onnx.py tiny.py weights.pth a.onnx {images}", folder=project).stdout
    assert "1 x 60 x 70 " in said and "Left to you" not in said
    session = onnxruntime.InferenceSession(project / "a.onnx")
    for name, expected in labels(project / "out").items():
        pixels = np.asarray(Image.open(project / f"data/camvid/val/{name}.png"))
        (found,) = session.run(["labels"], {"image": pixels[None]})
        assert found.dtype == np.uint8 and (found[0] == expected).mean() > 0.999
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["label_names"]) == dict(zip(map(str, NUMBERS), NAMES, strict=True))
    _predicted_without_torch(project)


def _predicted_without_torch(project):
    """By the tool, in a process that refuses to import torch, mmseg, mmengine and mmcv."""
    path = os.pathsep.join(map(str, (REPOSITORY / "tests/tools/without_torch", REPOSITORY)))
    options = ("a.onnx", "data/camvid/val", "--out", "free", "--batch-size", 2)
    run = started("predict.py", *options, folder=project, PYTHONPATH=path)
    assert run.returncode == 0, run.stderr
    found, expected = labels(project / "free/labels"), labels(project / "out")
    assert list(found) == list(expected) and len(found) == 3
    for name, rows in expected.items():
        assert (np.array(found[name]) == rows).mean() > 0.999
    assert len(list((project / "free/overlays").glob("*.jpg"))) == 3
    with_torch = ran(
        "predict.py tiny.py weights.pth data/camvid/val --out with --device cpu", folder=project
    )
    for text in (run.stdout, with_torch.stdout):  # of resizing, too
        assert "The network saw them at 1.33 of their size" in text
    for word in ("a.onnx --tta", "tiny.py a.onnx", "tiny.py weights.pth --backend openvino"):
        words = f"{word} data/camvid/val --out none".split()
        assert started("predict.py", *words, folder=project, PYTHONPATH=path).returncode == 2
