"""VGG, AlexNet and GoogLeNet as backbones, under our head and under mmseg's."""

import copy
from contextlib import nullcontext

import pytest
import torch
from mmseg.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fcn_plugin.errors import UserError
from fcn_plugin.models import (
    ConvolutionalizedAlexNet,
    ConvolutionalizedGoogLeNet,
    ConvolutionalizedVGG,
    recompute,
)

VGG, ALEXNET, GOOGLENET = (
    ConvolutionalizedVGG,
    ConvolutionalizedAlexNet,
    ConvolutionalizedGoogLeNet,
)
TINY = {
    VGG: dict(base_channels=4, fc_channels=8),
    ALEXNET: dict(base_channels=4, fc_channels=8),
    GOOGLENET: dict(base_channels=8),
}
STRIDES = {VGG: (2, 4, 8, 16, 32, 32), ALEXNET: (8, 16, 32, 32), GOOGLENET: (4, 8, 16, 32, 32)}
CONVS = {11: 8, 13: 10, 16: 13, 19: 16}
KINDS = [
    (VGG, 11),
    (ALEXNET, "caffenet"),
    (ALEXNET, "torchvision"),
    (GOOGLENET, "paper"),
    (GOOGLENET, "torchvision"),
]
every_kind = pytest.mark.parametrize(("kind", "variant"), KINDS)


def tiny(kind=VGG, variant=16, **settings):
    backbone = kind(variant, **TINY[kind] | settings)
    backbone.init_weights()
    return backbone


@pytest.mark.parametrize(
    ("kind", "variant", "millions"),
    [
        # CVPR table 1: 134, 57 and 6 million, with the 21 classes scored.
        (VGG, 16, 134.3),
        (ALEXNET, "caffenet", 56.8),
        (ALEXNET, "torchvision", 57.0),
        (GOOGLENET, "paper", 5.97),
        (GOOGLENET, "torchvision", 5.60),
    ],
)
def test_parameters(kind, variant, millions):
    with torch.device("meta"):
        backbone = kind(variant)
    count = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize("norm_cfg", [None, dict(type="BN")])
@pytest.mark.parametrize("depth", CONVS)
def test_depths_of_vgg(depth, norm_cfg):
    """Dropout is element-wise, all convolutions have a bias."""
    backbone = tiny(VGG, depth, norm_cfg=norm_cfg)
    modules = list(backbone.modules())
    convs = [m for m in modules if isinstance(m, nn.Conv2d)]
    assert len(convs) == CONVS[depth] + 2 and all(conv.bias is not None for conv in convs)
    norms = [m for m in modules if isinstance(m, _BatchNorm)]
    assert len(norms) == (len(convs) if norm_cfg else 0)
    drops = [m for m in modules if isinstance(m, nn.modules.dropout._DropoutNd)]
    assert [(type(drop), drop.p) for drop in drops] == [(nn.Dropout, 0.5)] * 2
    shapes = [tuple(level.shape) for level in backbone(torch.randn(2, 3, 64, 96))]
    assert shapes == [(2, 16, 8, 12), (2, 32, 4, 6), (2, 8, 2, 3)]


@every_kind
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (33, 65)])
def test_same_padding_keeps_ceil_of_size_by_stride(kind, variant, size):
    strides = STRIDES[kind]
    levels = tiny(kind, variant, out_indices=range(len(strides))).eval()(torch.randn(2, 3, *size))
    assert levels.image_size == size
    for level, geometry, stride in zip(levels, levels.maps, strides, strict=True):
        assert tuple(level.shape[2:]) == tuple(-(-side // stride) for side in size)
        assert geometry.scale == stride
        # A level's pixels lie within the image, no further than half a stride off.
        assert 0 <= geometry.offset <= stride / 2


@every_kind
def test_the_map_is_where_a_pixel_is_seen(kind, variant):
    """The gradient of one output is centred where its map says, for every level and padding."""
    for padding in ("same", "reference"):
        strides = STRIDES[kind]
        backbone = tiny(kind, variant, padding=padding, out_indices=range(len(strides))).double()
        for parameter in backbone.parameters():
            nn.init.constant_(parameter, 0.01)  # all positive, so that every input counts
        for module in backbone.modules():  # a maximum sees one input, an average all
            for name, child in list(module.named_children()):
                if isinstance(child, nn.MaxPool2d):
                    kernel, stride, pad = child.kernel_size, child.stride, child.padding
                    setattr(module, name, nn.AvgPool2d(kernel, stride, pad, child.ceil_mode))
        image = torch.ones(1, 3, 700, 1, dtype=torch.float64, requires_grad=True)
        levels = backbone.eval()(image)
        for level, geometry, stride in zip(levels, levels.maps, strides, strict=True):
            pixel = round((350 - float(geometry.offset)) / stride)
            (seen,) = torch.autograd.grad(
                level[0, :, pixel, level.shape[3] // 2].sum(), image, retain_graph=True
            )
            rows = seen[0].abs().sum(dim=(0, 2))
            (inside,) = torch.nonzero(rows > rows.max() * 1e-9, as_tuple=True)
            centre = (int(inside.min()) + int(inside.max())) / 2
            assert centre == float(geometry.scale * pixel + geometry.offset), (padding, stride)


def test_levels_come_in_the_order_asked_for():
    backbone, other = tiny().eval(), tiny(out_indices=(5, 3)).eval()
    other.load_state_dict(backbone.state_dict())
    image = torch.randn(1, 3, 64, 64)
    _, pool4, fc7 = backbone(image)
    assert all(map(torch.equal, other(image), (fc7, pool4)))
    assert other(image).maps == backbone(image).maps[:0:-1]
    assert not any("fc" in name for name in tiny(out_indices=(0, 3)).state_dict())


@every_kind
@pytest.mark.parametrize("settings", [dict(), dict(with_cp=True)], ids=str)
@pytest.mark.parametrize("frozen", [0, 2, 6])
def test_frozen_stages_neither_learn_nor_drift(kind, variant, frozen, settings):
    """Neither weights nor running statistics, also of stages that are recomputed."""
    if kind is VGG:
        settings = settings | dict(norm_cfg=dict(type="BN"))
    backbone = tiny(kind, variant, frozen_stages=frozen, **settings).train()
    before = copy.deepcopy(backbone.state_dict())
    levels = backbone(torch.randn(2, 3, 64, 64))
    if frozen < 6:
        sum(level.sum() for level in levels).backward()
        torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1).step()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is None) == (int(name.split(".")[1]) < frozen), name
    drifted = {
        int(name.split(".")[1])
        for name, tensor in backbone.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert drifted == set(range(frozen, len(backbone.stages)))


def trained(with_cp: bool, frozen: int = 0):
    torch.manual_seed(1)
    norm = dict(type="BN")
    backbone = tiny(norm_cfg=norm, with_cp=with_cp, frozen_stages=frozen).train()
    image = torch.randn(2, 3, 64, 64, requires_grad=True)
    torch.manual_seed(2)  # of the dropouts
    levels = backbone(image)
    sum((level**2).sum() for level in levels).backward()
    grads = {name: p.grad for name, p in backbone.named_parameters() if p.requires_grad}
    return list(levels), grads, backbone.state_dict()


@pytest.mark.parametrize("frozen", [0, 2])
def test_recomputation_changes_nothing(frozen):
    """Same output, gradients and running statistics, dropout included."""
    (levels, *states), (others, *other_states) = (trained(cp, frozen) for cp in (False, True))
    assert all(map(torch.equal, levels, others))
    for one, other in zip(states, other_states, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_recomputation_control(monkeypatch):
    """Without the guard the statistics of a recomputed batch would count twice."""
    monkeypatch.setattr(recompute, "frozen_statistics", lambda stage: nullcontext())
    assert trained(with_cp=True)[2]["stages.0.norm_conv1_1.num_batches_tracked"] == 2


def test_normalisation_survives_half_precision():
    """Squares of 300 and more are beyond float16; nothing may become 0 or infinite."""
    norm = tiny(ALEXNET, "caffenet").stages[1].norm1
    x = torch.full((1, 12, 4, 4), 600.0)
    torch.testing.assert_close(norm(x.half()).float(), norm(x), rtol=1e-3, atol=0)


HEADS = {
    "FCNHead": dict(channels=8, num_convs=1, concat_input=False),
    "PSPHead": dict(channels=8, pool_scales=(1, 2)),
    "ASPPHead": dict(channels=8, dilations=(1, 2)),
    "SegformerHead": dict(channels=8),
    "UPerHead": dict(channels=8, pool_scales=(1, 2)),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("kind", "variant"), [KINDS[1], KINDS[3]])
def test_under_mmsegs_heads(kind, variant, head):
    backbone = tiny(kind, variant)
    levels = backbone(torch.randn(2, 3, 64, 96))
    several = head in ("SegformerHead", "UPerHead")
    channels = [level.shape[1] for level in levels]
    decode = MODELS.build(
        dict(
            type=head,
            in_channels=channels if several else channels[-1],
            in_index=[0, 1, 2] if several else 2,
            num_classes=5,
            norm_cfg=dict(type="BN"),
            **HEADS[head],
        )
    )
    scores = decode(levels)
    assert scores.shape[:2] == (2, 5)
    scores.square().mean().backward()
    assert all(p.grad is not None for p in backbone.stages[0].parameters())


@pytest.mark.parametrize(
    ("kind", "settings", "named"),
    [
        (VGG, dict(depth=18), "depth 18, must be one of"),
        (VGG, dict(padding="valid"), "padding 'valid'"),
        (VGG, dict(out_indices=(2, 6)), r"out_indices \(2, 6\), must be of 0-5"),
        (VGG, dict(out_indices=()), "out_indices"),
        (ALEXNET, dict(variant="alexnet"), "variant 'alexnet'"),
        (ALEXNET, dict(padding="valid"), "padding 'valid'"),
        (ALEXNET, dict(out_indices=(4,)), "out_indices .*, must be of 0-3"),
        (GOOGLENET, dict(variant="v3"), "variant 'v3'"),
        (GOOGLENET, dict(padding="valid"), "padding 'valid'"),
        (GOOGLENET, dict(base_channels=12), "a multiple of 8"),
    ],
)
def test_wrong_settings(kind, settings, named):
    with pytest.raises(UserError, match=f"^{kind.__name__}: .*{named}"):
        kind(**settings)
