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
    head = dict(type="FCNHead", in_channels=8, in_index=1, channels=4, num_classes=5, num_convs=1)
    cfg = dict(
        type=kind,
        data_preprocessor=dict(type="SegDataPreProcessor", mean=[120.0] * 3, std=[60.0] * 3),
        backbone=dict(
            type="ConvolutionalizedVGG",
            depth=11,
            base_channels=2,
            fc_channels=4,
            out_indices=(1, 2),
        ),
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
    result = Prediction.empty(Shown(given.image), classes, probabilities=True)
    most = int(side / max(1, *(own / seen for own, seen in zip(*given.sizes, strict=True))))
    pair = (layout, layout) if isinstance(layout, Layout) else layout or layouts(model)
    predict_in_windows(given, result, runner(model), pair, (most, most))
    assert result.windows > 1
    return result


@pytest.mark.parametrize("length", [513, 700, 1000, 5000])
@pytest.mark.parametrize(
    "layout", [Layout(32, 100), Layout(32, 300), Layout(85, 43, 128, 298)], ids=str
)
def test_each_pixel_is_taken_once_from_an_interior(layout, length):
    size = layout.size(512)
    windows = layout.cut(length, size)
    assert len(windows) > 1
    assert [pixel for w in windows for pixel in range(w.first, w.beyond)] == list(range(length))
    margin = min(layout.margin, size // 3) if not layout.base else layout.margin
    for window in windows:
        assert window.start % layout.step == 0 and window.stop - window.start <= size
        assert window.start == 0 or window.first - window.start >= margin
        assert window.stop == length or window.stop - window.beyond >= margin


@pytest.mark.parametrize(
    ("name", "padding"),
    [
        ("fcn8s", "same"),
        ("fcn8s", "reference"),
        ("fcn32s", "same"),
        ("fcn-alexnet", "same"),
        ("fcn-googlenet", "reference"),
    ],
)
def test_our_networks_give_the_same_labels(name, padding):
    """With the margin that follows from the layers; with none, windows are seen."""
    model = published(name, padding)
    layout, _ = layouts(model)
    side = -(-4 * layout.margin // layout.step) * layout.step
    given = picture((20, side + 300))
    expected, probabilities = whole(model, given)
    result = in_windows(model, given, side)
    assert np.array_equal(result.labels, expected)
    assert len(np.unique(expected)) > 1
    np.testing.assert_allclose(result.probabilities, probabilities, atol=1e-3)  # half precision
    without = in_windows(model, given, side // 4, Layout(layout.step, 0))
    assert not np.array_equal(without.labels, expected)


def test_off_the_grid_labels_differ():
    """The control: the same margin, but windows that begin between the network's strides."""
    model = published("fcn8s", "same")
    layout, _ = layouts(model)
    given = picture((20, 1400))
    found = in_windows(model, given, 1056, (layout, Layout(13, layout.margin))).labels
    assert not np.array_equal(found, whole(model, given)[0])


@pytest.mark.parametrize("kind", ["EncoderDecoder", "FCNSegmentor"])
@pytest.mark.parametrize("original", [(150, 433), (431, 1203)], ids=["smaller", "larger"])
def test_resized_back_to_the_image(kind, original):
    """The network sees 300 x 800; the margin of networks that do not tell is enough for these."""
    model = segmentor(kind)
    given = picture((300, 800), original)
    expected, probabilities = whole(model, given)
    result = in_windows(model, given, 1056 if original[0] > 300 else 704, Layout(32, 64))
    assert np.array_equal(result.labels, expected)
    np.testing.assert_allclose(result.probabilities, probabilities, atol=1e-3)


@pytest.mark.parametrize("original", [(64, 800), (100, 1250)], ids=["as it is", "resized"])
def test_one_score_for_two_classes(original):
    head = dict(num_classes=2, out_channels=1, threshold=0.5, loss_decode=[])
    model = segmentor("EncoderDecoder", decode_head=head)
    model.decode_head.conv_seg.weight.data /= 50  # sure of nothing
    given = picture((64, 800), original)
    expected, probabilities = whole(model, given)
    result = in_windows(model, given, 500, Layout(32, 64), TWO)
    assert 0 < expected.mean() < 1
    assert np.array_equal(result.labels, expected)
    assert probabilities.shape == (2, *original)
    np.testing.assert_allclose(result.probabilities, probabilities, atol=1e-3)


@pytest.mark.parametrize("width", [1000, 1023, 1151])
def test_sliding_keeps_its_meaning(width):
    """Windows hold several of the config's crops; each pixel is the mean of the same ones."""
    slide = dict(mode="slide", crop_size=(96, 128), stride=(64, 85))
    model = segmentor("EncoderDecoder", test_cfg=slide)
    given = picture((120, width))
    expected, probabilities = whole(model, given)
    result = in_windows(model, given, 400)
    assert np.array_equal(result.labels, expected)
    assert np.array_equal(result.probabilities, probabilities)
    off = (Layout(64, 32, 96), Layout(80, 43, 128))
    assert not np.array_equal(in_windows(model, given, 400, off).probabilities, probabilities)


@pytest.mark.parametrize("size", [(1, 1600), (1600, 1), (40, 1600)])
def test_in_narrow_images_windows_are_long(size):
    model = published("fcn8s", "same")
    given, shapes, steps = picture(size), [], []

    def run(image, sample):
        shapes.append(tuple(image.shape[-2:]))
        return runner(model)(image, sample)

    def progress(step, done, total):
        steps.append((done, total))

    result = Prediction.empty(Shown(given.image), CLASSES, probabilities=False)
    window = tuple(min(length, 1184) for length in size)
    predict_in_windows(given, result, run, layouts(model), window, progress=progress)
    assert result.windows == 2
    assert steps == [(0, 2), (1, 2)]
    assert all(max(shape) <= 1184 and min(shape) == min(size) for shape in shapes)
    assert np.array_equal(result.labels, whole(model, given)[0])
