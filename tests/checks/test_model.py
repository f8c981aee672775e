"""Heads, losses and windows that cannot work, and those that can."""

import pytest
from mmseg.models import DepthEstimator, EncoderDecoder
from mmseg.registry import MODELS
from torch import nn

from fcn_plugin.checks.model import (
    check_classes,
    check_losses,
    check_windows,
    pooled_batch_norm,
    weighted_losses,
)
from fcn_plugin.errors import UserError

FCN = dict(type="FCNHead", in_channels=8, channels=4, num_convs=1, num_classes=5)
TWO = FCN | dict(num_classes=2)
CROSS_ENTROPY = dict(type="CrossEntropyLoss")
LOVASZ = dict(type="LovaszLoss", reduction="none")


class Headed(EncoderDecoder):
    """Without a backbone."""

    def __init__(self) -> None:
        nn.Module.__init__(self)


class OfDepths(Headed, DepthEstimator):
    """mmseg's, which has windows by another name."""


def segmentor(*decode: dict, auxiliary: dict | list | None = None, **settings) -> nn.Module:
    """More decode heads than one are a cascade."""

    def built(heads: dict | list) -> nn.Module:
        one = isinstance(heads, dict)
        return MODELS.build(heads) if one else nn.ModuleList(map(MODELS.build, heads))

    model = Headed()
    model.decode_head = built(decode[0] if len(decode) == 1 else list(decode))
    if auxiliary:
        model.auxiliary_head = built(auxiliary)
    model.test_cfg = settings
    return model


def test_heads_of_edges_have_other_classes():
    edges = FCN | dict(type="STDCHead", num_classes=2, boundary_threshold=0.1, in_index=0)
    check_classes(segmentor(FCN, auxiliary=edges), "Set", 5)
    for place, model in {
        "decode_head.1": segmentor(FCN, TWO, auxiliary=[FCN]),
        "auxiliary_head": segmentor(FCN, auxiliary=TWO),
        "auxiliary_head.1": segmentor(FCN, auxiliary=[FCN, TWO]),
    }.items():
        with pytest.raises(UserError, match=rf"model\.{place}\.num_classes=5"):
            check_classes(model, "Set", 5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(num_classes=1), "use_sigmoid=True"),
        (dict(num_classes=2, out_channels=1), "use_sigmoid=True"),
        (dict(num_classes=2, out_channels=1, loss_decode=LOVASZ), "use_sigmoid"),
        (dict(out_channels=1), "out_channels=5"),
        (dict(loss_decode=[CROSS_ENTROPY, CROSS_ENTROPY | dict(class_weight=[1.0])]), "1 weights"),
        (dict(loss_decode=dict(type="FocalLoss")), "CrossEntropyLoss"),
    ],
)
def test_losses_that_cannot_work(changes, said):
    for model in (segmentor(FCN | changes), segmentor(FCN, auxiliary=[FCN, FCN | changes])):
        with pytest.raises(UserError, match=said) as error:
            check_losses(model, "cpu")
        assert "\n" not in str(error.value)


def test_losses_that_work():
    for changes in (
        dict(num_classes=2),
        dict(num_classes=2, out_channels=1, loss_decode=CROSS_ENTROPY | dict(use_sigmoid=True)),
        dict(num_classes=2, out_channels=1, loss_decode=dict(type="DiceLoss")),
        dict(loss_decode=[CROSS_ENTROPY | dict(class_weight=[1.0] * 5), LOVASZ]),
    ):
        check_losses(segmentor(FCN | changes), "cpu")


def test_weights_that_mmseg_looks_up_for_void():
    """Not in our head, which leaves ignored pixels out, nor in a sum."""
    weighted = CROSS_ENTROPY | dict(class_weight=[1.0] * 5)
    fusion = dict(type="SkipFusionHead", in_channels=8, in_index=0, num_classes=5)
    others = [FCN | dict(loss_decode=loss) for loss in (weighted, weighted | dict(reduction="sum"))]
    model = segmentor(fusion | dict(loss_decode=weighted), auxiliary=others)
    ((place, fault),) = weighted_losses(model)
    assert place == "model.auxiliary_head.0.loss_decode"
    assert "ignored" in fault


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(mode="slid"), "'whole' or 'slide'"),
        (dict(mode="slide", crop_size=(64, 64)), "model.test_cfg.stride"),
        (dict(mode="slide", crop_size=(64, 64), stride=(32, 96)), "gaps"),
    ],
)
def test_windows(settings, said):
    with pytest.raises(UserError, match=said):
        check_windows(segmentor(FCN, **settings))
    check_windows(segmentor(FCN, mode="slide", crop_size=(64, 64), stride=(64, 32)))


def test_modes_of_other_models_are_their_own():
    for model in (nn.Module(), OfDepths()):
        model.test_cfg = dict(mode="slide_flip")
        check_windows(model)


def test_batch_norm_of_one_pixel():
    psp = FCN | dict(type="PSPHead", pool_scales=(2, 1))
    del psp["num_convs"]
    found = pooled_batch_norm(segmentor(psp | dict(norm_cfg=dict(type="BN"))))
    assert found == "decode_head.psp_modules.1"
    assert pooled_batch_norm(segmentor(psp | dict(norm_cfg=dict(type="GN", num_groups=2)))) is None
    assert pooled_batch_norm(segmentor(psp)) is None
