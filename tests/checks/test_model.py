"""Heads, losses and windows that cannot work, and those that can."""

from collections.abc import Sequence
from contextlib import nullcontext

import pytest
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from models.small import built
from torch import nn

from fcn_plugin.checks.model import (
    check_bands,
    check_classes,
    check_losses,
    check_windows,
    weighted_losses,
)
from fcn_plugin.errors import UserError

FCN = dict(type="FCNHead", in_channels=8, channels=4, num_convs=1, num_classes=5)
CROSS_ENTROPY = dict(type="CrossEntropyLoss")
LOVASZ = dict(type="LovaszLoss", reduction="none")


class Headed(EncoderDecoder):
    """Without a backbone."""

    def __init__(self) -> None:
        nn.Module.__init__(self)


def segmentor(decode: dict, auxiliary: Sequence[dict] = (), **settings) -> nn.Module:
    model = Headed()
    model.decode_head = MODELS.build(decode)
    model.auxiliary_head = nn.ModuleList(map(MODELS.build, auxiliary))
    model.test_cfg = settings
    return model


def test_heads_of_edges_have_other_classes():
    edges = FCN | dict(type="STDCHead", num_classes=2, boundary_threshold=0.1, in_index=0)
    check_classes(segmentor(FCN, auxiliary=[edges]), "Set", 5)


@pytest.mark.parametrize(
    ("preprocessor", "channels", "said"),
    [
        (dict(type="SegDataPreProcessor"), 5, "SegDataPreProcessor is for BGR; set model.data_pre"),
        (
            dict(type="BandsPreProcessor", mean=[0] * 4, std=[1] * 4),
            5,
            "mean and std of 4; set both",
        ),
        (
            dict(type="BandsPreProcessor", mean=[0] * 5, std=[1] * 5),
            3,
            "in_channels=3; set both to 5",
        ),
        (dict(type="BandsPreProcessor", mean=[0] * 5, std=[1] * 5), 5, ""),
    ],
)
def test_what_takes_the_bands_of_the_loader(preprocessor, channels, said):
    model = built(data_preprocessor=preprocessor, backbone=dict(in_channels=channels))
    with pytest.raises(UserError, match=said) if said else nullcontext():
        check_bands(model, "LoadBands in train_dataloader.dataset.pipeline", 5)


ONE_CHANNEL = dict(num_classes=2, out_channels=1)
WEIGHED = [CROSS_ENTROPY, CROSS_ENTROPY | dict(class_weight=[1.0] * 5)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (ONE_CHANNEL, "use_sigmoid"),
        (ONE_CHANNEL | dict(loss_decode=LOVASZ), "use_sigmoid"),
        (dict(out_channels=1), "out_channels=5"),
        (dict(num_classes=3, loss_decode=WEIGHED), "5 weights for 3"),
        (ONE_CHANNEL | dict(loss_decode=CROSS_ENTROPY | dict(use_sigmoid=True)), ""),
        (ONE_CHANNEL | dict(loss_decode=dict(type="DiceLoss")), ""),
        (dict(loss_decode=[*WEIGHED, LOVASZ]), ""),
    ],
)
def test_losses_that_cannot_work_and_those_that_can(changes, said):
    model = segmentor(FCN, auxiliary=[FCN, FCN | changes])
    with pytest.raises(UserError, match=said) if said else nullcontext():
        check_losses(model, "cpu")


def test_weights_that_mmseg_looks_up_for_void():
    """Not in our head, which leaves ignored pixels out, nor in a sum."""
    weighted = CROSS_ENTROPY | dict(class_weight=[1.0] * 5)
    fusion = dict(type="SkipFusionHead", in_channels=8, in_index=0, num_classes=5)
    others = [FCN | dict(loss_decode=loss) for loss in (weighted, weighted | dict(reduction="sum"))]
    model = segmentor(fusion | dict(loss_decode=weighted), auxiliary=others)
    ((place, fault),) = weighted_losses(model)
    assert place == "model.auxiliary_head.0.loss_decode"
    assert "ignored" in fault


def test_windows():
    windows = dict(mode="slide", crop_size=(64, 64))
    for settings, said in (
        (dict(mode="slid"), "'whole' or 'slide'"),
        (dict(windows, stride=(32, 96)), "gaps"),
    ):
        with pytest.raises(UserError, match=said):
            check_windows(segmentor(FCN, **settings))
    check_windows(segmentor(FCN, **windows, stride=(64, 32)))
