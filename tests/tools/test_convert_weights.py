"""tools/convert_weights.py as a user runs it."""

import shutil

import numpy as np
import torch
from PIL import Image
from tools.running import ran, tool
from weights.caffe_files import write_caffemodel
from weights.caffe_text import CaffeFile, Variant
from weights.published import fcn_layers


def test_converts_and_says_what_for(tmp_path):
    """No config is named, for the shipped ones are wider."""
    write_caffemodel(tmp_path / "fcn8s.caffemodel", fcn_layers("fcn8s"))
    done = ran("convert_weights.py fcn8s.caffemodel fcn8s.pth", folder=tmp_path)
    first, *_, last, following = done.stdout.splitlines()
    assert first == (
        "fcn8s.caffemodel: Caffe's FCN on vgg16 (by content; its hash is not among the published "
        "ones)"
    )
    shutil.copy(tmp_path / "fcn8s.caffemodel", tmp_path / "fcn8s-heavy-pascal.caffemodel")
    named = ran("convert_weights.py fcn8s-heavy-pascal.caffemodel a.pth", folder=tmp_path).stdout
    assert "its hash is not that of the published fcn8s-heavy-pascal.caffemodel)\n" in named
    assert "  WARNING: the published file has sha1 " in named and "fetch http://dl.caffe." in named
    assert "dropped upscore8.weight: the bilinear kernel" in done.stdout
    assert last == "Done: fcn8s.pth holds fcn8s on vgg16, 21 classes" and done.stderr == ""
    assert following == (
        "Next: name it in a config: load_from='fcn8s.pth', model=dict(data_preprocessor=dict("
        "mean=[104.00699, 116.66877, 122.67892], std=[1.0, 1.0, 1.0], bgr_to_rgb=False), "
        "backbone=dict(padding='reference', init_cfg=None))"
    )
    checkpoint = torch.load(tmp_path / "fcn8s.pth", weights_only=True)
    assert checkpoint["meta"]["dataset_meta"]["classes"][0] == "background"


def test_a_prototxt_is_checked_and_becomes_a_config(tmp_path):
    variant = Variant(classes=4, ending="_mine")
    file = CaffeFile(variant.weights(torch.Generator().manual_seed(0)))
    variant.write(file)
    (tmp_path / "my.prototxt").write_text(file.text)
    write_caffemodel(tmp_path / "my.caffemodel", file.blobs)
    command = "convert_weights.py --prototxt my.prototxt my.caffemodel"
    checked = ran(command, folder=tmp_path).stdout.splitlines()[-2:]
    assert checked[0] == (
        "Done: my.caffemodel holds fcn8s on vgg16, 4 classes; nothing was written"
    )
    assert checked[1] == f"Next: fcn-plugin {command.replace('.py', '', 1)} TARGET.pth"
    assert {path.name for path in tmp_path.iterdir()} == {"my.prototxt", "my.caffemodel"}
    written = ran(f"{command} out/my.pth", folder=tmp_path).stdout.splitlines()[-2:]
    assert written[0].endswith("holds fcn8s on vgg16, 4 classes; config: out/my.py")
    assert written[1] == "Next: fcn-plugin predict out/my.py out/my.pth IMAGE --out predictions"
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "a.png")
    *_, following = written[1].replace("IMAGE", "a.png").split("fcn-plugin ")
    ran(following.replace("predict", "predict.py", 1), folder=tmp_path)
    assert Image.open(tmp_path / "predictions/labels/a.png").size == (50, 40)
    (tmp_path / "my.prototxt").write_text(file.text.replace("offset: 9", "offset: 10"))
    refused = tool(f"{command} other.pth", folder=tmp_path)
    assert refused.returncode == 1 and refused.stderr.startswith(
        "error: my.prototxt: layer score_pool3_minec: offset 10, but 9 by the windows"
    )
    for options in ("my.caffemodel", f"--net fcn8s {command[19:]} a.pth"):
        assert tool(f"convert_weights.py {options}", folder=tmp_path).returncode == 2


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
