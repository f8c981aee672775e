"""Resizing inside a graph gives mmcv's levels, bit for bit, and labels of the image's size."""

import numpy as np
import pytest
import torch
from export.nets import POOLS, SIZES, segmentor
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.export import Deployed, Resizing, check_onnx, export_graph, export_onnx
from fcn_plugin.export.graph import clouds

SCALE = (120, 90)


def noise(*size):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def planes(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def resized(step, image):
    return TRANSFORMS.build(dict(type="Resize") | step)(dict(img=image))["img"]


@pytest.mark.parametrize("keep_ratio", [True, False])
@pytest.mark.parametrize("size", [(97, 161), (501, 333), (5, 7), (1, 1), (9, 400), (1000, 2001)])
@pytest.mark.parametrize(
    "step",
    [dict(scale=scale) for scale in ((683, 512), SCALE, (333, 501), (2048, 1024))]
    + [dict(scale_factor=factor) for factor in (0.5, 0.75, 1.3, (0.5, 1.5))],
    ids=str,
)
def test_levels_are_mmcvs(step, size, keep_ratio):
    step = dict(type="Resize", keep_ratio=keep_ratio) | step
    image = noise(*size)
    levels = Resizing.of(step)(planes(image))[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(levels, resized(step, image))


def test_levels_of_other_arithmetic_are_not():
    image = noise(97, 161)
    expected = resized(dict(scale=SCALE, keep_ratio=True), image)
    plain = functional.interpolate(planes(image).float(), expected.shape[:2], mode="bilinear")
    assert 0.05 < (plain.round()[0].permute(1, 2, 0).numpy() != expected).mean() < 0.3


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (dict(scale=(40, 30)), Resizing((40, 30))),
        (dict(scale=(40, 30), keep_ratio=True), Resizing((40, 30), True)),
        (dict(scale=40), Resizing((40, 40))),
        (dict(scale_factor=0.5), Resizing(factor=(0.5, 0.5))),
        (dict(scale_factor=1.0), None),
        (dict(scale_factor=1.0, keep_ratio=True), None),
    ],
)
def test_settings_are_mmcvs(step, expected):
    assert Resizing.of(dict(type="Resize") | step) == expected
    assert expected is None or Resizing(**expected.settings()) == expected
    for other in (dict(backend="pillow"), dict(interpolation="nearest")):
        with pytest.raises(UserError, match=r"a Resize other .*: --no-resize$"):
            Resizing.of(dict(type="Resize") | step | other)


def by_mmseg(model, image, step):
    """Labels H x W of H x W x 3 in RGB, by mmseg's test pipeline."""
    small = resized(step, image[..., ::-1])
    meta = dict(ori_shape=image.shape[:2], img_shape=small.shape[:2], pad_shape=small.shape[:2])
    samples = [SegDataSample(metainfo=meta)]
    batch = dict(inputs=[planes(small.copy())[0]], data_samples=samples)
    return model.test_step(batch)[0].pred_sem_seg.data[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", [dict(scale=SCALE, keep_ratio=True), dict(scale_factor=0.6)], ids=str
)
def test_a_file_that_resizes(tmp_path, step):
    """onnxruntime's labels of any size are those of mmseg's segmentor after its own Resize."""
    import onnxruntime

    model, file = segmentor(**POOLS), tmp_path / "model.onnx"
    export_onnx(model, file, resizing=Resizing.of(dict(type="Resize") | step))
    assert all(check.identical >= 0.9999 for check in check_onnx(model, file, sizes=SIZES))
    session = onnxruntime.InferenceSession(file)
    for size in SIZES:
        image = clouds(1, size).numpy()
        labels = torch.from_numpy(session.run(None, {"image": image})[0])[0]
        assert labels.shape == size and len(labels.unique()) > 1
        assert (labels == by_mmseg(model, image[0], step)).double().mean() >= 0.9999


def test_a_graph_of_one_size_resizes_to_one():
    model, images = segmentor(**POOLS), clouds(2, (70, 90))
    resizing = Resizing(SCALE, keep_ratio=True)
    graph = export_graph(model, size=(70, 90), resizing=resizing).module()
    with torch.no_grad():
        expected = Deployed(model, resizing=resizing)(images)
        assert torch.equal(graph(images), expected)
    assert expected.shape == (2, 70, 90)
