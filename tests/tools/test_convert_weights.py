"""tools/convert_weights.py as a user runs it."""

import torch
from tools.running import ran
from weights.caffe_files import write_caffemodel
from weights.published import fcn_layers


def test_converts_and_says_what_for(tmp_path):
    """No config is named, for the shipped ones are wider."""
    write_caffemodel(tmp_path / "fcn8s.caffemodel", fcn_layers("fcn8s"))
    done = ran("convert_weights.py fcn8s.caffemodel fcn8s.pth", folder=tmp_path)
    first, *_, last, following = done.stdout.splitlines()
    assert first == "fcn8s.caffemodel: Caffe's FCN on vgg16 (by content)"
    assert "dropped upscore8.weight: the bilinear kernel" in done.stdout
    assert last == "Done: fcn8s.pth holds fcn8s on vgg16, 21 classes" and done.stderr == ""
    assert following == "Next: name it in a config: load_from='fcn8s.pth'"
    checkpoint = torch.load(tmp_path / "fcn8s.pth", weights_only=True)
    assert checkpoint["meta"]["dataset_meta"]["classes"][0] == "background"
