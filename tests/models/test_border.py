"""The border of reference padding computed once, against the same stages on the whole of it."""

import pytest
import torch
from models.small import BACKBONES, backbone
from networks import pictures, relative_error
from torch import nn
from torch.nn import functional

from fcn_plugin.models.border import EqualRows

BATCH_NORM = dict(type="BN")
# All remainders by 8, the stride of VGG16's third stage, on either axis.
SIZES = [(1, 1), (33, 200), (97, 131), (98, 55), (44, 30), (52, 37), (63, 58), (62, 100)]


def tiny(net="vgg16", **settings):
    """Random biases too: of zeros alone a border would stay zero."""
    made = backbone(net, padding="reference", **settings)
    for module in made.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and module.bias is not None:
            nn.init.normal_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
    return made.double().eval()


def plainly(made, image):
    """The levels of the stages in sequence, the border as long as it is."""
    x, levels = functional.pad(image, [made.border] * 4), []
    for stage in made.stages:
        x = stage(x)
        levels.append(x)
    return [levels[index] for index in made.out_indices]


def errors(made, size):
    """Largest relative errors of the levels, and of the gradients of a sum with random factors."""
    torch.manual_seed(1)
    image = pictures(2, size).requires_grad_()
    levels, expected = made(image), plainly(made, image)
    assert [level.shape for level in levels] == [level.shape for level in expected]
    factors = [torch.randn_like(level) for level in expected]
    learning = [image, *(parameter for parameter in made.parameters() if parameter.requires_grad)]
    grads = [
        torch.autograd.grad(sum(map(torch.sum, map(torch.mul, found, factors))), learning)
        for found in (levels, expected)
    ]
    return tuple(max(map(relative_error, *pair)) for pair in ((levels, expected), grads))


def inputs(made, size):
    """The sizes of the stages' inputs, without a hook, which would change them."""
    sizes, forward = [], nn.Sequential.forward

    def noted(stage, x):
        sizes.append(tuple(x.shape[-2:]))
        return forward(stage, x)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(nn.Sequential, "forward", noted)
        made(pictures(1, size))
    return sizes


@pytest.mark.parametrize(
    ("net", "settings", "size"),
    [
        *(("vgg16", {}, size) for size in SIZES),
        *((net, {}, size) for net in BACKBONES if net != "vgg16" for size in SIZES[:3]),
        ("vgg16", dict(depth=19, norm_cfg=BATCH_NORM), SIZES[2]),
        ("vgg16", dict(with_cp=True), SIZES[2]),
        ("vgg16", dict(frozen_stages=2), SIZES[2]),
        ("vgg16", dict(norm_cfg=dict(type="GN", num_groups=2)), SIZES[2]),
    ],
)
def test_same_levels_and_gradients(net, settings, size):
    assert max(errors(tiny(net, out_indices=range(4), **settings), size)) < 1e-10


@pytest.mark.parametrize("levels", [(1, 2, 3, 4, 5), (5,)], ids=str)
def test_whichever_levels_are_asked_for(levels):
    assert max(errors(tiny(out_indices=levels), (39, 70))) < 1e-10


def test_control(monkeypatch):
    """A row left out too many shows in the levels or in their sizes."""
    right = EqualRows.thinned

    def thinned(rows, layers):
        thin = right(rows, layers)
        return thin._replace(left_out=thin.left_out + bool(thin.left_out))

    monkeypatch.setattr(EqualRows, "thinned", thinned)
    with pytest.raises(AssertionError):
        assert max(errors(tiny(out_indices=(0, 1, 2)), (33, 50))) < 1e-3


@pytest.mark.parametrize(
    ("frozen", "first"),
    # Statistics are fixed in two stages and counted in the third, which gets all rows.
    [(0, (233, 250)), (2, (33 + 16, 50 + 16))],
)
def test_normalisation_over_positions_sees_all_of_them(frozen, first):
    made = tiny(out_indices=(2,), norm_cfg=BATCH_NORM, frozen_stages=frozen).train()
    # Not the gradients: those of biases ahead of a normalisation are rounding errors of zero.
    assert errors(made, (33, 50))[0] < 1e-10
    assert inputs(made, (33, 50))[::2] == [first, (58, 62)]


def test_a_hook_sees_the_whole_map():
    made, sizes = tiny(), []
    handle = made.get_submodule("stages.0.conv1_2").register_forward_hook(
        lambda module, inputs, output: sizes.append(inputs[0].shape[-2:])
    )
    made(pictures(1, (33, 50)))
    assert sizes == [(33 + 198, 50 + 198)]
    handle.remove()
    assert inputs(made, (33, 50))[0] == (33 + 16, 50 + 16)


def test_a_graph_holds_for_other_sizes():
    """Traced; compiled ones are in test_compile.py."""
    made = tiny(depth=11, out_indices=(2, 4)).requires_grad_(False)
    example, other = pictures(1, (40, 43)), pictures(1, (33, 50))
    graph = torch.jit.trace(lambda image: tuple(made(image)), example, check_trace=False)
    assert "aten::cat" not in str(graph.inlined_graph)
    assert max(map(relative_error, graph(other), plainly(made, other))) < 1e-10
