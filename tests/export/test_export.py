"""A segmentor as a graph and as an ONNX file gives what it gives itself, at any size."""

import json
from types import SimpleNamespace

import pytest
import torch
from export.nets import BGR, CLASSES, NETWORKS, POOLS, SIZES, segmentor
from families import NEWER_TORCH

from fcn_plugin.errors import UserError
from fcn_plugin.export import Deployed, check_onnx, export_graph, export_onnx
from fcn_plugin.export.graph import clouds

slow = pytest.mark.slow


@NEWER_TORCH
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[slow] * (number > 0)) for number, name in enumerate(NETWORKS)],
)
def test_onnx_gives_the_same_at_any_size(name, tmp_path):
    model, file = segmentor(**NETWORKS[name]), tmp_path / "model.onnx"
    export_onnx(model, file, argmax=False)
    found = check_onnx(model, file, sizes=SIZES)
    assert [check.size for check in found] == list(SIZES)
    for check in found:
        assert check.identical >= 0.9999
        assert check.difference < 1e-5  # float32
    # Of other weights it would not be.
    with torch.no_grad():
        next(model.parameters()).mul_(1.1)
    assert check_onnx(model, file, sizes=SIZES[:1])[0].difference > 1e-3


@NEWER_TORCH
def test_labels_and_what_the_file_tells(tmp_path):
    import onnxruntime

    model = segmentor(**POOLS, **BGR, upsample="deconv", test_cfg=dict(size=(64, 64)))
    file = tmp_path / "model.onnx"
    export_onnx(model, file, metadata=dict(test_resize=dict(scale=(240, 180))))
    assert all(check.identical >= 0.9999 for check in check_onnx(model, file, sizes=SIZES))
    session = onnxruntime.InferenceSession(file)
    (image,), (labels,) = session.get_inputs(), session.get_outputs()
    assert image.shape == ["batch", "height", "width", 3] and labels.shape[:1] == ["batch"]
    assert image.type == labels.type == "tensor(uint8)"
    texts = session.get_modelmeta().custom_metadata_map
    for key, value in {
        "classes": list(CLASSES),
        "label_names": dict(zip("01234", CLASSES, strict=True)),
        "palette": [[i, 2 * i, 3 * i] for i in range(5)],
        "mean": BGR["mean"],
        "std": BGR["std"],
        "test_resize": dict(scale=[240, 180]),
    }.items():
        assert json.loads(texts[key]) == value
    assert (texts["network_order"], texts["preprocessing"]) == ("BGR", "inside")


@NEWER_TORCH
@pytest.mark.parametrize("settings", [dict(out_channels=2), dict(out_channels=1, threshold=0.45)])
def test_labels_are_the_data_sets_own_numbers(settings):
    """Of two classes, with a score for each or one for both."""
    model = segmentor(**POOLS | dict(head=POOLS["head"] | dict(num_classes=2) | settings))
    images = clouds(1, (50, 41))
    with torch.no_grad():
        plain, scores = Deployed(model)(images), Deployed(model, argmax=False)(images)
    if settings["out_channels"] == 1:
        assert torch.equal(plain.bool(), scores.sigmoid()[:, 0] > 0.45)
    model.dataset_meta = dict(classes=("b", "a"), palette=[[9] * 3] * 2, label_map={0: 1, 7: 0})
    labels = Deployed(model)(images)
    assert labels.dtype == torch.uint8 and len(labels.unique()) == 2
    assert torch.equal(labels, torch.where(plain == 0, 7, 0).to(torch.uint8))
    assert torch.equal(export_graph(model).module()(images), labels)


def test_preprocessing_is_mmsegs():
    """mmseg gets BGR, as its loader has it; of RGB: tools/test_export_onnx.py."""
    model = segmentor(**BGR, test_cfg=dict(size_divisor=32))
    rgb = clouds(1, (50, 41))
    sample = SimpleNamespace(set_metainfo=lambda meta: None)
    batch = dict(inputs=[rgb[0].flip(-1).permute(2, 0, 1)], data_samples=[sample])
    ours, expected = Deployed(model), model.data_preprocessor(batch)["inputs"]
    torch.testing.assert_close(ours._padded(ours.prepared(rgb)), expected)


def looks(level):
    return level if level.sum() > 0 else -level


@NEWER_TORCH
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (looks, "--size HEIGHT WIDTH$"),
        (torch.rand_like, "it draws random numbers; switch that off in the config$"),
    ],
    ids=["looks", "draws"],
)
def test_what_has_no_graph_is_an_error_that_names_it(change, said, tmp_path):
    model = segmentor()
    model.backbone.register_forward_hook(lambda module, images, made: tuple(map(change, made)))
    with pytest.raises(UserError, match=rf"ConvolutionalizedVGG \+ SkipFusionHead: .*{said}"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())
