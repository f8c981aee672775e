"""tools/export_onnx.py from a work dir to a file that onnxruntime runs."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image
from tools.running import as_module, config, ran

from fcn_plugin.export import Resizing
from fcn_plugin.export.graph import clouds
from fcn_plugin.prediction import Predictor

POOL3 = """
model["backbone"]["out_indices"] = (2,)
model["decode_head"].update(in_channels=(8,), in_index=(0,))
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        pipeline=[
            dict(type="LoadCheckedImage"),
            dict(type="Resize", scale=(96, 80), keep_ratio=True),
            dict(type="PackSegInputs"),
        ]
    ),
)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a config and a work dir, of a network that was not trained."""
    folder = tmp_path_factory.mktemp("export")
    cfg = Config.fromfile(config(folder, POOL3))
    init_default_scope("mmseg")
    model = MODELS.build(cfg.model)
    model.init_weights()
    for score in model.decode_head.score:
        torch.nn.init.normal_(score.weight, std=0.5)
    (folder / "work").mkdir()
    torch.save(dict(meta={}, state_dict=model.state_dict()), folder / "work/best_mIoU_iter_4.pth")
    return folder


def test_exports_a_work_dir(run):
    picture = run / "street.png"
    Image.fromarray(clouds(1, (70, 90))[0].numpy()).save(picture)
    done = ran("export_onnx.py", "tiny.py", "work", "out/fcn.onnx", "--images", picture, folder=run)
    *checked, last = done.stdout.splitlines()
    assert [line[:16].strip() for line in checked] == [
        "1 x 97 x 161", "2 x 256 x 320", "1 x 301 x 423", "1 x 70 x 90"
    ]  # fmt: skip
    assert last.startswith("Done: out/fcn.onnx, ")
    session = onnxruntime.InferenceSession(run / "out/fcn.onnx")
    labels = session.run(None, {"image": np.asarray(Image.open(picture))[None]})[0]
    assert (labels.shape, labels.dtype) == ((1, 70, 90), np.uint8)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"])[1] == "circle"
    assert (told["config"], told["left_to_caller"]) == ("tiny.py", "[]")
    assert json.loads(told["resizing"]) == dict(scale=[96, 80], keep_ratio=True)
    expected = Predictor(str(run / "tiny.py"), run / "work")(picture).labels
    assert (labels[0] == expected).mean() >= 0.9999 and len(np.unique(labels)) > 1


def test_resizing_is_left_out_on_request(run):
    options = ("--no-resize", "--size", "40", "50")
    done = ran("export_onnx.py", "tiny.py", "work", "plain.onnx", *options, folder=run)
    left = "Left to you: the test pipeline's Resize(scale=(96, 80), keep_ratio=True) before, "
    assert done.stdout.splitlines()[-2].startswith(left)
    session = onnxruntime.InferenceSession(run / "plain.onnx")
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["left_to_caller"])[0]["scale"] == [96, 80]
    assert told["resizing"] == "null"


RESIZE = dict(type="Resize", scale=(96, 80))
HALVED, AS_IT_IS = (dict(type="Resize", scale_factor=factor) for factor in (0.5, 1.0))
MULTIPLE = dict(type="ResizeToMultiple", size_divisor=32)
LOAD, PACK = dict(type="LoadImageFromFile"), dict(type="PackSegInputs")
SIZED = Resizing((96, 80))


@pytest.mark.parametrize(
    ("steps", "inside", "left"),
    [
        ([LOAD, RESIZE, PACK], SIZED, []),
        ([LOAD, HALVED, PACK], Resizing(factor=(0.5, 0.5)), []),
        ([LOAD, AS_IT_IS, PACK], None, []),
        ([LOAD, MULTIPLE, RESIZE, PACK], SIZED, [MULTIPLE]),
        ([LOAD, RESIZE, MULTIPLE, PACK], None, [RESIZE, MULTIPLE]),
        ([dict(LOAD, to_float32=True), RESIZE, PACK], None, [RESIZE]),
        ([LOAD, PACK], None, []),
    ],
    ids=["alone", "by half", "by 1", "last", "not last", "of floats", "none"],
)
def test_what_the_file_does_of_a_pipeline(steps, inside, left):
    """What it leaves comes before what it does."""
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=steps))))
    with as_module("export_onnx") as export:
        resizing, found = export.steps(cfg, inside=True)
        outside, _ = export.steps(cfg, inside=False)
    assert resizing == inside
    assert found == left
    assert outside is None
