"""VGG and FCNs in other frameworks' files: the same scores as of the layers they were made from."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from mmseg.registry import MODELS
from weights import foreign_files as write
from weights.foreign_files import CAFFES_ORDER, MEAN_RGB, OTHER_COLOURS, SWAPPED, vgg
from weights.published import BASE, FC, Layers, fcn_layers, named

from fcn_plugin.conversion.convert import convert
from fcn_plugin.conversion.ours import shipped_config
from fcn_plugin.models import ConvolutionalizedVGG, SkipFusionHead
from fcn_plugin.weights.pretrained import load_classifier
from fcn_plugin.weights.recognise import open_weights
from fcn_plugin.weights.sources import CAFFE_VGG, VOC

IMAGE = np.random.default_rng(5).integers(0, 256, (70, 90, 3), dtype=np.uint8)  # BGR
# Name of the file -> how it is written, its publisher, the order of its colours, and what would
# go wrong were it read as another's.
CLASSIFIERS = {
    "imagenet-vgg-verydeep-16.mat": (write.matconvnet, "MatConvNet", "RGB"),
    "of 2015.mat": (partial(write.matconvnet, old=True), "MatConvNet", "RGB"),
    "compressed.mat": (partial(write.matconvnet, do_compression=True), "MatConvNet", "RGB"),
    "vgg16.npy": (write.machrisaa, "machrisaa", "BGR"),
    "saved again.npy": (partial(write.machrisaa, python2=False), "machrisaa", "BGR"),
    "vgg16_weights.npz": (write.frossard, "Frossard", "RGB"),
    "vgg16_from_caffe.npz": (write.chainer, "Chainer", "BGR"),
    "vgg16_weights_tf_dim_ordering_tf_kernels.h5": (write.keras, "Keras", "BGR"),
    "a whole model.h5": (partial(write.keras, layout="save"), "Keras", "BGR"),
    "vgg16.weights.h5": (partial(write.keras, layout="3"), "Keras", "BGR"),
}
CONNECTED = ("machrisaa", "Frossard", "Keras")  # whose fc6 is a matrix of rows in the order H, W, C


def backbone(**settings) -> ConvolutionalizedVGG:
    widths = dict(base_channels=BASE, fc_channels=FC, padding="reference")
    return ConvolutionalizedVGG(**widths, **settings).eval()


def seen(input) -> torch.Tensor:
    """IMAGE as a network with this input sees it."""
    pixels = IMAGE[:, :, ::-1] if input.order == "RGB" else IMAGE
    values = (pixels - np.array(input.mean)) / np.array(input.std)
    return torch.from_numpy(values).permute(2, 0, 1)[None]


def fc7_of(path: Path) -> torch.Tensor:
    """fc7 of IMAGE through ``init_cfg``, in float64, on the input that the file is said to take."""
    ours = backbone(init_cfg=dict(type="Pretrained", checkpoint=str(path)))
    ours.init_weights()
    with torch.no_grad():
        return ours.double()(seen(ours.trained_on))[-1]


def expected(layers: Layers) -> torch.Tensor:
    """fc7 of the plain network, which sees BGR."""
    weights = {name: tensor.double() for name, tensor in named(layers).items()}
    net = reference.Layers(seen(CAFFE_VGG), weights)
    return net[reference.vgg16(net)]


def difference(found: torch.Tensor, plain: torch.Tensor) -> float:
    return float((found - plain).abs().max() / plain.abs().max())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_sees_what_the_plain_network_sees(tmp_path, name):
    writer, publisher, order = CLASSIFIERS[name]
    layers, path = vgg(), tmp_path / name
    plain = expected(layers)
    writer(path, layers)
    assert difference(fc7_of(path), plain) <= 1e-10
    result = convert(path, tmp_path / "out.pth")
    assert result.weights.layout.title == f"{publisher}'s vgg16"
    assert (result.net, result.weights.input.order) == ("fcn32s", order)
    assert ("input is assumed" in str(result)) == (publisher == "Keras")
    mean = MEAN_RGB if order == "RGB" else MEAN_RGB[::-1]
    assert result.weights.input.mean == pytest.approx(mean, rel=1e-6)
    # At full width: no shipped config takes RGB with Caffe's mean.
    full = dict(result.settings, base_channels=64, fc_channels=4096)
    heavy = "fcn32s_vgg16_voc2011-heavy" if order == "BGR" else None
    assert shipped_config(result.weights, "fcn32s", 21, full) == heavy
    assert set(result.report.dropped) == {"fc8.weight", "fc8.bias"}
    for layer, (kernel, _) in layers.items():
        if layer != "fc8":
            stage = 5 if layer in ("fc6", "fc7") else int(layer[4]) - 1
            stored = result.state_dict[f"backbone.stages.{stage}.{layer}.weight"].numpy()
            rgb = layer == "conv1_1" and order == "RGB"
            assert np.array_equal(stored, kernel[:, ::-1] if rgb else kernel), layer
    # The same file with one point undone is another network.
    for mistake in (SWAPPED, OTHER_COLOURS, CAFFES_ORDER):
        applies = {OTHER_COLOURS: publisher != "Chainer", CAFFES_ORDER: publisher in CONNECTED}
        if applies.get(mistake, True):
            writer(path, layers, mistake)
            assert difference(fc7_of(path), plain) > 1e-2, mistake


@pytest.mark.parametrize(
    "writer",
    [
        partial(write.matconvnet, do_compression=True),
        *(write.machrisaa, write.frossard, write.keras),
    ],
)
def test_reading_reports_its_progress(tmp_path, writer):
    path, reports = tmp_path / "x.npz", []
    writer(path, vgg())
    open_weights(path, lambda *report: reports.append(report), identify=False)
    steps = {step for step, _, _ in reports}
    assert steps == {"reading"} and all(0 <= done <= total for _, done, total in reports)


@pytest.mark.parametrize("writer", [write.matconvnet, write.machrisaa, write.keras])
def test_vgg19_and_files_without_a_classifier(tmp_path, writer):
    path = tmp_path / "19"
    writer(path, vgg(19))
    ours = backbone(depth=19)
    assert not load_classifier(ours, str(path)).new
    kernel = vgg(19)["conv5_4"][0]
    assert np.array_equal(ours.state_dict()["stages.4.conv5_4.weight"], kernel)
    writer(path, vgg(top=False))
    result = convert(path, tmp_path / "out.pth", net="fcn8s")
    assert {n.split(".")[3] for n in result.report.new if "backbone" in n} == {"fc6", "fc7"}


@pytest.mark.parametrize("net", ["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"])
def test_an_fcn_of_chainer_gives_the_published_scores(tmp_path, net):
    layers = {n: b for n, b in fcn_layers(net, classes=21).items() if "scale" not in n}
    path = tmp_path / f"{net}_from_caffe.npz"
    write.chainer(path, layers)
    result = convert(path, tmp_path / "out.pth")
    assert (result.net, result.weights.input) == (net, VOC)
    assert result.weights.layout.title == "Chainer's FCN on vgg16"
    weights = {name: tensor.double() for name, tensor in named(layers).items()}
    plain = reference.run(net, seen(VOC), weights)["score"]
    assert difference(scores(result), plain) <= 1e-10
    write.chainer(path, layers, SWAPPED)
    assert difference(scores(convert(path, tmp_path / "out.pth")), plain) > 1e-2


def scores(result) -> torch.Tensor:
    """Of IMAGE, by the backbone and head that a conversion is for."""
    ours = MODELS.build(result.settings | dict(padding="reference")).double().eval()
    image = seen(result.weights.input)
    with torch.no_grad():
        channels = [level.shape[1] for level in ours(image)]
        head = SkipFusionHead(
            channels, range(len(channels)), result.num_classes, scale=result.scale
        )
        for part, module in (("backbone.", ours), ("decode_head.", head.double().eval())):
            tensors = result.state_dict.items()
            module.load_state_dict({n.removeprefix(part): t for n, t in tensors if part in n})
        return head(ours(image), image.shape[2:])
