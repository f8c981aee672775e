"""What of a test pipeline tools/export_onnx.py takes into its file; test_numbers.py runs it."""

import pytest
from mmengine.config import Config
from tools.running import as_module

from fcn_plugin.export import Resizing

RESIZE = dict(type="Resize", scale=(96, 80))
MULTIPLE = dict(type="ResizeToMultiple", size_divisor=32)
LOAD, PACK = dict(type="LoadImageFromFile"), dict(type="PackSegInputs")
# Steps of a pipeline, the resizing that the file does, and what it leaves, which comes before.
PIPELINES = {
    "last": ([LOAD, MULTIPLE, RESIZE, PACK], Resizing((96, 80)), [MULTIPLE]),
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
