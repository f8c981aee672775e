"""Scores divided within the weights, in every kind of head, and heads of which that is refused."""

import pytest
import torch
from export.nets import NETWORKS
from export.nets import segmentor as to_export
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from models.small import CLASSES, segmentor

from fcn_plugin.data.tasks import fields
from fcn_plugin.errors import UserError
from fcn_plugin.models import score_layers
from fcn_plugin.models.score_layers import check_divisible, divide, head_of, score_parameters

SIZE = (64, 96)
FCN = dict(type="FCNHead", in_channels=8, in_index=2, channels=8, num_classes=CLASSES)
OBJECTS = FCN | dict(type="OCRHead", ocr_channels=4)
POINTS = dict(type="PointHead", in_channels=[8], in_index=[2], channels=8, num_classes=CLASSES)
POINTS |= dict(num_fcs=1, coarse_pred_each_layer=False)
STEPS = dict(subdivision_steps=1, subdivision_num_points=64, scale_factor=2)
CASCADE = dict(type="CascadeEncoderDecoder", num_stages=2)
GEO = dict(type="SkipFusionHead", in_channels=(16, 32, 8), in_index=(0, 1, 2), num_classes=3)
OTHERS = {
    "at once": dict(head=dict(scale=(0.5, 2.0, 1.0))),
    "batch norm": dict(head=FCN | dict(norm_cfg=dict(type="BN"))),
    "one channel": dict(head=dict(out_channels=1, num_classes=2, threshold=0.5)),
    "sliding": dict(test_cfg=dict(mode="slide", crop_size=(32, 32), stride=(20, 20))),
    "cascade": CASCADE | dict(decode_head=[FCN, OBJECTS]),
    "tasks": dict(task_heads=dict(geo=GEO)),
}


def network(name: str) -> torch.nn.Module:
    """With biases that are not 0."""
    if name in OTHERS:
        return segmentor(**OTHERS[name]).double().eval()
    model = to_export(**NETWORKS[name]).double().eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    return model


def predicted(model) -> list[SegDataSample]:
    images = 9 * torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0)).double()
    shapes = dict(img_shape=SIZE, pad_shape=SIZE, ori_shape=(50, 70))
    with torch.no_grad():
        return model.predict(images, [SegDataSample(metainfo=shapes) for _ in range(2)])


def weights(model) -> list[torch.Tensor]:
    return [parameter.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("name", [*NETWORKS, *OTHERS])
def test_all_scores_are_divided_and_no_label_changes(name):
    model = network(name)
    task = "geo" if name == "tasks" else None
    given = weights(model)
    check_divisible(model, lambda: predicted(model), task)
    assert all(map(torch.equal, weights(model), given))
    before = predicted(model)
    divide(score_parameters(head_of(model, task)), 2.7)
    for old, new in zip(before, predicted(model), strict=True):
        whole, part = (sample.get(fields(task).scores).data for sample in (old, new))
        assert whole.std() > 0.01
        if name == "one channel":  # a probability, of which a logit near 1 has few digits
            torch.testing.assert_close(part, (whole.logit() / 2.7).sigmoid(), rtol=0, atol=1e-8)
        else:
            close = 1e-12 * float(whole.abs().max())
            torch.testing.assert_close(part, whole / 2.7, rtol=0, atol=close)
        old, new = (sample.get(fields(task).prediction).data for sample in (old, new))
        # Of two classes as good as equal either may win.
        assert (old != new).double().mean() < 1e-3


@pytest.mark.parametrize("name", ["bilinear-reference", "conv2d_transpose", "one channel"])
def test_a_layer_left_out_is_found(name, monkeypatch):
    model = network(name)
    everything = score_parameters(model.decode_head)
    for i in range(len(everything)):
        left = [*everything[:i], *everything[i + 1 :]]
        monkeypatch.setattr(score_layers, "score_parameters", lambda _, left=left: left)
        given = weights(model)
        with pytest.raises(UserError, match="SkipFusionHead: its scores cannot be divided"):
            check_divisible(model, lambda: predicted(model))
        assert all(map(torch.equal, weights(model), given))


@MODELS.register_module()
class Softmax(FCNHead):
    def cls_seg(self, feat):
        return super().cls_seg(feat).softmax(1)


@MODELS.register_module()
class Residual(FCNHead):
    def cls_seg(self, feat):
        return super().cls_seg(feat) + feat[:, :CLASSES]


@MODELS.register_module()
class NoLast(FCNHead):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.last, self.conv_seg = self.conv_seg, None

    def cls_seg(self, feat):
        return self.last(feat)


REFUSED = {
    "softmax": (dict(head=FCN | dict(type="Softmax")), "Softmax: its scores cannot"),
    "residual": (dict(head=FCN | dict(type="Residual")), "Residual: its scores cannot"),
    "no last": (dict(head=FCN | dict(type="NoLast")), "NoLast: its scores cannot"),
    "points": (
        CASCADE | dict(decode_head=[FCN, POINTS], test_cfg=dict(mode="whole") | STEPS),
        "PointHead: its scores cannot",
    ),
    "threshold": (
        dict(head=dict(out_channels=1, num_classes=2, threshold=0.3)),
        "threshold=0.3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_heads_that_are_refused(name):
    settings, message = REFUSED[name]
    model = segmentor(**settings).double().eval()
    with pytest.raises(UserError, match=message):
        check_divisible(model, lambda: predicted(model))


def test_bad_numbers_and_unknown_tasks():
    model = network("tasks")
    with pytest.raises(UserError, match=r"'geometry': .* it has geo"):
        check_divisible(model, lambda: predicted(model), "geometry")
    model.decode_head.score[0].bias.data[0] = float("nan")
    with pytest.raises(UserError, match="NaN or inf"):
        check_divisible(model, lambda: predicted(model))
