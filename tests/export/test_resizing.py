"""Resizing inside a graph gives the host's levels, bit for bit, and labels of the image's size."""

import mmcv
import numpy as np
import pytest
import torch
from export.test_export import POOLS, segmentor
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.export import Deployed, Resizing, check_onnx, export_graph, export_onnx
from fcn_plugin.export.graph import clouds

SCALE = (120, 90)
SIZES = ((97, 161), (256, 320), (50, 41))


def noise(*size):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("keep_ratio", [True, False])
@pytest.mark.parametrize(
    "size", [(360, 480), (97, 161), (501, 333), (5, 7), (1, 1), (9, 400), (3000, 6001)]
)
@pytest.mark.parametrize("scale", [(683, 512), SCALE, (333, 501), (240, 180), (2048, 1024)])
def test_levels_are_the_hosts(scale, size, keep_ratio):
    image = noise(*size)
    expected = (mmcv.imrescale if keep_ratio else mmcv.imresize)(image, scale)
    given = torch.from_numpy(image).permute(2, 0, 1)[None]
    found = Resizing(scale, keep_ratio)(given)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("keep_ratio", [True, False])
@pytest.mark.parametrize("size", [(360, 480), (97, 161), (5, 7), (1, 1), (9, 400), (3, 1001)])
@pytest.mark.parametrize("factor", [0.5, 0.75, 1.3, (0.5, 1.5)])
def test_levels_by_a_factor_are_the_hosts(factor, size, keep_ratio):
    step = dict(type="Resize", scale_factor=factor, keep_ratio=keep_ratio)
    image = noise(*size)
    expected = TRANSFORMS.build(step)(dict(img=image))["img"]
    given = torch.from_numpy(image).permute(2, 0, 1)[None]
    found = Resizing.of(step)(given)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, expected)


def test_levels_of_other_arithmetic_are_not():
    image = noise(97, 161)
    expected = mmcv.imrescale(image, SCALE)
    plain = functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), expected.shape[:2], mode="bilinear"
    )
    found = plain.round()[0].permute(1, 2, 0).numpy()
    assert 0.05 < (found != expected).mean() < 0.3
    assert np.abs(found - expected).max() == 1


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (dict(type="Resize", scale=(40, 30)), Resizing((40, 30))),
        (dict(type="Resize", scale=(40, 30), keep_ratio=True), Resizing((40, 30), True)),
        (dict(type="Resize", scale=40), Resizing((40, 40))),
        (dict(type="Resize", scale_factor=0.5), Resizing(factor=(0.5, 0.5))),
        (dict(type="Resize", scale_factor=1.0), None),
    ],
)
def test_the_hosts_settings(step, expected):
    assert Resizing.of(step) == expected
    assert expected is None or Resizing(**expected.settings()) == expected


@pytest.mark.parametrize(
    "settings",
    [dict(scale_factor=0.5, backend="pillow"), dict(scale=(4, 3), interpolation="nearest")],
    ids=str,
)
def test_settings_that_graphs_have_not(settings):
    with pytest.raises(UserError, match=r"another Resize .*: --no-resize$"):
        Resizing.of(dict(type="Resize", **settings))


def by_host(model, image, step):
    """Labels H x W of H x W x 3 in RGB, the way of the host's test pipeline."""
    small = TRANSFORMS.build(step)(dict(img=image[..., ::-1]))["img"]
    size = image.shape[:2]
    meta = dict(ori_shape=size, img_shape=small.shape[:2], pad_shape=small.shape[:2])
    given = torch.from_numpy(small.copy()).permute(2, 0, 1)
    data = dict(inputs=[given], data_samples=[SegDataSample(metainfo=meta)])
    return model.test_step(data)[0].pred_sem_seg.data[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        dict(type="Resize", scale=SCALE, keep_ratio=True),
        dict(type="Resize", scale_factor=0.6),
    ],
    ids=["scale", "factor"],
)
def test_a_file_that_resizes(tmp_path, step):
    """onnxruntime's labels of any size are those of the host's segmentor after its own Resize."""
    import onnxruntime

    model, file = segmentor(**POOLS), tmp_path / "model.onnx"
    export_onnx(model, file, resizing=Resizing.of(step))
    assert all(check.identical >= 0.9999 for check in check_onnx(model, file, sizes=SIZES))
    session = onnxruntime.InferenceSession(file)
    for size in SIZES:
        image = clouds(1, size).numpy()
        found = torch.from_numpy(session.run(None, {"image": image})[0])[0]
        assert found.shape == size and len(found.unique()) > 1
        assert (found == by_host(model, image[0], step)).double().mean() >= 0.9999
        as_it_is = Deployed(model)(torch.from_numpy(image))[0]
        assert (found == as_it_is).double().mean() < 0.99


def test_a_graph_of_one_size_resizes_to_one():
    model = segmentor(**POOLS)
    resizing = Resizing(SCALE, keep_ratio=True)
    graph = export_graph(model, size=(70, 90), resizing=resizing).module()
    image = clouds(2, (70, 90))
    with torch.no_grad():
        expected = Deployed(model, resizing=resizing)(image)
        assert torch.equal(graph(image), expected)
    assert expected.shape == (2, 70, 90)
