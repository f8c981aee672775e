"""EfficientNet-Lite0, rebuilt here from its table, loads tensor by tensor into timm's network."""

from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional
from weights.published import torchvision_vgg

from fcn_plugin.conversion.convert import convert
from fcn_plugin.errors import UserError
from fcn_plugin.weights.sources import EFFICIENTNET_LITE
from fcn_plugin.weights.timm_backbone import load_timm

# Blocks, kernel, stride, expansion and channels of each stage (Tan and Le, table 1).
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
EPS = 1e-3
ENDS = (0, 2, 4, 10, 15)  # the last block at each stride from 2 to 32
close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def blocks() -> list[tuple[int, int, int, int, int]]:
    """Channels before, inside and after each block, its kernel and its stride."""
    result, before = [], 32
    for count, kernel, stride, expansion, after in STAGES:
        for i in range(count):
            result.append((before, before * expansion, after, kernel, stride if i == 0 else 1))
            before = after
    return result


def published() -> dict[str, Tensor]:
    """The file's tensors, random, in the order of the computation."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}

    def conv(name: str, *shape: int) -> None:
        spread = (2 / torch.Size(shape[1:]).numel()) ** 0.5
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * spread

    def norm(name: str, channels: int) -> None:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{kind}"] = torch.rand(channels, generator=generator) + 0.5
        tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    for i, (before, inside, after, kernel, _) in enumerate(blocks()):
        if inside != before:
            conv(f"_blocks.{i}._expand_conv", inside, before, 1, 1)
            norm(f"_blocks.{i}._bn0", inside)
        conv(f"_blocks.{i}._depthwise_conv", inside, 1, kernel, kernel)
        norm(f"_blocks.{i}._bn1", inside)
        conv(f"_blocks.{i}._project_conv", after, inside, 1, 1)
        norm(f"_blocks.{i}._bn2", after)
    conv("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    return tensors | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


def network(eps: float = EPS, padding: int = 0) -> nn.ModuleDict:
    """timm's layers under their names, in the order of the computation; it cannot be run."""
    norm = partial(nn.BatchNorm2d, eps=eps)
    stages = iter(blocks())
    conv = partial(nn.Conv2d, bias=False)
    result = nn.ModuleDict(
        dict(
            conv_stem=conv(3, 32, 3, stride=2, padding=padding),
            bn1=norm(32),
            blocks=nn.ModuleList(),
        )
    )
    for count, *_ in STAGES:
        stage = nn.ModuleList()
        for _ in range(count):
            before, inside, after, kernel, stride = next(stages)
            layers = [("conv_dw", conv(inside, inside, kernel, stride, groups=inside))]
            layers += [("conv_pw" if inside == before else "conv_pwl", conv(inside, after, 1))]
            if inside != before:
                layers.insert(0, ("conv_pw", conv(before, inside, 1)))
            block = nn.ModuleDict()
            for i, (name, layer) in enumerate(layers, start=1):
                block[name], block[f"bn{i}"] = layer, norm(layer.out_channels)
            stage.append(block)
        result["blocks"].append(stage)
    return result


def load(tmp_path, model, tensors):
    torch.save(tensors, tmp_path / "lite0.pth")
    return load_timm(model, str(tmp_path / "lite0.pth"))


def test_every_tensor_goes_where_the_order_of_the_layers_puts_it(tmp_path):
    tensors, backbone = published(), SimpleNamespace(timm_model=network())
    report = load(tmp_path, backbone, tensors)
    last = [name for name in tensors if name.startswith(("_conv_head.", "_bn1.", "_fc."))]
    assert list(report.dropped) == last and report.new == []
    used = [name for name in tensors if name not in last]
    assert report.used == used
    state = backbone.timm_model.state_dict()
    for name, (target, tensor) in zip(used, state.items(), strict=True):
        assert torch.equal(tensor, tensors[name]), f"{name} is not {target}"
    assert backbone.trained_on == EFFICIENTNET_LITE


REFUSED = [
    (lambda t: t | {"_blocks.16._bn1.bias": torch.zeros(1)}, {}, "1 tensors that do not belong"),
    (lambda t: {k: v for k, v in t.items() if k != "_bn0.bias"}, {}, "bn1.bias is missing"),
    (lambda t: t | {"_bn0.bias": torch.zeros(31)}, {}, r"_bn0.bias is \(31,\), but bn1.bias"),
    (lambda t: t | {"_bn0.bias": torch.full((32,), torch.nan)}, {}, "_bn0.bias contains NaN"),
    (lambda t: torchvision_vgg(11, False).state_dict(), {}, "no place for, e.g. classifier.0.bias"),
    # timm's efficientnet_lite0: the same names and shapes.
    (lambda t: t, dict(eps=1e-5), "TensorFlow's padding and a BatchNorm epsilon of 0.001"),
    (lambda t: t, dict(padding=1), "TensorFlow's padding and a BatchNorm epsilon of 0.001"),
]


@pytest.mark.parametrize(("change", "settings", "message"), REFUSED)
def test_files_and_networks_that_are_refused(tmp_path, change, settings, message):
    model = network(**settings)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=f"lite0.pth: .*{message}"):
        load(tmp_path, SimpleNamespace(timm_model=model), change(published()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_by_init_cfg(tmp_path):
    torch.save(published(), tmp_path / "lite0.pth")
    file = str(tmp_path / "lite0.pth")
    backbone = BaseModule(init_cfg=dict(type="TimmWeights", checkpoint=file))
    backbone.timm_model = network()
    backbone.init_weights()
    assert backbone.timm_model["bn1"].num_batches_tracked == 7
    with pytest.raises(UserError, match="TimmWeights"):
        convert(tmp_path / "lite0.pth", tmp_path / "made.pth")
    assert not (tmp_path / "made.pth").exists()


def same_padding(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's: as many outputs as ceil(side / stride), the odd pixel after."""
    total = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]]
    (top, bottom), (left, right) = ((side // 2, side - side // 2) for side in total)
    return functional.pad(x, (left, right, top, bottom))


def symmetric_padding(x: Tensor, kernel: int, stride: int) -> Tensor:
    return functional.pad(x, (kernel // 2,) * 4)


def activations(tensors: dict[str, Tensor], image: Tensor, pad=same_padding) -> list[Tensor]:
    """After the stem and after each block, by the paper: ReLU6, and no squeeze-and-excitation."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1, depthwise: bool = False) -> Tensor:
        weight = tensors[f"{conv}.weight"]
        x = pad(x, weight.shape[-1], stride)
        x = functional.conv2d(x, weight, stride=stride, groups=x.shape[1] if depthwise else 1)
        scale, shift, mean, var = (
            tensors[f"{norm}.{kind}"].view(-1, 1, 1)
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (var + EPS).sqrt() * scale + shift

    result = [layer(image, "_conv_stem", "_bn0", stride=2).clamp(0, 6)]
    for i, (before, inside, after, _, stride) in enumerate(blocks()):
        name, x = f"_blocks.{i}", result[-1]
        if inside != before:
            x = layer(x, f"{name}._expand_conv", f"{name}._bn0").clamp(0, 6)
        x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride, True).clamp(0, 6)
        x = layer(x, f"{name}._project_conv", f"{name}._bn2")
        result.append(x + result[-1] if before == after and stride == 1 else x)
    return result


def test_timms_network_computes_what_was_published(tmp_path):
    """Layer by layer in float64, on sides that are odd at some levels."""
    try:
        import_module("timm")
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another build
        pytest.skip(f"timm: {error}")
    name = dict(type="mmseg.TIMMBackbone", model_name="tf_efficientnet_lite0", pretrained=False)
    backbone, tensors = MODELS.build(name), published()
    load(tmp_path, backbone, tensors)
    backbone.double().eval()
    outputs = []
    layers = [backbone.timm_model.bn1, *(b for stage in backbone.timm_model.blocks for b in stage)]
    for layer in layers:
        layer.register_forward_hook(lambda *call: outputs.append(call[-1].clone()))
    image = torch.randn(1, 3, 90, 101, dtype=torch.float64)
    with torch.no_grad():
        features = backbone(image)
        expected = activations(tensors, image)
        otherwise = activations(tensors, image, symmetric_padding)
    for output, same, other in zip(outputs, expected, otherwise, strict=True):
        close(output, same)
        assert not torch.allclose(output, other, rtol=0.01, atol=0.01)
    for level, end in zip(features, ENDS, strict=True):
        close(level, expected[end + 1])
