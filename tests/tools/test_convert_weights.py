"""tools/convert_weights.py as a user runs it."""

import torch
from tools.running import ran
from weights.caffe_files import write_caffemodel
from weights.published import fcn_layers


def test_converts_and_says_what_for(tmp_path):
    write_caffemodel(tmp_path / "fcn8s.caffemodel", fcn_layers("fcn8s"))
    done = ran("convert_weights.py", "fcn8s.caffemodel", "fcn8s.pth", folder=tmp_path)
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
    done = ran("convert_weights.py", "fcn8s.caffemodel", "out.pth", *options, folder=tmp_path)
    assert "newly initialised decode_head.score.1.weight" in done.stdout
    assert "fcn16s on vgg16, 11 classes" in done.stdout.splitlines()[-1]
