"""The publishers' classifiers, rebuilt here from their layer tables, load tensor by tensor."""

from functools import partial

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn
from torch.nn import functional
from weights.caffe_files import write_caffemodel
from weights.published import FC, as_justincj, random_norm, torchvision_vgg

from fcn_plugin.errors import UserError
from fcn_plugin.models import (
    ConvolutionalizedAlexNet,
    ConvolutionalizedGoogLeNet,
    ConvolutionalizedVGG,
)
from fcn_plugin.weights import pretrained
from fcn_plugin.weights.pretrained import load_classifier
from fcn_plugin.weights.sources import SOURCES

close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)


def backbone(depth=16, norm=False, **settings) -> ConvolutionalizedVGG:
    norm_cfg = dict(type="BN") if norm else None
    settings = dict(base_channels=4, fc_channels=FC, norm_cfg=norm_cfg) | settings
    return ConvolutionalizedVGG(depth, **settings).double().eval()


def tensors_of(depth=16, norm=False) -> dict[str, torch.Tensor]:
    return torchvision_vgg(depth, norm).state_dict()


def load(tmp_path, model, tensors):
    torch.save(tensors, tmp_path / "weights.pth")
    return load_classifier(model, str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(("depth", "norm"), [(11, False), (16, False), (16, True)])
def test_torchvisions_vgg(tmp_path, depth, norm):
    """On a 224-pixel image the middle of fc6's output sees just what the classifier sees."""
    model, ours = torchvision_vgg(depth, norm).double(), backbone(depth, norm)
    report = load(tmp_path, ours, model.state_dict())
    assert report.dropped.keys() == {"classifier.6.weight", "classifier.6.bias"}
    new = {"norm_fc6", "norm_fc7"} if norm else set()
    assert {name.split(".")[2] for name in report.new} == new
    assert len(report.used) + len(report.new) == len(ours.state_dict())
    image = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        features = model["features"](image)
        if norm:
            close(nn.Sequential(*ours.stages[:5])(image), features)
        else:
            close(ours(image)[2][0, :, 3, 3], model["classifier"][:5](features.flatten(1))[0])


def test_features_only_leaves_fc_new(tmp_path, monkeypatch, caplog):
    tensors = {k: v for k, v in tensors_of().items() if k.startswith("features")}
    torch.save(tensors, tmp_path / "f.pth")
    ours = backbone(init_cfg=[dict(type="Pretrained", checkpoint=str(tmp_path / "f.pth"))])
    monkeypatch.setattr(MMLogger.get_current_instance(), "handlers", [caplog.handler])
    ours.init_weights()
    assert "no fc6 and fc7" not in caplog.text  # FC channels are not the published ones
    monkeypatch.setattr(pretrained, "PUBLISHED_WIDTH", FC)
    load_classifier(ours, str(tmp_path / "f.pth"))
    assert "f.pth has no fc6 and fc7, which start from random numbers" in caplog.text
    state = ours.state_dict()
    assert torch.equal(state["stages.0.conv1_1.weight"].float(), tensors["features.0.weight"])
    # He's initialisation over 32 x 7 x 7 inputs.
    fresh = state["stages.5.fc6.weight"].std().item()
    assert fresh == pytest.approx((2 / (32 * 49)) ** 0.5, rel=0.1)
    assert ours.trained_on == SOURCES["torchvision://vgg16_features"].input


def test_fc6_and_fc7_of_another_width_start_anew(tmp_path):
    ours, tensors = backbone(fc_channels=FC // 2), tensors_of()
    before = {name: tensor.clone() for name, tensor in ours.stages[5].state_dict().items()}
    report = load(tmp_path, ours, tensors)
    dropped = {f"classifier.{number}.{kind}" for number in (0, 3) for kind in ("weight", "bias")}
    assert {n for n, why in report.dropped.items() if "another width" in why} == dropped
    assert {name.split(".")[2] for name in report.new} == {"fc6", "fc7"}
    assert torch.equal(ours.stages[0].conv1_1.weight.float(), tensors["features.0.weight"].float())
    after = ours.stages[5].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_the_first_layer_widened_sees_grey_as_the_files_does(tmp_path, bands):
    """All bands equal: the response is that of the RGB network to a grey image."""
    photos, ours, tensors = backbone(), backbone(in_channels=bands), tensors_of()
    for model in (photos, ours):
        load(tmp_path, model, tensors)
    grey = torch.randn(1, 1, 64, 48, dtype=torch.float64)
    expected = photos(grey.repeat(1, 3, 1, 1))
    for level, same in zip(ours(grey.repeat(1, bands, 1, 1)), expected, strict=True):
        torch.testing.assert_close(level, same, rtol=1e-5, atol=1e-5)  # of float32 weights
    assert ours.trained_on is None  # means of three channels say nothing of the bands'


def test_what_is_beyond_the_backbone_is_dropped(tmp_path):
    report = load(tmp_path, backbone(out_indices=(3, 4)), tensors_of())
    assert report.dropped["classifier.0.weight"] == "beyond the last level in out_indices"
    first, second = backbone(), backbone()
    state = {f"backbone.{name}": tensor for name, tensor in first.state_dict().items()}
    state["decode_head.score.0.weight"] = torch.zeros(1)
    report = load(tmp_path, second, dict(state_dict=state))
    assert report.dropped == {"decode_head.score.0.weight": "of the decode head"}
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_norms_that_the_file_does_not_have_are_new(tmp_path):
    ours = backbone(norm_cfg=dict(type="GN", num_groups=2))
    report = load(tmp_path, ours, tensors_of())
    assert len(report.used) == 2 * 15
    assert all("norm_" in name for name in report.new)
    with pytest.raises(UserError, match=r"no place for, e.g. features.1.num_batches_tracked"):
        load(tmp_path, ours, tensors_of(norm=True))


def own(depth):
    return {f"backbone.{k}": v for k, v in backbone(depth).state_dict().items()}


REFUSED = [
    (lambda: torch.zeros(3), "holds no state_dict"),
    (lambda: tensors_of(norm=True), "check depth or variant"),
    (lambda: tensors_of(11), "torchvision's VGG-11 does not hold the whole of this backbone"),
    (lambda: dict(tensors_of(), extra=torch.zeros(1)), "1 tensors that do not belong"),
    (lambda: own(11), "stages.0.conv1_2.bias is missing.*check depth"),
    (lambda: own(19), "no place for, e.g. backbone.stages.2.conv3_4"),
]


def test_files_that_are_refused(tmp_path):
    ours = backbone()
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    for tensors, message in REFUSED:
        with pytest.raises(UserError, match=message):
            load(tmp_path, ours, tensors())
    with pytest.raises(UserError, match="is not known"):
        load_classifier(ours, "torchvision://r50")
    assert all(torch.equal(before[name], tensor) for name, tensor in ours.state_dict().items())


def torchvision_alexnet() -> nn.ModuleDict:
    """Its names and the proportions of its layers; the padding is the reference's."""
    layers: list[nn.Module] = []
    for *conv, pooled in (
        (3, 8, 11, 4, 100, True),
        (8, 24, 5, 1, 2, True),
        (24, 48, 3, 1, 1, False),
        (48, 32, 3, 1, 1, False),
        (32, 32, 3, 1, 1, True),
    ):
        layers += [nn.Conv2d(*conv), nn.ReLU()]
        layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] if pooled else []
    drop, relu = nn.Dropout(), nn.ReLU()
    linear = nn.Linear(32 * 36, FC), nn.Linear(FC, FC), nn.Linear(FC, 10)
    classifier = nn.Sequential(drop, linear[0], relu, drop, linear[1], relu, linear[2])
    return nn.ModuleDict(dict(features=nn.Sequential(*layers), classifier=classifier)).eval()


def test_torchvisions_alexnet(tmp_path):
    model = torchvision_alexnet().double()
    settings = dict(base_channels=4, fc_channels=FC)
    ours = ConvolutionalizedAlexNet("torchvision", padding="reference", **settings)
    report = load(tmp_path, ours.double().eval(), model.state_dict())
    assert report.new == []
    assert report.dropped.keys() == {"classifier.6.weight", "classifier.6.bias"}
    image = torch.randn(2, 3, 65, 130, dtype=torch.float64)
    with torch.no_grad():
        x = model["features"](image)
        windows = functional.unfold(x, 6).transpose(1, 2)  # N x positions x (channels, 6, 6)
        fc7 = model["classifier"][:6](windows).transpose(1, 2)
        close(ours(image)[2], fc7.unflatten(2, (x.shape[2] - 5, x.shape[3] - 5)))
    assert ours.trained_on == SOURCES["torchvision://alexnet"].input
    other = ConvolutionalizedAlexNet("caffenet", **settings)
    with pytest.raises(UserError, match=r"features.0.weight is \(8, 3, 11, 11\).*variant"):
        load(tmp_path, other, model.state_dict())


class BasicConv(nn.Sequential):
    """torchvision's convolution without bias, BatchNorm and ReLU."""

    def __init__(self, inputs, outputs, kernel, **settings):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=False, **settings)
        self.bn = random_norm(outputs, eps=0.001)
        self.relu = nn.ReLU()


class Block(nn.Module):
    def __init__(self, inputs, a, b1, b2, c1, c2, d):
        super().__init__()
        self.branch1 = BasicConv(inputs, a, 1)
        self.branch2 = nn.Sequential(BasicConv(inputs, b1, 1), BasicConv(b1, b2, 3, padding=1))
        self.branch3 = nn.Sequential(BasicConv(inputs, c1, 1), BasicConv(c1, c2, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), BasicConv(inputs, d, 1))

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.children()], 1)


def torchvision_googlenet() -> nn.Sequential:
    """Its names and layers, an eighth as wide."""
    pool = partial(nn.MaxPool2d, stride=2, ceil_mode=True)
    layers = dict(
        conv1=BasicConv(3, 8, 7, stride=2, padding=3),
        pool1=pool(3),
        conv2=BasicConv(8, 8, 1),
        conv3=BasicConv(8, 24, 3, padding=1),
        pool2=pool(3),
        inception3a=Block(24, 8, 12, 16, 2, 4, 4),
        inception3b=Block(32, 16, 16, 24, 4, 12, 8),
        pool3=pool(3),
        inception4a=Block(60, 24, 12, 26, 2, 6, 8),
        inception4b=Block(64, 20, 14, 28, 3, 8, 8),
        inception4c=Block(64, 16, 16, 32, 3, 8, 8),
        inception4d=Block(64, 14, 18, 36, 4, 8, 8),
        inception4e=Block(66, 32, 20, 40, 4, 16, 16),
        pool4=pool(2),
        inception5a=Block(104, 32, 20, 40, 4, 16, 16),
        inception5b=Block(104, 48, 24, 48, 6, 16, 16),
    )
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model.eval()


def test_torchvisions_googlenet(tmp_path):
    model = torchvision_googlenet().double()
    ours = ConvolutionalizedGoogLeNet("torchvision", base_channels=8, padding="reference")
    rest = nn.ModuleDict(dict(aux1=BasicConv(64, 16, 1), fc=nn.Linear(128, 10)))
    tensors = model.state_dict() | rest.state_dict()
    report = load(tmp_path, ours.double().eval(), tensors)
    assert report.new == [] and report.dropped.keys() == rest.state_dict().keys()
    image = torch.randn(2, 3, 65, 130, dtype=torch.float64)
    with torch.no_grad():
        # 97 zeros and its own 3 make the reference's 100.
        close(ours(image)[2], model(functional.pad(image, (97,) * 4)))
    assert ours.trained_on.mean == (127.5, 127.5, 127.5)


def test_justincjs_vgg16(tmp_path):
    tensors, ours = as_justincj(tensors_of()), backbone().float()
    load(tmp_path, ours, tensors)
    assert torch.equal(ours.stages[5].fc7.weight.flatten(1), tensors["classifier.4.weight"])
    assert ours.trained_on == SOURCES["justincj://vgg16"].input


def caffe_name(parameter: str) -> tuple[str, str]:
    *layer, kind = parameter.split(".")[2:]
    return "/".join(layer), kind


def caffe_layers(model, last: dict[str, int]):
    """The layers of a backbone by Caffe's names, and ImageNet's ones, of so many inputs."""
    layers = {}
    for name, tensor in model.state_dict().items():
        (layer, kind), tensor = caffe_name(name), torch.randn(tensor.shape)
        connected = layer in ("fc6", "fc7") and kind == "weight"
        layers.setdefault(layer, []).append(tensor.flatten(1) if connected else tensor)
    return layers | {name: [torch.randn(10, n), torch.randn(10)] for name, n in last.items()}


CAFFE = {
    "vgg16": (ConvolutionalizedVGG, dict(base_channels=4, fc_channels=FC), {"fc8": FC}),
    "caffenet": (ConvolutionalizedAlexNet, dict(base_channels=4, fc_channels=FC), {"fc8": FC}),
    "googlenet": (
        ConvolutionalizedGoogLeNet,
        dict(base_channels=8),
        {"loss1/fc": 16, "loss3/classifier": 128},
    ),
}


@pytest.mark.parametrize("name", CAFFE)
def test_caffes_files(tmp_path, name):
    kind, settings, last = CAFFE[name]
    ours = kind(**settings)
    layers = caffe_layers(ours, last)
    assert name != "googlenet" or {"inception_4c/5x5_reduce", "conv1/7x7_s2"} <= layers.keys()
    file = tmp_path / "net.caffemodel"
    write_caffemodel(file, layers, "V1", legacy_shape=True)
    report = load_classifier(ours, str(file))
    assert report.new == []
    assert report.dropped.keys() == {f"{x}.{kind}" for x in last for kind in ("weight", "bias")}
    for parameter, tensor in ours.state_dict().items():
        layer, kind = caffe_name(parameter)
        assert torch.equal(tensor.flatten(), layers[layer][kind == "bias"].flatten()), parameter
    assert ours.trained_on == SOURCES[f"caffe://{name}"].input
