"""The texts in which the same network may be written, and texts that are none."""

import re
import time

import pytest
import torch
from weights.caffe_text import CaffeFile, Variant

from fcn_plugin.conversion.caffe.network import read_network
from fcn_plugin.errors import UserError

VARIANT = Variant(classes=3)
PYTHON = r"""layer { name: "data" type: "Python" top: "data" top: "label" include { phase: PHASE }
  python_param { module: "m" param_str: "{\'split\': \'val\', \'mean\': (1.5, -2, 30)}" } }
"""
LOSS = """layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  include { phase: TRAIN } loss_param { ignore_label: 255 normalize: false } }
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" include { phase: TEST } }
"""
CAPITALS = dict(Convolution="CONVOLUTION", ReLU="RELU", Dropout="DROPOUT", Pooling="POOLING")
CAPITALS |= dict(Deconvolution="DECONVOLUTION", Crop="CROP", Eltwise="ELTWISE")


def text_of(variant: Variant = VARIANT, start: str = "") -> str:
    """The layers of the network, after the lines that bring its image."""
    file = CaffeFile(variant.weights(torch.Generator().manual_seed(0)), start=start)
    variant.write(file)
    return file.text


LAYERS = text_of()
V1 = re.sub(r'type: "(\w+)"', lambda kind: f"type: {CAPITALS[kind[1]]}", LAYERS)
V1 = V1.replace("layer {", "layers {")
TEXTS = {
    "an input": f'input: "data" input_dim: 1 input_dim: 3 input_dim: 500 input_dim: 500\n{LAYERS}',
    "a byte order mark": f'\ufeffname: "FCN" force_backward: true\ninput: "data"\n{LAYERS}',
    "an Input layer, at its end Softmax": 'layer { name: "data" type: "Input" top: "data" '
    f"input_param {{ shape {{ dim: [1, 3, 9, 9] }} }} }}\n{LAYERS}layer {{ name: 'prob' "
    "type: 'Softmax' bottom: 'score' top: 'prob' }\n",
    "for training and testing": PYTHON.replace("PHASE", "TRAIN").replace("1.5", "9")
    + PYTHON.replace("PHASE", "TEST")
    + LAYERS
    + LOSS,
    "of 2014": f'input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9\n{V1}',
    "of 2014, crops without offsets": 'layers { name: "data" type: IMAGE_DATA top: "data" top: "l" '
    "transform_param { mean_value: 1.5 mean_value: -2 mean_value: 30 scale: 0.5 } }\n"
    + re.sub(r"crop_param {[^}]*}", "", V1),
    "no dropout": 'input: "data"\n' + re.sub("(?m)^.*Dropout.*\n", "", LAYERS),
    "windows by rows and columns": 'input: "data"\n'
    + LAYERS.replace("kernel_size: 3", "kernel_h: 3 kernel_w: 3").replace(
        "pad: 1 ", "pad: [1, 1] engine: CUDNN weight_filler { type: 'xavier' } "
    ),
}


@pytest.mark.parametrize("form", TEXTS)
def test_the_same_network_in_any_form(form, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(TEXTS[form])
    network = read_network(path)
    assert (network.net, network.num_classes, network.kernels) == ("fcn8s", 3, (16, 4, 4))
    expected = dict(depth=16, padding="reference", base_channels=2, fc_channels=12)
    assert expected.items() <= network.classifier.settings.items()
    assert network.classifier.settings.get("dropout_ratio", "none") == (
        "none" if form == "no dropout" else 0.5
    )
    assert list(network.names)[:2] == ["conv1_1", "conv1_2"]
    assert network.names["up_fc7"] == "upscore2" and network.names["up_pool3"] == "upscore8"
    said = form in ("for training and testing", "of 2014, crops without offsets")
    assert network.image.mean == ((1.5, -2, 30) if said else ())
    assert network.image.std == (2 if "crops without" in form else 1)
    shapes = "input_dim" in TEXTS[form] or "input_param" in TEXTS[form]
    assert network.image.channels == (3 if shapes else None)


def test_two_data_layers_side_by_side_are_the_image(tmp_path):
    """As in the authors' network of color and depth."""
    path = tmp_path / "net.prototxt"
    data = 'input: "color" input: "depth"\nlayer { name: "data" type: "Concat" bottom: "color" '
    path.write_text(f'{data} bottom: "depth" top: "data" }}\n{LAYERS}')
    assert read_network(path).net == "fcn8s" and read_network(path).image.channels is None


TEXT = 'input: "data"\n' + LAYERS
DEEP = 7_000
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "describes no layers of a network for testing; give the network's deploy"),
    "a solver": (b'net: "train.prototxt"\nbase_lr: 1e-10\n', "describes no layers"),
    "for training only": (
        TEXT.replace("top:", "include { phase: TRAIN } top:").encode(),
        "no layers",
    ),
    "binary": (bytes(range(128, 256)) * 10, "not text in UTF-8"),
    "UTF-16": (TEXT.encode("utf-16"), "not text in UTF-8"),
    "zeros": (bytes(1000), "not a prototxt"),
    "an image of a page": (b"<!DOCTYPE html><html></html>", "not a prototxt"),
    "cut off": (TEXT[: len(TEXT) // 2].encode(), "not a prototxt"),
    "nested deeply": (b"a { " * DEEP + b"\n" + b"} " * DEEP, "nested too deeply"),
    "layers nested deeply": (b"layer { include { a {\n" + b"b { " * DEEP, "nested too deeply"),
    "huge": (b"#\n" * 5_000_000, "more than 1 MB"),
    "a long line": (b"a: 1 " * 100_000, "a line of more than 30 kB"),
    "many long lines": ((b"a: 1 " * 5_000 + b"\n") * 10, "describes no layers"),
    "a negative number": (TEXT.replace("pad: 100", "pad: -1").encode(), "not a prototxt"),
    "a huge number": (TEXT.replace("num_output: 2 ", "num_output: 4294967295 ").encode(), "65536"),
    "an unknown word": (TEXT.replace("MAX", "MEDIAN").encode(), "not a prototxt"),
    "control characters": (
        TEXT.replace('{ name: "conv1_1"', '{ name: "\\033[31m"').replace("100", "99").encode(),
        r"layer \\x1b\[31m: pad 99",
    ),
    "a mean of nan": (
        f'layer {{ name: "d" type: "Data" top: "data" transform_param {{ mean_value: nan }} }} '
        f"{LAYERS}".encode(),
        r"layer d: mean \[nan\] and scale 1",
    ),
    "a ratio of inf": (TEXT.replace("0.5", "inf").encode(), "layer drop_fc6: dropout_ratio inf"),
    "a circle": (TEXT.replace('bottom: "data"', 'bottom: "score"', 1).encode(), "no layer before"),
    "no type": (TEXT.replace('type: "Pooling"', "", 1).encode(), "layer pool1: has no type"),
    "no image": (
        b'input: "data"\nlayer { name: "a" type: "ReLU" bottom: "data" top: "a" }',
        "layer a",
    ),
    "data alone": (b'input: "data"', "describes no layers that score pixels"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_texts_that_are_refused_in_one_line(kind, tmp_path):
    content, message = HOSTILE[kind]
    path = tmp_path / "net.prototxt"
    path.write_bytes(content)
    begun = time.perf_counter()
    with pytest.raises(UserError, match=message) as raised:
        read_network(path)
    assert str(path) in str(raised.value) and str(raised.value).isprintable()
    assert time.perf_counter() - begun < 5


def test_no_file_is_no_prototxt(tmp_path):
    for path in (tmp_path, tmp_path / "none.prototxt"):
        with pytest.raises(UserError, match=r"no such file; give the network's deploy\.prototxt"):
            read_network(path)
