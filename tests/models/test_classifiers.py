"""AlexNet and GoogLeNet as backbones, under our head and under the host's."""

import pytest
import torch
from mmseg.registry import MODELS
from torch import nn

from fcn_plugin.errors import UserError
from fcn_plugin.models import ConvolutionalizedAlexNet, ConvolutionalizedGoogLeNet

TINY = {
    ConvolutionalizedAlexNet: dict(base_channels=4, fc_channels=8),
    ConvolutionalizedGoogLeNet: dict(base_channels=8),
}
STRIDES = {
    ConvolutionalizedAlexNet: (8, 16, 32, 32),
    ConvolutionalizedGoogLeNet: (4, 8, 16, 32, 32),
}
KINDS = [
    (kind, variant)
    for kind, other in (
        (ConvolutionalizedAlexNet, "caffenet"),
        (ConvolutionalizedGoogLeNet, "paper"),
    )
    for variant in (other, "torchvision")
]


def tiny(kind, variant, **settings):
    backbone = kind(variant, **TINY[kind], **settings)
    backbone.init_weights()
    return backbone


@pytest.mark.parametrize(
    ("kind", "variant", "millions"),
    [
        # CVPR table 1: 57 and 6 million, with the 21 classes scored.
        (ConvolutionalizedAlexNet, "caffenet", 56.8),
        (ConvolutionalizedAlexNet, "torchvision", 57.0),
        (ConvolutionalizedGoogLeNet, "paper", 5.97),
        (ConvolutionalizedGoogLeNet, "torchvision", 5.60),
    ],
)
def test_parameters(kind, variant, millions):
    with torch.device("meta"):
        backbone = kind(variant)
    found = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
    assert found == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize(("kind", "variant"), KINDS)
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (33, 65)])
def test_same_padding_keeps_ceil_of_size_by_stride(kind, variant, size):
    strides = STRIDES[kind]
    backbone = tiny(kind, variant, out_indices=range(len(strides))).eval()
    levels = backbone(torch.randn(2, 3, *size))
    for level, geometry, stride in zip(levels, levels.maps, strides, strict=True):
        assert tuple(level.shape[2:]) == tuple(-(-side // stride) for side in size)
        assert geometry.scale == stride
        # A level's pixels lie within the image, no further than half a stride off.
        assert 0 <= geometry.offset <= stride / 2


@pytest.mark.parametrize(("kind", "variant"), KINDS)
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
            (found,) = torch.nonzero(rows > rows.max() * 1e-9, as_tuple=True)
            centre = (int(found.min()) + int(found.max())) / 2
            assert centre == float(geometry.scale * pixel + geometry.offset), (padding, stride)


@pytest.mark.parametrize(("kind", "variant"), KINDS)
def test_frozen_stages_and_recomputation(kind, variant):
    backbone = tiny(kind, variant, frozen_stages=2, with_cp=True).train()
    sum(level.mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is None) == (int(name.split(".")[1]) < 2), name


def test_normalisation_survives_half_precision():
    """Squares of 300 and more are beyond float16; nothing may become 0 or infinite."""
    backbone = tiny(ConvolutionalizedAlexNet, "caffenet")
    norm = backbone.stages[1].norm1
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
@pytest.mark.parametrize(("kind", "variant"), KINDS)
def test_under_the_hosts_heads(kind, variant, head):
    backbone = tiny(kind, variant)
    image = torch.randn(2, 3, 64, 96)
    levels = backbone(image)
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
    ("build", "message"),
    [
        (lambda: ConvolutionalizedAlexNet("alexnet"), "variant 'alexnet', must be one of"),
        (lambda: ConvolutionalizedAlexNet(padding="valid"), "padding 'valid'"),
        (lambda: ConvolutionalizedAlexNet(out_indices=(4,)), "out_indices .*, must be of 0-3"),
        (lambda: ConvolutionalizedGoogLeNet("v3"), "variant 'v3'"),
        (lambda: ConvolutionalizedGoogLeNet(padding="valid"), "padding 'valid'"),
        (lambda: ConvolutionalizedGoogLeNet(base_channels=12), "a multiple of 8"),
    ],
)
def test_wrong_settings(build, message):
    with pytest.raises(UserError, match=message):
        build()
