"""tools/convert_weights.py as a user runs it."""

import numpy as np
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


def test_a_classifiers_next_step_is_training(tmp_path):
    """Its score layers are zero; the convolutions alone, at full width, have a shipped config."""
    arrays, channels = {}, 3
    stages = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
    for stage, (convs, width) in enumerate(stages, 1):
        for conv in range(1, convs + 1):
            arrays[f"conv{stage}_{conv}/W"] = np.zeros((width, channels, 3, 3), np.float32)
            arrays[f"conv{stage}_{conv}/b"] = np.zeros(width, np.float32)
            channels = width
    np.savez_compressed(tmp_path / "vgg16_from_caffe.npz", **arrays)
    done = ran("convert_weights.py vgg16_from_caffe.npz start.pth", folder=tmp_path)
    assert done.stdout.splitlines()[-1] == (
        "Next: fcn-plugin train fcn32s_vgg16_voc2011-heavy --cfg-options load_from=start.pth "
        "model.backbone.init_cfg=None"
    )
