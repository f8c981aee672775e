"""tools/convert_weights.py as a user runs it."""

import numpy as np
import torch
from tools.running import tool
from weights.caffe_files import write_caffemodel
from weights.published import fcn_layers


def test_converts_and_says_what_for(tmp_path):
    write_caffemodel(tmp_path / "fcn8s.caffemodel", fcn_layers("fcn8s"))
    done = tool("convert_weights.py", "fcn8s.caffemodel", "fcn8s.pth", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "fcn8s.caffemodel: Caffe's FCN on vgg16 (by content)"
    assert "dropped upscore8.weight: the bilinear kernel" in done.stdout
    # No config: the shipped ones are wider than this file.
    assert lines[-1] == "Done: fcn8s.pth holds fcn8s on vgg16, 21 classes"
    assert done.stderr == ""
    checkpoint = torch.load(tmp_path / "fcn8s.pth", weights_only=True)
    assert checkpoint["meta"]["dataset_meta"]["classes"][0] == "background"


def test_asked_for_other_classes(tmp_path):
    write_caffemodel(tmp_path / "fcn8s.caffemodel", fcn_layers("fcn8s"))
    options = ("--dataset", "CamVidDataset", "--net", "fcn16s")
    done = tool("convert_weights.py", "fcn8s.caffemodel", "out.pth", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "newly initialised decode_head.score.1.weight" in done.stdout
    assert "fcn16s on vgg16, 11 classes" in done.stdout.splitlines()[-1]


def test_a_mistake_is_one_line_and_leaves_the_target(tmp_path):
    layers = fcn_layers("fcn8s")
    layers["fc6"][0] = np.ascontiguousarray(layers["fc6"][0][:, :-1])
    write_caffemodel(tmp_path / "bad.caffemodel", layers)
    (tmp_path / "out.pth").write_text("precious")
    for source, expected in (
        ("bad.caffemodel", "error: bad.caffemodel: fc6.weight is (24, 31, 7, 7), but"),
        ("none.caffemodel", "error: none.caffemodel: no such file"),
    ):
        done = tool("convert_weights.py", source, "out.pth", folder=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith(expected) and len(done.stderr.splitlines()) == 1
        assert (tmp_path / "out.pth").read_text() == "precious"
    done = tool("convert_weights.py", "bad.caffemodel", "x.pth", "--net", "unet", folder=tmp_path)
    assert done.returncode == 2 and "choose from" in done.stderr
