import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fcn_plugin.models import ConvolutionalizedVGG, recompute

CONVS = {11: 8, 13: 10, 16: 13, 19: 16}


def tiny(**settings) -> ConvolutionalizedVGG:
    backbone = ConvolutionalizedVGG(**{"base_channels": 4, "fc_channels": 8, **settings})
    backbone.init_weights()
    return backbone


@pytest.mark.parametrize("norm_cfg", [None, dict(type="BN")])
@pytest.mark.parametrize("depth", CONVS)
def test_depths(depth, norm_cfg):
    backbone = tiny(depth=depth, norm_cfg=norm_cfg)
    convs = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
    assert len(convs) == CONVS[depth] + 2
    assert len(norms) == (len(convs) if norm_cfg else 0)
    assert all(conv.bias is not None for conv in convs)
    levels = backbone(torch.randn(2, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [
        (2, 16, 8, 12),
        (2, 32, 4, 6),
        (2, 8, 2, 3),
    ]


def test_parameters_of_the_published_net():
    """134 million with the 1000-class layer gone (CVPR table 1)."""
    with torch.device("meta"):
        backbone = ConvolutionalizedVGG()
    assert round(sum(p.numel() for p in backbone.parameters()) / 1e6) == 134


@pytest.mark.parametrize("padding", ["same", "reference"])
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (33, 65)])
def test_any_size(padding, size):
    backbone = tiny(padding=padding, out_indices=range(6)).eval()
    levels = backbone(torch.randn(1, 3, *size))
    assert levels.image_size == size
    assert len(levels) == len(levels.maps) == 6
    if padding == "same":
        for level, stride in zip(levels, (2, 4, 8, 16, 32, 32), strict=True):
            assert tuple(level.shape[2:]) == tuple(-(-side // stride) for side in size)


def test_levels_come_in_the_order_asked_for():
    backbone = tiny().eval()
    other = tiny(out_indices=(5, 3)).eval()
    other.load_state_dict(backbone.state_dict())
    image = torch.randn(1, 3, 64, 64)
    _, pool4, fc7 = backbone(image)
    assert torch.equal(other(image)[0], fc7)
    assert torch.equal(other(image)[1], pool4)


def test_nothing_is_built_beyond_the_last_level():
    assert not any("fc" in name for name in tiny(out_indices=(0, 3)).state_dict())


def test_dropout_is_element_wise():
    drops = [m for m in tiny().modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    assert [type(drop) for drop in drops] == [nn.Dropout, nn.Dropout]
    assert [drop.p for drop in drops] == [0.5, 0.5]


@pytest.mark.parametrize("frozen", [0, 2, 6])
def test_frozen_stages_neither_learn_nor_drift(frozen):
    backbone = tiny(norm_cfg=dict(type="BN"), frozen_stages=frozen).train()
    before = copy.deepcopy(backbone.state_dict())
    optimizer = torch.optim.SGD(
        [p for p in backbone.parameters() if p.requires_grad] or [nn.Parameter(torch.zeros(1))],
        lr=0.1,
    )
    sum(level.sum() for level in backbone(torch.randn(2, 3, 64, 64))).backward() if (
        frozen < 6
    ) else backbone(torch.randn(2, 3, 64, 64))
    optimizer.step()
    for name, tensor in backbone.state_dict().items():
        stage = int(name.split(".")[1])
        if stage < frozen:
            assert torch.equal(tensor, before[name]), name
        elif name.endswith(("conv5_3.weight", "fc7.weight")):
            assert not torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("frozen", [0, 2])
def test_recomputation_changes_nothing(frozen):
    """Same output, gradients and running statistics, dropout included."""
    image = torch.randn(2, 3, 64, 64, requires_grad=True)
    results = []
    for with_cp in (False, True):
        torch.manual_seed(1)
        backbone = tiny(norm_cfg=dict(type="BN"), with_cp=with_cp, frozen_stages=frozen).train()
        torch.manual_seed(2)
        levels = backbone(image)
        sum((level**2).sum() for level in levels).backward()
        grads = {name: p.grad for name, p in backbone.named_parameters() if p.requires_grad}
        results.append((levels, grads, backbone.state_dict()))
    (levels, grads, state), (levels_cp, grads_cp, state_cp) = results
    assert all(torch.equal(a, b) for a, b in zip(levels, levels_cp, strict=True))
    assert all(torch.equal(grads[name], grads_cp[name]) for name in grads)
    assert all(torch.equal(state[name], state_cp[name]) for name in state)


def test_recomputation_control(monkeypatch):
    """Without the guard the statistics of a recomputed batch would count twice."""
    from contextlib import nullcontext

    monkeypatch.setattr(recompute, "frozen_statistics", lambda stage: nullcontext())
    backbone = tiny(norm_cfg=dict(type="BN"), with_cp=True).train()
    sum(level.sum() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert backbone.stages[0].norm_conv1_1.num_batches_tracked == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(depth=18), "depth 18"),
        (dict(padding="valid"), "padding 'valid'"),
        (dict(out_indices=(2, 6)), "out_indices"),
        (dict(out_indices=()), "out_indices"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)
