"""Our head under mmseg's backbones and mmseg's heads on ours: benchmarks/pairs.py.

All narrow, on images of 64 or of odd numbers of pixels; of full width the tool runs them.
"""

import pytest
import torch
from families import OPERATORS
from mmseg.models.decode_heads import decode_head
from mmseg.models.segmentors import base

from pairing import checks
from pairing.backbones import BACKBONES
from pairing.checks import Failed, built, check, learns, predicts
from pairing.heads import BACKBONES as OURS
from pairing.heads import HEADS
from pairing.pair import Pair, complete

AT_HAND = [pair for pair in BACKBONES if not pair.needs]
# Narrow ones of which nothing is narrow, or that have many layers.
LONG = ("MobileNetV3, large", "ERFNet", "BiSeNetV2", "PointRend behind FPN")
COMPILED = ("CC", "PointRend behind FPN")
ODD = 65, 97


def named(pairs, slow=LONG):
    marks = {name: [pytest.mark.slow] for name in slow}
    for name in COMPILED:
        marks[name] = [*marks.get(name, ()), OPERATORS]
    return [pytest.param(p, id=p.name, marks=marks.get(p.name, ())) for p in pairs]


def images_for(pair: Pair) -> torch.Tensor:
    size = ODD if pair.multiple == 1 and not pair.fixed else (64, 64)
    return torch.randn(2, 3, *size)


@pytest.fixture
def no_resizing(monkeypatch):
    """mmseg resizes what a head returns; the sizes have to be right without that."""

    def same_size(input, size, **_):
        assert tuple(input.shape[2:]) == tuple(size)
        return input

    monkeypatch.setattr(decode_head, "resize", same_size)
    monkeypatch.setattr(base, "resize", same_size)


def assert_works(pair: Pair) -> None:
    if pair.needs and not checks.installed(pair.needs):
        assert check(pair, quick=True).skipped
        return
    model = built(complete(pair, small=True))
    images = images_for(pair)
    assert learns(model, images) == ""
    assert predicts(model, images) == ""


@pytest.mark.parametrize("pair", named(AT_HAND))
def test_our_head_under(pair, no_resizing):
    assert_works(pair)


@pytest.mark.parametrize("pair", named(head.on("ConvolutionalizedVGG") for head in HEADS))
def test_on_vgg(pair):
    assert_works(pair)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", sorted(set(OURS) - {"ConvolutionalizedVGG"}))
@pytest.mark.parametrize("head", named(HEADS, slow=()))
def test_on_our_others(head, backbone):
    assert_works(head.on(backbone))


@OPERATORS
def test_first_of_a_cascade_with_an_auxiliary_head_of_ours():
    resnet = BACKBONES[0]
    second = dict(type="PointHead", in_index=[0], channels=8, num_classes=21)
    refined = dict(mode="whole", subdivision_steps=1, subdivision_num_points=64, scale_factor=2)
    model = resnet.model | dict(
        decode_head=[resnet.model["decode_head"], second],
        auxiliary_head=dict(type="SkipFusionHead", in_index=1, num_classes=21),
        train_cfg=dict(num_points=64, oversample_ratio=3, importance_sample_ratio=0.75),
        test_cfg=refined,
    )
    assert_works(resnet._replace(model=model))


def test_a_pair_that_does_not_learn_is_told():
    """The checks can fail, and what they say names the remedy."""
    resnet, images = BACKBONES[0], torch.randn(2, 3, *ODD)
    head = resnet.model["decode_head"] | dict(in_channels=(16, 32, 65))
    model = built(complete(resnet._replace(model=resnet.model | dict(decode_head=head)), True))
    said = checks.outcome(learns, model, images)
    assert said.startswith("no: SkipFusionHead: ") and "set in_channels=(16, 32, 64)" in said
    model = built(complete(resnet, small=True))
    model.backbone.layer1.register_forward_hook(lambda module, inputs, made: made.detach())
    with pytest.raises(Failed, match=r"no gradient comes to backbone\.conv1\.weight"):
        learns(model, images)
    model.backbone.layer2.register_forward_hook(lambda module, inputs, made: made * float("nan"))
    for check_of in (learns, predicts):
        with pytest.raises(Failed, match="not finite"):
            check_of(model, images)
