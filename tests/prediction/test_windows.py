"""Labels from windows are those of the whole image."""

import networks
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from fcn_plugin.data.display import Shown
from fcn_plugin.prediction.network import Classes
from fcn_plugin.prediction.reading import Picture
from fcn_plugin.prediction.result import Prediction
from fcn_plugin.prediction.windows import (
    Layout,
    class_probabilities,
    label_array,
    layouts,
    predict_in_windows,
)

CLASSES = Classes(tuple("abcde"), tuple((i, i, i) for i in range(5)))
TWO = Classes(("no", "yes"), ((0, 0, 0), (9, 9, 9)))


def segmentor(kind: str = "FCNSegmentor", **settings) -> nn.Module:
    """A tiny network of mmseg's parts, in double precision."""
    backbone = dict(type="ConvolutionalizedVGG", depth=11, base_channels=2, fc_channels=4)
    head = dict(type="FCNHead", in_channels=8, in_index=1, channels=4, num_classes=5, num_convs=1)
    cfg = dict(
        type=kind,
        data_preprocessor=dict(type="SegDataPreProcessor", mean=[120.0] * 3, std=[60.0] * 3),
        backbone=dict(backbone, out_indices=(1, 2)),
        decode_head=dict(head, norm_cfg=None),
        test_cfg=dict(mode="whole"),
    )
    for part, values in settings.items():
        cfg[part].update(values)
    model = MODELS.build(ConfigDict(cfg)).eval().double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    return model


def published(name: str, padding: str) -> nn.Module:
    """One of our networks with weights that make all levels count."""
    model = segmentor(data_preprocessor=dict(std=[1.0] * 3))
    model.backbone, model.decode_head = networks.build(name, padding=padding)
    with torch.no_grad():
        scores = model(picture((20, 900)).inputs[0][None].double() - 120, mode="tensor")
        model.decode_head.score[0].bias -= scores.mean((0, 2, 3))  # so that none prevails
    return model.eval()


def picture(size: tuple[int, int], original: tuple[int, int] | None = None) -> Picture:
    original = original or size
    sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=original, img_path="a.png"))
    pixels = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    return Picture(np.zeros((*original, 3), np.uint8), (pixels,), (sample,))


def runner(model: nn.Module):
    @torch.no_grad()
    def run(image, sample):
        return model.test_step(dict(inputs=[image], data_samples=[sample]))[0]

    return run


def whole(model: nn.Module, given: Picture) -> tuple[np.ndarray, np.ndarray]:
    found = runner(model)(given.inputs[0], given.samples[0].clone())
    return label_array(found), class_probabilities(found.seg_logits.data)


def in_windows(model, given: Picture, side: int, layout=None, classes=CLASSES) -> Prediction:
    """``side``: of a window, at the size of the network's input or the image's, the larger one."""
    result = Prediction.empty(Shown(given.image), classes, probabilities=True, confidence=True)
    most = int(side / max(1, *(own / seen for own, seen in zip(*given.sizes, strict=True))))
    pair = (layout, layout) if isinstance(layout, Layout) else layout or layouts(model)
    threshold = getattr(model.decode_head, "threshold", None) or 0.5
    predict_in_windows(given, result, runner(model), pair, (most, most), threshold)
    assert result.windows > 1
    return result


def sureness(model: nn.Module, given: Picture, labels: np.ndarray) -> np.ndarray:
    """255 times the probability of each label, from mmseg's own scores, in double precision."""
    scores = runner(model)(given.inputs[0], given.samples[0].clone()).seg_logits.data.double()
    if len(scores) == 1:  # mmseg has taken the sigmoid
        scores = torch.cat([1 - scores, scores]).log()
    powers = np.exp((scores - scores.amax(0)).numpy())
    return 255 * np.take_along_axis(powers / powers.sum(0), labels[None].astype(int), 0)[0]


def same(model, given: Picture, side: int, layout=None, classes=CLASSES) -> np.ndarray:
    """The labels of the whole image, which those from windows are, as are its probabilities."""
    expected, probabilities = whole(model, given)
    result = in_windows(model, given, side, layout, classes)
    assert np.array_equal(result.labels, expected) and len(np.unique(expected)) > 1
    np.testing.assert_allclose(result.probabilities, probabilities, atol=1e-3)  # half precision
    expected_sureness = sureness(model, given, expected)
    assert result.confidence.dtype == np.uint8 and expected_sureness.std() > 1
    np.testing.assert_allclose(result.confidence, expected_sureness, atol=0.51)  # it is rounded
    return expected


@pytest.mark.parametrize("net", ["fcn8s reference", "fcn-alexnet same"])
def test_our_networks_give_the_same_labels(net):
    """With the margin that follows from the layers."""
    model = published(*net.split())
    layout, _ = layouts(model)
    side = -(-4 * layout.margin // layout.step) * layout.step
    given = picture((20, side + 300))
    expected = same(model, given, side)
    # The controls: no margin, and windows that begin between the network's strides.
    without = in_windows(model, given, side // 4, Layout(layout.step, 0))
    off = in_windows(model, given, side, (layout, Layout(13, layout.margin)))
    for wrong in (without, off):
        assert not np.array_equal(wrong.labels, expected)


SURE_OF_NOTHING = dict(num_classes=2, out_channels=1, threshold=0.48, loss_decode=[])
SLIDING = dict(mode="slide", crop_size=(96, 128), stride=(64, 85))
# A segmentor, the sizes of the network's input and of the image, a window's side, and its layout,
# of which the margin is enough for these networks.
OTHERS = {
    "enlarged": ("FCNSegmentor", {}, (300, 800), (431, 1203), 1056, Layout(32, 64)),
    "reduced": ("EncoderDecoder", {}, (300, 800), (150, 433), 704, Layout(32, 64)),
    "one score": (
        *("EncoderDecoder", dict(decode_head=SURE_OF_NOTHING)),
        *((64, 800), (100, 1250), 500, Layout(32, 64)),
    ),
    # Windows hold several of the config's crops; each pixel is the mean of the same ones.
    "sliding": ("EncoderDecoder", dict(test_cfg=SLIDING), (120, 1023), None, 400, None),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_give_the_same_labels(name):
    kind, settings, size, original, side, layout = OTHERS[name]
    model = segmentor(kind, **settings)
    if name == "one score":
        model.decode_head.conv_seg.weight.data /= 50
    same(model, picture(size, original), side, layout, TWO if name == "one score" else CLASSES)
