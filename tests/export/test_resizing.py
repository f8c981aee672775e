"""Resizing inside a graph gives mmcv's levels, bit for bit, and labels of the image's size."""

import numpy as np
import pytest
import torch
from export.nets import POOLS, segmentor
from mmseg.registry import TRANSFORMS

from fcn_plugin.errors import UserError
from fcn_plugin.export import Deployed, Resizing, export_graph
from fcn_plugin.export.graph import clouds


@pytest.mark.parametrize("keep_ratio", [True, False])
@pytest.mark.parametrize("size", [(97, 161), (501, 333), (5, 7), (1, 1), (9, 400), (1000, 2001)])
@pytest.mark.parametrize(
    "step",
    [dict(scale=scale) for scale in ((683, 512), (120, 90), (333, 501), (2048, 1024), 40)]
    + [dict(scale_factor=factor) for factor in (0.5, 0.75, 1.3, (0.5, 1.5))],
    ids=str,
)
def test_levels_are_mmcvs(step, size, keep_ratio):
    step = dict(type="Resize", keep_ratio=keep_ratio) | step
    if keep_ratio and isinstance(step.get("scale"), int):
        pytest.skip("to mmcv a factor")
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    resizing = Resizing.of(step)
    assert Resizing(**resizing.settings()) == resizing
    levels = resizing(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_array_equal(levels, TRANSFORMS.build(step)(dict(img=image))["img"])


def test_a_resize_of_another_kind_is_refused():
    assert Resizing.of(dict(type="Resize", scale_factor=1.0)) is None
    for other in (dict(backend="pillow"), dict(interpolation="nearest")):
        with pytest.raises(UserError, match=r"a Resize other .*: --no-resize$"):
            Resizing.of(dict(type="Resize", scale=(40, 30)) | other)


def test_a_graph_of_one_size_resizes_to_one():
    model, images = segmentor(**POOLS), clouds(2, (70, 90))
    resizing = Resizing((120, 90), keep_ratio=True)
    graph = export_graph(model, size=(70, 90), resizing=resizing).module()
    with torch.no_grad():
        expected = Deployed(model, resizing=resizing)(images)
        assert torch.equal(graph(images), expected)
    assert expected.shape == (2, 70, 90)
