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
    classifier,
)
from fcn_plugin.models.border import Border, Run, refilled, thinnable

VGG = dict(base_channels=2, fc_channels=4)
ALEXNET = dict(base_channels=4, fc_channels=4)
NETS = {
    **{f"vgg{depth}": (ConvolutionalizedVGG, dict(depth=depth, **VGG)) for depth in (11, 13, 16)},
    "vgg19, batch norm": (ConvolutionalizedVGG, dict(depth=19, norm_cfg=dict(type="BN"), **VGG)),
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
    backbone = kind(padding="reference", **widths, **settings)
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
    """The levels of the stages in a row, the border as long as it is."""
    x, levels = functional.pad(image, [backbone.border] * 4), []
    for stage in backbone.stages:
        x = stage(x)
        levels.append(x)
    return [levels[index] for index in backbone.out_indices]


def gradients(levels, backbone, image):
    """Of a sum with random factors, for the image and every parameter that is trained."""
    torch.manual_seed(3)
    total = sum((level * torch.randn(level.shape).to(level)).sum() for level in levels)
    names = [name for name, value in backbone.named_parameters() if value.requires_grad]
    values = [value for value in backbone.parameters() if value.requires_grad]
    grads = torch.autograd.grad(total, [image, *values])
    return dict(zip(["image", *names], grads, strict=True))


def errors(backbone, size, batch=2):
    """Largest relative errors of the levels and of the gradients."""
    torch.manual_seed(1)
    image = pictures(batch, size).requires_grad_()
    found, expected = backbone(image), plainly(backbone, image)
    outputs = [relative_error(*pair) for pair in zip(found, expected, strict=True)]
    grads = [gradients(levels, backbone, image) for levels in (found, expected)]
    return max(outputs), max(relative_error(grads[0][name], grads[1][name]) for name in grads[1])


def seen(backbone, image):
    """The sizes of what the stages are given, without a hook, which would change them."""
    sizes = []

    def record(stage, x):
        sizes.append(tuple(x.shape[-2:]))
        return forward(stage, x)

    forward = nn.Sequential.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Sequential, "forward", record)
        with torch.no_grad():
            backbone(image)
    return sizes


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("net", NETS)
def test_same_levels_and_gradients(net, size):
    backbone = tiny(net, out_indices=range(4))
    assert max(errors(backbone, size)) < 1e-10


@pytest.mark.parametrize("levels", [(0,), (1, 2, 3, 4, 5), (5,)], ids=str)
def test_whichever_levels_are_asked_for(levels):
    assert max(errors(tiny("vgg16", out_indices=levels), (39, 70))) < 1e-10


@pytest.mark.parametrize("settings", [dict(with_cp=True), dict(frozen_stages=2)], ids=str)
def test_training(settings):
    """Recomputed and frozen stages; the dropout of fc6 and fc7 lies beyond."""
    backbone = tiny("vgg16", out_indices=(2, 3, 4), **settings).train()
    assert len(set(seen(backbone, pictures(1, (39, 70))))) == 5
    assert max(errors(backbone, (39, 70))) < 1e-10


@pytest.mark.parametrize("net", ["fcn8s", "fcn-alexnet", "fcn-googlenet"])
def test_same_scores_as_the_published_network(net):
    """In float32 and in batches, against the independent reference."""
    backbone, head = build(net, dtype=torch.float32)
    image = pictures(2, (97, 131), torch.float32)
    with torch.no_grad():
        expected = reference.run(net, image, parameters(net, backbone, head))["score"]
        assert relative_error(head(backbone(image)), expected) < 1e-5


def test_the_runs_of_vgg16():
    """The table in models/border.py, and the same at the lower end of any image."""
    backbone = tiny("vgg16")
    for height in range(1, 20):
        border = Border.around(torch.empty(1, 3, height, 1), 100)
        found = []
        for layers in backbone.layers[:4]:
            thin = border.thinned(layers)
            border = thin.through(layers).whole()
            found.append((thin.top.left_out, border.top.start, border.top.length))
            assert thin.bottom.left_out == thin.right.left_out == thin.top.left_out
        assert found == [(92, 1, 47), (40, 2, 21), (12, 3, 7), (0, 3, 0)]


@pytest.mark.parametrize("mistake", ["a row too early", "a row too many", "one left out too many"])
def test_control(monkeypatch, mistake):
    """A run a row off shows, in the levels or in their sizes."""
    through, thinned = Run.through, Run.thinned

    def early(run, layers):
        start, length, left_out = through(run, layers)
        return Run(start - 1, length, left_out)

    def long(run, layers):
        start, length, left_out = through(run, layers)
        return Run(start, length + 1, left_out)

    def greedy(run, layers):
        start, length, left_out = thinned(run, layers)
        return Run(start, length, left_out + 1 if left_out else 0)

    name, wrong = {
        "a row too early": ("through", early),
        "a row too many": ("through", long),
        "one left out too many": ("thinned", greedy),
    }[mistake]
    monkeypatch.setattr(Run, name, wrong)
    with pytest.raises(AssertionError):
        assert max(errors(tiny("vgg16", out_indices=(0, 1, 2)), (33, 50))) < 1e-3


def test_work_of_fcn8s():
    """Multiplications for an image of 375 x 500 at full width, head included."""
    with torch.device("meta"):
        backbone = ConvolutionalizedVGG(padding="reference").eval()
        head = SkipFusionHead([256, 512, 4096], range(3), 21).eval()
        image = torch.empty(1, 3, 375, 500)

    def work(levels):
        with FlopCounterMode(display=False) as counter:
            scores = head(levels(image))
        assert scores.shape == (1, 21, 375, 500)
        return counter.get_total_flops()

    thin = work(backbone)
    for stage in backbone.stages:  # hooks are to see whole maps
        stage.register_forward_hook(lambda *_: None)
    assert thin / work(backbone) < 0.81


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dim", [2, 3])
def test_memory_stays_channels_last(dim, channels):
    """Of repeated rows and columns and, in the backward pass, of their gradients."""
    x = torch.randn(2, channels, 9, 11).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    none, run = Run(), Run(2, 6, 5)
    old = Border(*((run, none, none, none) if dim == 2 else (none, none, run, none)))
    y = refilled(x, old, old.whole())
    rows = [0, 1, 2, 2, 2, 2, 2, 2, *range(3, x.shape[dim])]
    assert torch.equal(y, x.index_select(dim, torch.tensor(rows)))
    assert y.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert grad.is_contiguous(memory_format=torch.channels_last)
    counts = torch.bincount(torch.tensor(rows)).to(grad)
    assert torch.equal(grad.sum(dim=(0, 1, 5 - dim)), counts * (grad.numel() / x.shape[dim]))
    assert refilled(x, old, old) is x


def test_levels_are_channels_last():
    levels = tiny("vgg16", out_indices=range(5))(pictures(2, (33, 50)))
    assert all(level.is_contiguous(memory_format=torch.channels_last) for level in levels)


def test_autocast():
    backbone = tiny("vgg16").float()
    image = pictures(1, (33, 50), torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for found, expected in zip(backbone(image), plainly(backbone, image), strict=True):
            assert found.dtype == torch.bfloat16
            assert relative_error(found.float(), expected.float()) < 0.02


class Mean(nn.Module):
    """A layer that nothing is known of."""

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
        (classifier.CaffeLRN(), True),
        (Mean(), False),
    ],
    ids=lambda value: repr(value) + ("" if getattr(value, "training", True) else ".eval()"),
)
def test_what_a_stage_may_hold(layer, thin):
    assert thinnable(nn.Sequential(nn.ReLU(), nn.Sequential(layer), nn.MaxPool2d(2))) == thin


@pytest.mark.parametrize("norm", [dict(type="BN"), dict(type="GN", num_groups=1)], ids=str)
def test_normalisation_over_positions_sees_all_of_them(norm):
    kind, widths = NETS["vgg16"]
    backbone = kind(padding="reference", norm_cfg=norm, out_indices=(2,), **widths).double()
    backbone.train()
    # Not the gradients: those of biases ahead of a normalisation are rounding errors of zero.
    assert errors(backbone, (33, 50))[0] < 1e-10
    assert seen(backbone, pictures(1, (33, 50)))[0] == (233, 250)


def test_frozen_stages_are_spared_where_others_are_not():
    """Statistics are fixed in two stages and counted in the third, which is given all rows."""
    kind, widths = NETS["vgg16"]
    backbone = kind(
        padding="reference", norm_cfg=dict(type="BN"), out_indices=(2,), frozen_stages=2, **widths
    )
    backbone.double().train()
    sizes = seen(backbone, pictures(1, (33, 50)))
    assert sizes == [(33 + 16, 50 + 16), (116 - 80, 124 - 80), (58, 62)]
    assert errors(backbone, (33, 50))[0] < 1e-10


@pytest.mark.parametrize("place", ["stages.0", "stages.0.conv1_2"])
def test_a_hook_sees_the_whole_map(place):
    backbone, found = tiny("vgg16"), []
    handle = backbone.get_submodule(place).register_forward_hook(
        lambda module, inputs, output: found.append(inputs[0].shape[-2:])
    )
    image = pictures(1, (33, 50))
    backbone(image)
    border = 200 if place == "stages.0" else 198
    assert found == [(33 + border, 50 + border)]
    handle.remove()
    assert seen(backbone, image)[0] == (33 + 16, 50 + 16)


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
    for found, expected in zip(graph(other), plainly(backbone, other), strict=True):
        assert relative_error(found, expected) < 1e-10


def test_no_border_nothing_to_do():
    backbone = ConvolutionalizedVGG(16, padding="same", **VGG)
    image = torch.empty(1, 3, 40, 43)
    border = Border.around(image, backbone.border)
    assert border.thinned([Layer(3, padding=1)]).whole() == border
    assert seen(backbone, image)[0] == (40, 43)
