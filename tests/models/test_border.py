"""The border of reference padding computed once, against the same stages on the whole of it."""

import pytest
import reference
import torch
from networks import build, parameters, pictures, relative_error
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fcn_plugin.geometry import Layer
from fcn_plugin.models import (
    ConvolutionalizedAlexNet,
    ConvolutionalizedGoogLeNet,
    ConvolutionalizedVGG,
    SkipFusionHead,
)
from fcn_plugin.models.border import Border, EqualRows, refilled, thinnable
from fcn_plugin.models.layers import CaffeLRN

VGG = dict(base_channels=2, fc_channels=4)
ALEXNET = dict(base_channels=4, fc_channels=4)
BATCH_NORM = dict(type="BN")
NETS = {
    "vgg11": (ConvolutionalizedVGG, dict(depth=11, **VGG)),
    "vgg16": (ConvolutionalizedVGG, dict(depth=16, **VGG)),
    "vgg19, batch norm": (ConvolutionalizedVGG, dict(depth=19, norm_cfg=BATCH_NORM, **VGG)),
    "caffenet": (ConvolutionalizedAlexNet, ALEXNET),
    "alexnet": (ConvolutionalizedAlexNet, dict(variant="torchvision", **ALEXNET)),
    "googlenet": (ConvolutionalizedGoogLeNet, dict(base_channels=8)),
    "googlenet, batch norm": (
        ConvolutionalizedGoogLeNet,
        dict(variant="torchvision", base_channels=8),
    ),
}
# All remainders by 8, the stride of VGG16's third stage, on either axis.
SIZES = [(1, 1), (33, 200), (97, 131), (98, 55), (44, 30), (52, 37), (63, 58), (62, 100)]


def tiny(net, **settings):
    """Random biases too: of zeros alone a border would stay zero."""
    kind, widths = NETS[net]
    backbone = kind(padding="reference", **widths | settings)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.bias)
    return backbone.double().eval()


def plainly(backbone, image):
    """The levels of the stages in sequence, the border as long as it is."""
    x, levels = functional.pad(image, [backbone.border] * 4), []
    for stage in backbone.stages:
        x = stage(x)
        levels.append(x)
    return [levels[index] for index in backbone.out_indices]


def gradients(levels, backbone, image):
    """Of a sum with random factors, for the image and every parameter that is trained."""
    torch.manual_seed(3)
    total = sum((level * torch.randn(level.shape).to(level)).sum() for level in levels)
    return torch.autograd.grad(
        total, [image, *filter(lambda p: p.requires_grad, backbone.parameters())]
    )


def errors(backbone, size, batch=2):
    """Largest relative errors of the levels and of the gradients."""
    torch.manual_seed(1)
    image = pictures(batch, size).requires_grad_()
    levels, expected = backbone(image), plainly(backbone, image)
    grads = [gradients(found, backbone, image) for found in (levels, expected)]
    return tuple(max(map(relative_error, *pair)) for pair in ((levels, expected), grads))


def inputs(backbone, image):
    """The sizes of the stages' inputs, without a hook, which would change them."""
    sizes = []
    forward = nn.Sequential.forward
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(
            nn.Sequential,
            "forward",
            lambda stage, x: (sizes.append(tuple(x.shape[-2:])), forward(stage, x))[1],
        )
        backbone(image)
    return sizes


@pytest.mark.parametrize(
    ("net", "size"),
    [(net, size) for net in NETS for size in (SIZES if net == "vgg16" else SIZES[:3])],
)
def test_same_levels_and_gradients(net, size):
    assert max(errors(tiny(net, out_indices=range(4)), size)) < 1e-10


@pytest.mark.parametrize("levels", [(0,), (1, 2, 3, 4, 5), (5,)], ids=str)
def test_whichever_levels_are_asked_for(levels):
    backbone = tiny("vgg16", out_indices=levels)
    assert max(errors(backbone, (39, 70))) < 1e-10
    found = zip(levels, backbone(pictures(2, (39, 70))), strict=True)
    assert all(
        level.is_contiguous(memory_format=torch.channels_last)
        for index, level in found
        if index < 5  # not of the fully connected layers
    )


@pytest.mark.parametrize("settings", [dict(with_cp=True), dict(frozen_stages=2)], ids=str)
def test_training(settings):
    """Recomputed and frozen stages; fc6 and fc7 with their dropouts are not built."""
    backbone = tiny("vgg16", out_indices=(2, 3, 4), **settings).train()
    assert len(set(inputs(backbone, pictures(1, (39, 70))))) == 5
    assert max(errors(backbone, (39, 70))) < 1e-10


@pytest.mark.parametrize("net", ["fcn8s", "fcn-alexnet", "fcn-googlenet"])
def test_same_scores_as_the_published_network(net):
    """In float32 and in batches, against the independent reference, whose layers need hooks."""
    backbone, head = build(net, dtype=torch.float32)
    image = pictures(2, (97, 131), torch.float32)
    with torch.no_grad():
        expected = reference.run(net, image, parameters(net, backbone, head))["score"]
        assert relative_error(head(backbone(image)), expected) < 1e-5


def test_the_equal_rows_of_vgg16():
    """The table in models/border.py, and the same at the lower end of any image."""
    backbone = tiny("vgg16")
    for height in range(1, 20):
        border = Border.around(torch.empty(1, 3, height, 1), 100)
        table = []
        for layers in backbone.layers[:4]:
            thin = border.thinned(layers)
            border = thin.through(layers).whole()
            table.append((thin.top.left_out, border.top.start, border.top.length))
            assert thin.bottom.left_out == thin.right.left_out == thin.top.left_out
        assert table == [(92, 1, 47), (40, 2, 21), (12, 3, 7), (0, 3, 0)]


def too_early(rows):
    return rows._replace(start=rows.start - 1)


def too_many(rows):
    return rows._replace(length=rows.length + 1)


def too_few_left(rows):
    return rows._replace(left_out=rows.left_out + bool(rows.left_out))


@pytest.mark.parametrize(
    ("method", "mistake"),
    [("through", too_early), ("through", too_many), ("thinned", too_few_left)],
)
def test_control(monkeypatch, method, mistake):
    """A row too early, too many or left out too many shows in the levels or in their sizes."""
    right = getattr(EqualRows, method)
    monkeypatch.setattr(EqualRows, method, lambda rows, layers: mistake(right(rows, layers)))
    with pytest.raises(AssertionError):
        assert max(errors(tiny("vgg16", out_indices=(0, 1, 2)), (33, 50))) < 1e-3


def test_work_of_fcn8s():
    """Multiplications for an image of 375 x 500 at full width, head included."""
    with torch.device("meta"):
        backbone = ConvolutionalizedVGG(padding="reference").eval()
        head = SkipFusionHead([256, 512, 4096], range(3), 21).eval()
        image = torch.empty(1, 3, 375, 500)

    def work():
        with FlopCounterMode(display=False) as counter:
            assert head(backbone(image)).shape == (1, 21, 375, 500)
        return counter.get_total_flops()

    thin = work()
    for stage in backbone.stages:  # hooks see whole maps
        stage.register_forward_hook(lambda *_: None)
    assert thin / work() < 0.81


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dim", [2, 3])
def test_memory_stays_channels_last(dim, channels):
    """Repeated rows and columns and, in the backward pass, their gradients."""
    x = torch.randn(2, channels, 9, 11).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    none, rows = EqualRows(), EqualRows(2, 6, 5)
    old = Border(*((rows, none, none, none) if dim == 2 else (none, none, rows, none)))
    y = refilled(x, old, old.whole())
    source = torch.tensor([0, 1, 2, 2, 2, 2, 2, 2, *range(3, x.shape[dim])])
    assert torch.equal(y, x.index_select(dim, source))
    assert y.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert grad.is_contiguous(memory_format=torch.channels_last)
    counts = torch.bincount(source).to(grad)
    assert torch.equal(grad.sum(dim=(0, 1, 5 - dim)), counts * (grad.numel() / x.shape[dim]))
    assert refilled(x, old, old) is x


def test_autocast():
    backbone = tiny("vgg16").float()
    image = pictures(1, (33, 50), torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for level, expected in zip(backbone(image), plainly(backbone, image), strict=True):
            assert level.dtype == torch.bfloat16
            assert relative_error(level.float(), expected.float()) < 0.02


class Unknown(nn.Module):
    def forward(self, x):
        return x - x.mean()


@pytest.mark.parametrize(
    ("layer", "thin"),
    [
        (nn.Conv2d(2, 2, 3), True),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), False),
        (nn.BatchNorm2d(2).eval(), True),
        (nn.BatchNorm2d(2).train(), False),
        (nn.BatchNorm2d(2, track_running_stats=False).eval(), False),
        (nn.SyncBatchNorm(2).train(), False),
        (nn.GroupNorm(1, 2).eval(), False),
        (nn.InstanceNorm2d(2, track_running_stats=True).eval(), False),
        (nn.Dropout(0.5).eval(), True),
        (nn.Dropout(0.5).train(), False),
        (nn.Dropout2d(0.5).train(), False),
        (nn.Dropout(0.0).train(), True),
        (CaffeLRN(), True),
        (Unknown(), False),
    ],
    ids=lambda value: repr(value) + ("" if getattr(value, "training", True) else ".eval()"),
)
def test_what_a_stage_may_hold(layer, thin):
    assert thinnable(nn.Sequential(nn.ReLU(), nn.Sequential(layer), nn.MaxPool2d(2))) == thin


@pytest.mark.parametrize(
    ("settings", "first", "third"),
    [
        (dict(norm_cfg=BATCH_NORM), (233, 250), (58, 62)),
        (dict(norm_cfg=dict(type="GN", num_groups=1)), (233, 250), (58, 62)),
        # Statistics are fixed in two stages and counted in the third, which gets all rows.
        (dict(norm_cfg=BATCH_NORM, frozen_stages=2), (33 + 16, 50 + 16), (58, 62)),
    ],
    ids=["batch", "group", "frozen"],
)
def test_normalisation_over_positions_sees_all_of_them(settings, first, third):
    backbone = tiny("vgg16", out_indices=(2,), **settings).train()
    # Not the gradients: those of biases ahead of a normalisation are rounding errors of zero.
    assert errors(backbone, (33, 50))[0] < 1e-10
    assert inputs(backbone, pictures(1, (33, 50)))[::2] == [first, third]


@pytest.mark.parametrize(("hooked", "border"), [("stages.0", 200), ("stages.0.conv1_2", 198)])
def test_a_hook_sees_the_whole_map(hooked, border):
    backbone, sizes = tiny("vgg16"), []
    handle = backbone.get_submodule(hooked).register_forward_hook(
        lambda module, inputs, output: sizes.append(inputs[0].shape[-2:])
    )
    image = pictures(1, (33, 50))
    backbone(image)
    assert sizes == [(33 + border, 50 + border)]
    handle.remove()
    assert inputs(backbone, image)[0] == (33 + 16, 50 + 16)


@pytest.mark.parametrize("way", ["traced", "compiled"])
def test_a_graph_holds_for_other_sizes(way):
    backbone = tiny("vgg11", out_indices=(2, 4)).requires_grad_(False)

    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = backbone

        def forward(self, image):
            return tuple(self.backbone(image))

    example, other = pictures(1, (40, 43)), pictures(1, (33, 50))
    if way == "traced":
        graph = torch.jit.trace(Levels().eval(), example, check_trace=False)
        assert "aten::cat" not in str(graph.inlined_graph)
    else:
        graph = torch.compile(Levels().eval(), backend="eager", fullgraph=True)
        graph(example)
    assert max(map(relative_error, graph(other), plainly(backbone, other))) < 1e-10


def test_no_border_nothing_to_do():
    backbone = ConvolutionalizedVGG(16, padding="same", **VGG)
    image = torch.empty(1, 3, 40, 43)
    border = Border.around(image, backbone.border)
    assert border.thinned([Layer(3, padding=1)]).whole() == border
    assert inputs(backbone, image)[0] == (40, 43)
