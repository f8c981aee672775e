"""Our head under mmseg's backbones and mmseg's heads on ours: benchmarks/pairs.py.

All narrow, on images of 64 or of odd numbers of pixels; of full width the tool runs them.
"""

from copy import deepcopy

import pytest
import torch
from mmseg.models.decode_heads import decode_head
from mmseg.models.segmentors import base

from pairing import checks
from pairing.backbones import BACKBONES
from pairing.checks import Failed, built, check, learns, predicts, samples
from pairing.heads import BACKBONES as OURS
from pairing.heads import HEADS
from pairing.pair import Pair, complete, levels_of

AT_HAND = [pair for pair in BACKBONES if not pair.needs]
# Narrow ones of which nothing is narrow, or that have many layers.
LONG = ("MobileNetV3, large", "ERFNet", "BiSeNetV2", "PointRend behind FPN")
ODD = 65, 97


def named(pairs, slow=LONG):
    marks = {name: [pytest.mark.slow] for name in slow}
    return [pytest.param(p, id=p.name, marks=marks.get(p.name, ())) for p in pairs]


def images_for(pair: Pair) -> torch.Tensor:
    size = ODD if pair.multiple == 1 and not pair.fixed else (64, 64)
    return torch.randn(2, 3, *size)


def test_enough_of_both():
    assert len(AT_HAND) >= 20 and len(BACKBONES) > len(AT_HAND)
    assert len([head for head in HEADS if not head.needs]) >= 12


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


ALIKE = ("HRNet-W18", "UNet", "ICNet", "DDRNet-23-slim")


@pytest.mark.parametrize("pair", named(pair for pair in BACKBONES if pair.name in ALIKE))
def test_block_by_block_is_the_same(pair):
    """The loss and the labels without scores of the image's size are those with them."""
    config = complete(pair, small=True)
    plain = deepcopy(config)
    plain.type, plain.decode_head.blockwise = "EncoderDecoder", False
    images = images_for(pair)
    truth = samples(images)
    losses, labels = [], []
    for model in map(built, (config, plain)):
        losses.append({k: float(v.detach()) for k, v in model.train().loss(images, truth).items()})
        with torch.no_grad():
            predictions = model.eval().predict(images, samples(images))
        labels.append(torch.stack([sample.pred_sem_seg.data for sample in predictions]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(labels[0].unique()) > 1
    assert (labels[0] == labels[1]).double().mean() > 0.999  # but where two scores are equal


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


def test_levels_are_found():
    """Equal strides, the coarsest first, one whose stride is no whole number."""
    models = {pair.name: complete(pair, small=True) for pair in BACKBONES if not pair.needs}
    strides = lambda name: levels_of(models[name].backbone).strides  # noqa: E731
    assert strides("ResNet-50 v1c, dilated") == (8, 8, 8)
    assert strides("UNet") == (16, 8, 4, 2, 1)
    assert strides("ICNet")[1] == pytest.approx(128 / 9)
    head = models["UNet"].decode_head
    assert checks.taken(levels_of(models["UNet"].backbone), head).strides == (1, 2, 4, 8, 16)
    assert head.in_channels == [4, 8, 16, 32, 64]


def test_a_wrong_pair_is_told_in_one_line():
    """The checks can fail; and what they say names the remedy."""
    resnet = BACKBONES[0]
    head = resnet.model["decode_head"] | dict(in_channels=(16, 32, 65))
    model = built(complete(resnet._replace(model=resnet.model | dict(decode_head=head)), True))
    for test in (learns, predicts):
        said = checks.outcome(test, model, torch.randn(2, 3, *ODD))
        assert said.startswith("no: SkipFusionHead: ") and "set in_channels=(16, 32, 64)" in said


def test_a_gradient_that_does_not_come_is_found():
    model = built(complete(BACKBONES[0], small=True))
    images = torch.randn(2, 3, *ODD)
    model.backbone.layer1.register_forward_hook(lambda module, inputs, made: made.detach())
    with pytest.raises(Failed, match=r"no gradient comes to backbone\.conv1\.weight"):
        learns(model, images)
    model.backbone.layer2.register_forward_hook(lambda module, inputs, made: made * float("nan"))
    with pytest.raises(Failed, match="is not finite"):
        learns(model, images)
    with pytest.raises(Failed, match="scores that are not finite"):
        predicts(model, images)
