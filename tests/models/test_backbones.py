"""VGG, AlexNet and GoogLeNet as backbones; ``test_mixing.py`` has them under mmseg's heads."""

import copy
from contextlib import nullcontext

import pytest
import torch
from models.small import BACKBONES, backbone
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fcn_plugin.errors import UserError
from fcn_plugin.models import recompute

STRIDES = {
    "vgg16": (2, 4, 8, 16, 32, 32),
    **dict.fromkeys(("caffenet", "alexnet"), (8, 16, 32, 32)),
    **dict.fromkeys(("googlenet", "googlenet, batch norm"), (4, 8, 16, 32, 32)),
}
BATCH_NORM = dict(norm_cfg=dict(type="BN"))


@pytest.mark.parametrize(
    ("net", "millions"), zip(BACKBONES, (134.3, 56.8, 57.0, 5.97, 5.60), strict=True)
)
def test_parameters(net, millions):
    """CVPR table 1: 134, 57 and 6 million, with the 21 classes scored."""
    kind, variant = BACKBONES[net]
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in kind(**variant).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize(("depth", "count"), [(11, 10), (13, 12), (16, 15), (19, 18)])
def test_depths_of_vgg(depth, count):
    """Dropout is element-wise, all convolutions have a bias and, if asked for, a norm."""
    modules = list(backbone(depth=depth, **BATCH_NORM).modules())
    convs = [m for m in modules if isinstance(m, nn.Conv2d)]
    assert len(convs) == count and all(conv.bias is not None for conv in convs)
    assert sum(isinstance(m, _BatchNorm) for m in modules) == count
    drops = [m for m in modules if isinstance(m, nn.modules.dropout._DropoutNd)]
    assert [(type(drop), drop.p) for drop in drops] == [(nn.Dropout, 0.5)] * 2


@pytest.mark.parametrize("net", BACKBONES)
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (33, 65)])
def test_same_padding_keeps_ceil_of_size_by_stride(net, size):
    strides = STRIDES[net]
    levels = backbone(net, out_indices=range(len(strides))).eval()(torch.randn(2, 3, *size))
    assert levels.image_size == size
    for level, geometry, stride in zip(levels, levels.maps, strides, strict=True):
        assert tuple(level.shape[2:]) == tuple(-(-side // stride) for side in size)
        assert geometry.scale == stride
        # A level's pixels lie within the image, no further than half a stride off.
        assert 0 <= geometry.offset <= stride / 2


@pytest.mark.parametrize("padding", ["same", "reference"])
@pytest.mark.parametrize("net", BACKBONES)
def test_the_map_is_where_a_pixel_is_seen(net, padding):
    """The gradient of one output is centred where its map says, for every level."""
    made = backbone(net, padding=padding, out_indices=range(len(STRIDES[net]))).double().eval()
    for parameter in made.parameters():
        nn.init.constant_(parameter, 0.01)  # all positive, so that every input counts
    for module in list(made.modules()):  # a maximum sees one input, an average all
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d):
                window = child.kernel_size, child.stride, child.padding, child.ceil_mode
                setattr(module, name, nn.AvgPool2d(*window))
    image = torch.ones(1, 3, 700, 1, dtype=torch.float64, requires_grad=True)
    levels = made(image)
    for level, geometry in zip(levels, levels.maps, strict=True):
        pixel = round((350 - geometry.offset) / geometry.scale)
        output = level[0, :, pixel, level.shape[3] // 2].sum()
        (seen,) = torch.autograd.grad(output, image, retain_graph=True)
        rows = seen[0].abs().sum(dim=(0, 2))
        (inside,) = torch.nonzero(rows > rows.max() * 1e-9, as_tuple=True)
        centre = (int(inside.min()) + int(inside.max())) / 2
        assert centre == geometry.scale * pixel + geometry.offset, geometry


def test_levels_come_in_the_order_asked_for():
    made, other = backbone().eval(), backbone(out_indices=(5, 3)).eval()
    other.load_state_dict(made.state_dict())
    image = torch.randn(1, 3, 64, 64)
    _, pool4, fc7 = made(image)
    assert all(map(torch.equal, other(image), (fc7, pool4)))
    assert other(image).maps == made(image).maps[:0:-1]
    assert not any("fc" in name for name in backbone(out_indices=(0, 3)).state_dict())


@pytest.mark.parametrize(
    ("net", "frozen", "settings"),
    [
        *((net, 2, {}) for net in BACKBONES),
        *(("vgg16", frozen, BATCH_NORM | dict(with_cp=True)) for frozen in (0, 2, 6)),
    ],
)
def test_frozen_stages_neither_learn_nor_drift(net, frozen, settings):
    """Neither weights nor running statistics, also of stages that are recomputed."""
    made = backbone(net, frozen_stages=frozen, **settings).train()
    before = copy.deepcopy(made.state_dict())
    levels = made(torch.randn(2, 3, 64, 64))
    if frozen < 6:
        sum(level.sum() for level in levels).backward()
        torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.1).step()
    for name, parameter in made.named_parameters():
        assert (parameter.grad is None) == (int(name.split(".")[1]) < frozen), name
    drifted = {
        int(name.split(".")[1])
        for name, tensor in made.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert drifted == set(range(frozen, len(made.stages)))


def trained(with_cp: bool, frozen: int = 0):
    torch.manual_seed(1)
    made = backbone(with_cp=with_cp, frozen_stages=frozen, **BATCH_NORM).train()
    image = torch.randn(2, 3, 64, 64, requires_grad=True)
    torch.manual_seed(2)  # of the dropouts
    levels = made(image)
    sum((level**2).sum() for level in levels).backward()
    grads = {name: p.grad for name, p in made.named_parameters() if p.requires_grad}
    return dict(enumerate(levels)), grads, made.state_dict()


@pytest.mark.parametrize("frozen", [0, 2])
def test_recomputation_changes_nothing(frozen, monkeypatch):
    """Same output, gradients and running statistics, dropout included."""
    for one, other in zip(trained(False, frozen), trained(True, frozen), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    # The control: without the guard the statistics of a recomputed batch count twice.
    monkeypatch.setattr(recompute, "frozen_statistics", lambda stage: nullcontext())
    assert trained(with_cp=True)[2]["stages.0.norm_conv1_1.num_batches_tracked"] == 2


def test_normalisation_survives_half_precision():
    """Squares of 300 and more are beyond float16; nothing may become 0 or infinite."""
    norm = backbone("caffenet").stages[1].norm1
    x = torch.full((1, 12, 4, 4), 600.0)
    torch.testing.assert_close(norm(x.half()).float(), norm(x), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("net", "settings", "named"),
    [
        ("vgg16", dict(depth=18), "VGG: depth 18, must be one of"),
        ("vgg16", dict(padding="valid"), "VGG: padding 'valid'"),
        ("vgg16", dict(out_indices=(2, 6)), r"VGG: out_indices \(2, 6\), must be of 0-5"),
        ("vgg16", dict(out_indices=()), "VGG: out_indices"),
        ("caffenet", dict(variant="alexnet"), "AlexNet: variant 'alexnet'"),
        ("googlenet", dict(variant="v3"), "GoogLeNet: variant 'v3'"),
        ("googlenet", dict(base_channels=12), "GoogLeNet: .*a multiple of 8"),
    ],
)
def test_wrong_settings(net, settings, named):
    with pytest.raises(UserError, match=f"^Convolutionalized{named}"):
        backbone(net, **settings)
