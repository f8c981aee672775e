"""The publishers' classifiers, rebuilt here from their layer tables, load tensor by tensor."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from weights.caffe_files import write_caffemodel
from weights.published import FC, alexnet_layers, as_justincj

from fcn_plugin.errors import UserError
from fcn_plugin.models import (
    ConvolutionalizedAlexNet,
    ConvolutionalizedGoogLeNet,
    ConvolutionalizedVGG,
)
from fcn_plugin.weights import pretrained as classifier
from fcn_plugin.weights.pretrained import load_classifier
from fcn_plugin.weights.sources import SOURCES

WIDTHS = (4, 8, 16, 32, 32)
CONVS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


class TorchvisionVGG(nn.Module):
    """Its names and its layers: features, 7x7 average pooling, classifier."""

    def __init__(self, depth: int, norm: bool) -> None:
        super().__init__()
        layers, channels = [], 3
        for width, convs in zip(WIDTHS, CONVS[depth], strict=True):
            for _ in range(convs):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if norm else []
                layers.append(nn.ReLU())
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, FC),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(FC, FC),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(FC, 10),
        )

    def fc7(self, image):
        return self.classifier[:5](self.features(image).flatten(1))


def published(depth=16, norm=False) -> TorchvisionVGG:
    model = TorchvisionVGG(depth, norm).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight, 1)
    return model.eval()


def backbone(depth=16, norm=False, **settings) -> ConvolutionalizedVGG:
    return (
        ConvolutionalizedVGG(
            depth,
            base_channels=4,
            fc_channels=FC,
            norm_cfg=dict(type="BN") if norm else None,
            **settings,
        )
        .double()
        .eval()
    )


def saved(tensors, path):
    torch.save(tensors, path)
    return str(path)


@pytest.mark.parametrize("depth", CONVS)
def test_fc7_is_the_classifiers(tmp_path, depth):
    """On a 224-pixel image the middle of fc6's output sees just what the classifier sees."""
    model = published(depth)
    ours = backbone(depth)
    report = load_classifier(ours, saved(model.state_dict(), tmp_path / "vgg.pth"))
    assert report.new == []
    assert report.dropped.keys() == {"classifier.6.weight", "classifier.6.bias"}
    assert len(report.used) == len(ours.state_dict())
    image = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(image)[2][0, :, 3, 3], model.fc7(image)[0], rtol=1e-10, atol=1e-12
        )


def test_batch_norm(tmp_path):
    model, ours = published(norm=True), backbone(norm=True)
    report = load_classifier(ours, saved(model.state_dict(), tmp_path / "vgg.pth"))
    assert {name.split(".")[2] for name in report.new} == {"norm_fc6", "norm_fc7"}
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        pool3 = model.features[:24](image)
        torch.testing.assert_close(ours(image)[0], pool3, rtol=1e-10, atol=1e-12)


def test_features_only_leaves_fc_new(tmp_path):
    tensors = {k: v for k, v in published().state_dict().items() if k.startswith("features")}
    init = dict(type="Pretrained", checkpoint=saved(tensors, tmp_path / "f.pth"))
    ours = backbone(init_cfg=[init])
    ours.init_weights()
    fresh = dict(ours.named_parameters())["stages.5.fc6.weight"]
    assert torch.equal(
        dict(ours.named_parameters())["stages.0.conv1_1.weight"].double(),
        tensors["features.0.weight"],
    )
    # He's initialisation over 32 x 7 x 7 inputs.
    assert fresh.std().item() == pytest.approx((2 / (32 * 49)) ** 0.5, rel=0.1)


def test_a_backbone_without_fc_drops_the_classifier(tmp_path):
    ours = backbone(out_indices=(3, 4))
    report = load_classifier(ours, saved(published().state_dict(), tmp_path / "vgg.pth"))
    assert report.dropped["classifier.0.weight"] == "beyond the last level in out_indices"


def test_our_own_checkpoint(tmp_path):
    first, second = backbone(), backbone()
    state = {f"backbone.{name}": tensor for name, tensor in first.state_dict().items()}
    state["decode_head.score.0.weight"] = torch.zeros(1)
    report = load_classifier(second, saved(dict(state_dict=state), tmp_path / "ours.pth"))
    assert report.dropped == {"decode_head.score.0.weight": "of the decode head"}
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_norms_that_the_file_does_not_have_are_new(tmp_path):
    ours = ConvolutionalizedVGG(
        base_channels=4, fc_channels=FC, norm_cfg=dict(type="GN", num_groups=2)
    )
    report = load_classifier(ours, saved(published().state_dict(), tmp_path / "vgg.pth"))
    assert len(report.used) == 2 * 15
    assert all("norm_" in name for name in report.new)
    with pytest.raises(UserError, match=r"no place for, e.g. features.1.num_batches_tracked"):
        load_classifier(ours, saved(published(norm=True).state_dict(), tmp_path / "bn.pth"))


def test_files_that_are_refused(tmp_path):
    def of_ours(depth, norm=False):
        state = {f"backbone.{k}": v for k, v in backbone(depth, norm).state_dict().items()}
        return saved(state, tmp_path / f"ours{depth}{norm}.pth")

    good = published().state_dict()
    cases = {
        str(tmp_path / "none.pth"): "no such file",
        saved(torch.zeros(3), tmp_path / "tensor.pth"): "holds no state_dict",
        saved(published(norm=True).state_dict(), tmp_path / "bn.pth"): "check depth or variant",
        saved(
            published(11).state_dict(), tmp_path / "11.pth"
        ): "11.pth: torchvision's VGG-11 does not hold the whole of this backbone",
        saved(dict(good, extra=torch.zeros(1)), tmp_path / "extra.pth"): "1 tensors that it does",
        "torchvision://resnet50": "is not known",
        of_ours(16, norm=True): "no place for, e.g. backbone.stages.0.norm_conv1_1",
        of_ours(11): "stages.0.conv1_2.bias is missing.*check depth",
        of_ours(19): "no place for, e.g. backbone.stages.2.conv3_4",
    }
    ours = backbone()
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    for checkpoint, message in cases.items():
        with pytest.raises(UserError, match=message):
            load_classifier(ours, checkpoint)
    assert all(torch.equal(before[name], tensor) for name, tensor in ours.state_dict().items())


def test_without_a_network_the_error_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    source = classifier.SOURCES["torchvision://vgg16"]
    closed = type(source)(**{**vars(source), "url": "http://127.0.0.1:9/vgg16-397923af.pth"})
    monkeypatch.setitem(classifier.SOURCES, "torchvision://vgg16", closed)
    with pytest.raises(UserError) as raised:
        load_classifier(backbone(), "torchvision://vgg16")
    message = str(raised.value)
    assert str(tmp_path / "checkpoints" / "vgg16-397923af.pth") in message
    assert "init_cfg=None" in message and "\n" not in message


def test_passports_are_complete():
    assert len(SOURCES) == 15
    for name, source in SOURCES.items():
        assert source.url.startswith(("https://", "http://dl.caffe.berkeleyvision.org/"))
        assert int(source.digest.digits, 16)
        if name.startswith("caffe://"):
            assert source.digest.algorithm == "sha1" and len(source.digest.digits) == 40
        else:
            assert source.digest.algorithm == "sha256" and len(source.digest.digits) == 8
            assert source.file_name.endswith(f"-{source.digest.digits}.pth")
        order = "RGB" if name.startswith("torchvision://") else "BGR"
        assert source.input.order == order
        assert source.input.preprocessor()["bgr_to_rgb"] == (order == "RGB")
        # ImageNet's mean is that of all: more red than blue, whatever the order says.
        mean = source.input.mean if order == "RGB" else source.input.mean[::-1]
        assert mean[0] >= mean[1] >= mean[2]


# --- AlexNet ----------------------------------------------------------------------------------


class TorchvisionAlexNet(nn.Module):
    """Its names and the proportions of its layers; the padding is the reference's."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, width, kernel, stride, padding, pooled in (
            (3, 8, 11, 4, 100, True),
            (8, 24, 5, 1, 2, True),
            (24, 48, 3, 1, 1, False),
            (48, 32, 3, 1, 1, False),
            (32, 32, 3, 1, 1, True),
        ):
            layers += [nn.Conv2d(inputs, width, kernel, stride, padding), nn.ReLU()]
            layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] if pooled else []
        self.features = nn.Sequential(*layers)
        drop, relu = nn.Dropout(), nn.ReLU()
        linear = nn.Linear(32 * 36, FC), nn.Linear(FC, FC), nn.Linear(FC, 10)
        self.classifier = nn.Sequential(drop, linear[0], relu, drop, linear[1], relu, linear[2])

    def fc7(self, image):
        """Its classifier on every 6 x 6 window."""
        x = self.features(image)
        windows = functional.unfold(x, 6).transpose(1, 2)  # N x positions x (channels, 6, 6)
        windows = self.classifier[:6](windows)
        return windows.transpose(1, 2).unflatten(2, (x.shape[2] - 5, x.shape[3] - 5))


def test_torchvisions_alexnet(tmp_path):
    model = TorchvisionAlexNet().double().eval()
    ours = ConvolutionalizedAlexNet(
        "torchvision", base_channels=4, fc_channels=FC, padding="reference"
    )
    file = saved(model.state_dict(), tmp_path / "alexnet.pth")
    report = load_classifier(ours.double().eval(), file)
    assert report.new == []
    assert report.dropped.keys() == {"classifier.6.weight", "classifier.6.bias"}
    image = torch.randn(2, 3, 65, 130, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image)[2], model.fc7(image), rtol=1e-10, atol=1e-12)
    assert ours.trained_on.order == "RGB"
    other = ConvolutionalizedAlexNet("caffenet", base_channels=4, fc_channels=FC)
    with pytest.raises(UserError, match=r"features.0.weight is \(8, 3, 11, 11\).*variant"):
        load_classifier(other, file)


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_caffes_alexnet(tmp_path, version):
    layers = alexnet_layers()
    del layers["upscore"]
    layers["fc8"] = layers.pop("score_fr")  # of ImageNet
    for name in ("fc6", "fc7", "fc8"):
        layers[name][0] = layers[name][0].reshape(len(layers[name][0]), -1)
    file = tmp_path / "caffenet.caffemodel"
    write_caffemodel(file, layers, version=version, legacy_shape=version == "V1")
    ours = ConvolutionalizedAlexNet(base_channels=4, fc_channels=FC)
    report = load_classifier(ours, str(file))
    assert report.new == []
    assert report.dropped.keys() == {"fc8.weight", "fc8.bias"}
    state = ours.state_dict()
    assert np.array_equal(state["stages.3.fc6.weight"].flatten(1), layers["fc6"][0])
    assert np.array_equal(state["stages.1.conv2.bias"], layers["conv2"][1])
    assert ours.trained_on.order == "BGR"


# --- GoogLeNet --------------------------------------------------------------------------------


class BasicConv(nn.Module):
    """torchvision's convolution without bias, BatchNorm and ReLU."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.conv = nn.Conv2d(*args, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(self.conv.out_channels, eps=0.001)
        nn.init.uniform_(self.bn.running_mean)
        nn.init.uniform_(self.bn.running_var, 0.5, 2)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Block(nn.Module):
    def __init__(self, inputs, a, b1, b2, c1, c2, d):
        super().__init__()
        self.branch1 = BasicConv(inputs, a, 1)
        self.branch2 = nn.Sequential(BasicConv(inputs, b1, 1), BasicConv(b1, b2, 3, padding=1))
        self.branch3 = nn.Sequential(BasicConv(inputs, c1, 1), BasicConv(c1, c2, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), BasicConv(inputs, d, 1))

    def forward(self, x):
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], 1)


class TorchvisionGoogLeNet(nn.Module):
    """Its names and layers, an eighth as wide."""

    def __init__(self):
        super().__init__()
        self.conv1 = BasicConv(3, 8, 7, stride=2, padding=3)
        self.conv2 = BasicConv(8, 8, 1)
        self.conv3 = BasicConv(8, 24, 3, padding=1)
        self.inception3a = Block(24, 8, 12, 16, 2, 4, 4)
        self.inception3b = Block(32, 16, 16, 24, 4, 12, 8)
        self.inception4a = Block(60, 24, 12, 26, 2, 6, 8)
        self.inception4b = Block(64, 20, 14, 28, 3, 8, 8)
        self.inception4c = Block(64, 16, 16, 32, 3, 8, 8)
        self.inception4d = Block(64, 14, 18, 36, 4, 8, 8)
        self.inception4e = Block(66, 32, 20, 40, 4, 16, 16)
        self.inception5a = Block(104, 32, 20, 40, 4, 16, 16)
        self.inception5b = Block(104, 48, 24, 48, 6, 16, 16)
        self.aux1, self.fc = BasicConv(64, 16, 1), nn.Linear(128, 10)

    def forward(self, x):
        pool = functools.partial(functional.max_pool2d, stride=2, ceil_mode=True)
        x = self.conv3(self.conv2(pool(self.conv1(x), 3)))
        x = self.inception3b(self.inception3a(pool(x, 3)))
        x = self.inception4b(self.inception4a(pool(x, 3)))
        x = self.inception4e(self.inception4d(self.inception4c(x)))
        return self.inception5b(self.inception5a(pool(x, 2)))


def test_torchvisions_googlenet(tmp_path):
    model = TorchvisionGoogLeNet().double().eval()
    ours = ConvolutionalizedGoogLeNet("torchvision", base_channels=8, padding="reference")
    file = saved(model.state_dict(), tmp_path / "googlenet.pth")
    report = load_classifier(ours.double().eval(), file)
    assert report.new == []
    assert {name.split(".")[0] for name in report.dropped} == {"aux1", "fc"}
    image = torch.randn(2, 3, 65, 130, dtype=torch.float64)
    with torch.no_grad():
        # 97 zeros and its own 3 make the reference's 100.
        expected = model(functional.pad(image, (97,) * 4))
        torch.testing.assert_close(ours(image)[2], expected, rtol=1e-10, atol=1e-12)
    assert ours.trained_on.mean == (127.5, 127.5, 127.5)


def test_caffes_googlenet(tmp_path):
    paper = ConvolutionalizedGoogLeNet(base_channels=8)
    layers = {}
    for name, tensor in paper.state_dict().items():
        layer = "/".join(name.split(".")[2:-1])
        layers.setdefault(layer, []).append(torch.randn(tensor.shape))
    assert "inception_4c/5x5_reduce" in layers and "conv1/7x7_s2" in layers
    layers["loss1/fc"] = [torch.randn(8, 16), torch.randn(8)]
    layers["loss3/classifier"] = [torch.randn(10, 128), torch.randn(10)]
    file = tmp_path / "googlenet.caffemodel"
    write_caffemodel(file, layers, version="V1", legacy_shape=True)
    report = load_classifier(paper, str(file))
    assert report.new == []
    assert set(report.dropped) == {
        f"{layer}.{kind}"
        for layer in ("loss1/fc", "loss3/classifier")
        for kind in ("weight", "bias")
    }
    stored = paper.state_dict()["stages.2.inception_3a.5x5.weight"]
    assert torch.equal(stored, layers["inception_3a/5x5"][0])


# --- the other VGG-16 files -------------------------------------------------------------------


def test_justincjs_vgg16(tmp_path):
    tensors = as_justincj(published().state_dict())
    ours = backbone()
    load_classifier(ours, saved(tensors, tmp_path / "vgg16.pth"))
    assert torch.equal(ours.stages[5].fc7.weight.flatten(1), tensors["classifier.4.weight"])
    assert ours.trained_on == SOURCES["justincj://vgg16"].input


def test_a_classifier_of_nan_counts_as_features_only(tmp_path):
    tensors = published().state_dict()
    for name in tensors:
        if name.startswith("classifier"):
            tensors[name] = torch.full_like(tensors[name], torch.nan)
    ours = backbone()
    report = load_classifier(ours, saved(tensors, tmp_path / "vgg16.pth"))
    assert {name.split(".")[2] for name in report.new} == {"fc6", "fc7"}
    assert "features only" in report.dropped["classifier.0.weight"]
    assert all(parameter.isfinite().all() for parameter in ours.parameters())
    assert ours.trained_on == SOURCES["torchvision://vgg16_features"].input


def test_caffes_vgg16(tmp_path):
    ours, layers = backbone().float(), {}
    for name, tensor in ours.state_dict().items():
        tensor = torch.randn(tensor.shape)
        _, _, layer, kind = name.split(".")
        connected = layer in ("fc6", "fc7") and kind == "weight"
        layers.setdefault(layer, []).append(tensor.flatten(1) if connected else tensor)
    layers["fc8"] = [torch.randn(10, FC), torch.randn(10)]
    file = tmp_path / "VGG.caffemodel"
    write_caffemodel(file, layers, version="V1", legacy_shape=True)
    assert load_classifier(ours, str(file)).new == []
    assert torch.equal(ours.stages[5].fc6.weight.flatten(1), layers["fc6"][0])
    broken = dict(layers, conv3_2=[torch.full_like(t, torch.nan) for t in layers["conv3_2"]])
    write_caffemodel(file, broken)
    with pytest.raises(UserError, match=r"conv3_2\.bias contains NaN or inf; use another file"):
        load_classifier(ours, str(file))
    transposed = dict(layers, fc6=[layers["fc6"][0].t().contiguous(), layers["fc6"][1]])
    write_caffemodel(file, transposed, version="V1", legacy_shape=True)
    with pytest.raises(UserError, match=r"fc6.weight is .*but stages.5.fc6.weight is"):
        load_classifier(ours, str(file))
