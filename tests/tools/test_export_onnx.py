"""tools/export_onnx.py from a work dir to a file that onnxruntime runs."""

import json

import numpy as np
import onnxruntime
import pytest
from mmengine.config import Config
from PIL import Image
from prediction.trained import trained
from tools.running import as_module, ran

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
    _, weights = trained(folder, POOL3)
    (folder / "work").mkdir()
    weights.rename(folder / "work/best_mIoU_iter_4.pth")
    return folder


def test_exports_a_work_dir(run):
    picture = run / "street.png"
    Image.fromarray(clouds(1, (70, 90))[0].numpy()).save(picture)
    done = ran("export_onnx.py", "tiny.py", "work", "out/fcn.onnx", "--images", picture, folder=run)
    *checked, last, _ = done.stdout.splitlines()
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
    done = ran("export_onnx.py tiny.py work plain.onnx --no-resize --size 40 50", folder=run)
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


# Steps of a pipeline, the resizing that the file does, and what it leaves, which comes before.
PIPELINES = {
    "alone": ([LOAD, RESIZE, PACK], SIZED, []),
    "by half": ([LOAD, HALVED, PACK], Resizing(factor=(0.5, 0.5)), []),
    "by 1": ([LOAD, AS_IT_IS, PACK], None, []),
    "last": ([LOAD, MULTIPLE, RESIZE, PACK], SIZED, [MULTIPLE]),
    "not last": ([LOAD, RESIZE, MULTIPLE, PACK], None, [RESIZE, MULTIPLE]),
    "of floats": ([dict(LOAD, to_float32=True), RESIZE, PACK], None, [RESIZE]),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_what_the_file_does_of_a_pipeline(name):
    steps, inside, left = PIPELINES[name]
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=steps))))
    with as_module("export_onnx") as export:
        assert export.steps(cfg, inside=True) == (inside, left)
        assert export.steps(cfg, inside=False)[0] is None
