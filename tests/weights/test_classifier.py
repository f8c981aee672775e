"""torchvision's VGG, rebuilt here from its layer table, loads tensor by tensor."""

import pickle

import pytest
import torch
from torch import nn

from fcn_plugin.errors import UserError
from fcn_plugin.models import ConvolutionalizedVGG
from fcn_plugin.weights import imagenet
from fcn_plugin.weights.imagenet import load_vgg
from fcn_plugin.weights.sources import SOURCES

WIDTHS = (4, 8, 16, 32, 32)
CONVS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
FC = 24


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
    report = load_vgg(ours, saved(model.state_dict(), tmp_path / "vgg.pth"))
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
    report = load_vgg(ours, saved(model.state_dict(), tmp_path / "vgg.pth"))
    assert {name.split(".")[2] for name in report.new} == {"norm_fc6", "norm_fc7"}
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        pool3 = model.features[:24](image)
        torch.testing.assert_close(ours(image)[0], pool3, rtol=1e-10, atol=1e-12)


def test_features_only_leaves_fc_new(tmp_path):
    tensors = {k: v for k, v in published().state_dict().items() if k.startswith("features")}
    ours = backbone(init_cfg=dict(type="Pretrained", checkpoint=saved(tensors, tmp_path / "f.pth")))
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
    report = load_vgg(ours, saved(published().state_dict(), tmp_path / "vgg.pth"))
    assert report.dropped["classifier.0.weight"] == "beyond the last level in out_indices"


def test_our_own_checkpoint(tmp_path):
    first, second = backbone(), backbone()
    state = {f"backbone.{name}": tensor for name, tensor in first.state_dict().items()}
    state["decode_head.score.0.weight"] = torch.zeros(1)
    report = load_vgg(second, saved(dict(state_dict=state), tmp_path / "ours.pth"))
    assert report.dropped == {"decode_head.score.0.weight": "not of the backbone"}
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("depth", "norm", "other_depth", "other_norm", "message"),
    [
        (16, True, 16, False, "no place for, e.g. backbone.stages.0.norm_conv1_1"),
        (16, False, 11, False, "no place for, e.g. backbone.stages.0.conv1_2"),
        (11, False, 16, False, "stages.0.conv1_2.bias is missing"),
    ],
)
def test_our_own_checkpoint_of_another_net(tmp_path, depth, norm, other_depth, other_norm, message):
    state = {f"backbone.{k}": v for k, v in backbone(depth, norm).state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_vgg(backbone(other_depth, other_norm), saved(state, tmp_path / "ours.pth"))


def test_norms_that_the_file_does_not_have_are_new(tmp_path):
    ours = ConvolutionalizedVGG(
        base_channels=4, fc_channels=FC, norm_cfg=dict(type="GN", num_groups=2)
    )
    report = load_vgg(ours, saved(published().state_dict(), tmp_path / "vgg.pth"))
    assert len(report.used) == 2 * 15
    assert all("norm_" in name for name in report.new)
    with pytest.raises(UserError, match=r"no place for, e.g. features.1.num_batches_tracked"):
        load_vgg(ours, saved(published(norm=True).state_dict(), tmp_path / "bn.pth"))


def test_init_cfg_in_a_list(tmp_path):
    model = published()
    init = dict(type="Pretrained", checkpoint=saved(model.state_dict(), tmp_path / "vgg.pth"))
    ours = backbone(init_cfg=[init])
    ours.init_weights()
    assert torch.equal(ours.stages[0].conv1_1.weight, model.features[0].weight)


class Exploit:
    def __reduce__(self):
        return (print, ("code was executed",))


def test_files_that_are_refused(tmp_path, capsys):
    good = published().state_dict()
    file = tmp_path / "vgg.pth"
    torch.save(good, file)
    whole = file.read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pth").write_text("<html>404</html>")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Exploit()))
    cases = {
        str(tmp_path / "none.pth"): "no such checkpoint",
        str(tmp_path / "half.pth"): "half.pth: damaged or truncated",
        str(tmp_path / "text.pth"): "text.pth: not a PyTorch file",
        str(tmp_path / "evil.pth"): "evil.pth: not a PyTorch file",
        saved(torch.zeros(3), tmp_path / "tensor.pth"): "holds no state_dict",
        saved(dict(conv=torch.zeros(1)), tmp_path / "foreign.pth"): "holds neither torchvision's",
        saved(published(norm=True).state_dict(), tmp_path / "bn.pth"): "check depth and norm_cfg",
        saved(
            published(11).state_dict(), tmp_path / "11.pth"
        ): "11.pth: has 14 tensors that this backbone has no place for",
        "torchvision://resnet50": "is not known",
    }
    ours = backbone()
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    for checkpoint, message in cases.items():
        with pytest.raises(UserError, match=message):
            load_vgg(ours, checkpoint)
    assert all(torch.equal(before[name], tensor) for name, tensor in ours.state_dict().items())
    assert "code was executed" not in capsys.readouterr().out


def test_another_width_names_the_tensor_and_the_setting(tmp_path):
    narrow = ConvolutionalizedVGG(base_channels=2, fc_channels=FC)
    with pytest.raises(UserError, match=r"features.0.weight is \(4, 3, 3, 3\).*base_channels"):
        load_vgg(narrow, saved(published().state_dict(), tmp_path / "vgg.pth"))


def test_without_a_network_the_error_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    source = imagenet.SOURCES["torchvision://vgg16"]
    closed = type(source)(**{**vars(source), "url": "http://127.0.0.1:9/vgg16-397923af.pth"})
    monkeypatch.setitem(imagenet.SOURCES, "torchvision://vgg16", closed)
    with pytest.raises(UserError) as raised:
        load_vgg(backbone(), "torchvision://vgg16")
    message = str(raised.value)
    assert str(tmp_path / "checkpoints" / "vgg16-397923af.pth") in message
    assert "init_cfg=None" in message and "\n" not in message


def test_passports_are_complete():
    assert len(SOURCES) == 8
    for source in SOURCES.values():
        assert source.url.startswith("https://")
        assert len(source.sha256) == 8 and int(source.sha256, 16)
        assert source.file_name.endswith(f"-{source.sha256}.pth")
