"""A segmentor as a graph and as an ONNX file gives what it gives itself, at any size."""

import json

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch.nn import functional

import fcn_plugin
from fcn_plugin.errors import UserError
from fcn_plugin.export import Deployed, check_onnx, export_graph, export_onnx
from fcn_plugin.export.graph import average_pooled, clouds

SIZES = ((97, 161), (256, 320), (50, 41))
BGR = dict(mean=[104.0, 117.0, 123.0], std=[50.0, 55.0, 60.0], bgr_to_rgb=False)
RGB = dict(mean=[124.0, 116.0, 104.0], std=[58.0, 57.0, 57.5], bgr_to_rgb=True)
CLASSES = ("void", "sky", "road", "tree", "bicyclist")


def segmentor(padding="same", upsample="bilinear", backbone=None, head=None, **preprocessor):
    """Pool3 and fc7 of a narrow VGG-11, or others."""
    init_default_scope("mmseg")
    head = head or {}
    vgg = dict(
        type="ConvolutionalizedVGG",
        depth=11,
        padding=padding,
        out_indices=(2, 5),
        base_channels=4,
        fc_channels=8,
    )
    skips = dict(
        type="SkipFusionHead",
        in_channels=(16, 8),
        in_index=(0, 1),
        strides=(8, 32),
        num_classes=5,
        upsample=upsample,
        init_cfg=dict(type="Normal", layer="Conv2d", std=0.1),
    )
    model = MODELS.build(
        ConfigDict(
            type="FCNSegmentor",
            data_preprocessor=dict(type="SegDataPreProcessor", **(RGB | preprocessor)),
            backbone=backbone or vgg,
            decode_head=skips | head if head.get("type") is None else head,
            test_cfg=dict(mode="whole"),
        )
    )
    model.init_weights()
    model.dataset_meta = dict(classes=CLASSES, palette=[[i, 2 * i, 3 * i] for i in range(5)])
    return model.eval()


ALEXNET = dict(
    backbone=dict(type="ConvolutionalizedAlexNet", base_channels=4, fc_channels=8),
    head=dict(in_channels=(12, 32, 8), in_index=(0, 1, 2), strides=(8, 16, 32), kernels=(15, 3, 3)),
)
GOOGLENET = dict(
    backbone=dict(type="ConvolutionalizedGoogLeNet", base_channels=8, padding="reference"),
    head=dict(in_channels=(128,), in_index=(2,), strides=(32,)),
)
RESNET = dict(
    backbone=dict(type="ResNet", depth=18, base_channels=4),
    head=dict(in_channels=(4, 8, 16, 32), in_index=(0, 1, 2, 3), strides=(4, 8, 16, 32)),
)
PSP = dict(
    head=dict(
        type="PSPHead",
        in_channels=8,
        in_index=1,
        channels=8,
        pool_scales=(1, 2, 3, 6),
        num_classes=5,
        norm_cfg=dict(type="BN"),
    )
)
HRNET = dict(
    backbone=dict(
        type="HRNet",
        norm_cfg=dict(type="BN"),
        extra={
            f"stage{number}": dict(
                num_modules=1,
                num_branches=number,
                block="BASIC",
                num_blocks=[1] * number,
                num_channels=[4, 8, 16, 32][:number],
            )
            for number in (1, 2, 3, 4)
        },
    ),
    head=RESNET["head"],
)
# Whose way of resizing torch can follow only by reading the host's code.
ALIGNED = dict(
    head=dict(
        type="FCNHead",
        in_channels=8,
        in_index=1,
        channels=8,
        num_classes=5,
        align_corners=True,
        norm_cfg=dict(type="BN"),
    )
)
# Fewer layers, on which it takes torch less time to reason about sizes.
POOLS = dict(
    backbone=dict(type="ConvolutionalizedVGG", depth=11, out_indices=(1, 2), base_channels=4),
    head=dict(in_channels=(8, 16), strides=(4, 8)),
)
slow = pytest.mark.slow
NETWORKS = {
    "bilinear-same": dict(),
    "bilinear-reference": dict(padding="reference", **BGR),
    "deconv-same": dict(upsample="deconv"),
    "deconv-reference": dict(upsample="deconv", padding="reference"),
    "nearest-same": dict(upsample="nearest", test_cfg=dict(size_divisor=32)),
    "nearest-reference": dict(upsample="nearest", padding="reference"),
    "at-once": dict(head=dict(scale=(0.01, 1.0))),
    "alexnet": dict(ALEXNET, upsample="deconv"),
    "googlenet-reference": GOOGLENET,
    "resnet": RESNET,
    "hrnet": HRNET,
    "psp": PSP,
    "aligned": ALIGNED,
}
QUICK = {"bilinear-reference", "deconv-same"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=slow) for name in NETWORKS]
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


@pytest.mark.parametrize("channels", [1, 2])
def test_labels_are_the_data_sets_own_numbers(channels):
    model = segmentor(head=dict(num_classes=2, out_channels=channels, threshold=0.3))
    images = clouds(1, (50, 41))
    plain = Deployed(model)(images)
    model.dataset_meta = dict(classes=("b", "a"), palette=[[9] * 3] * 2, label_map={0: 1, 7: 0})
    labels = Deployed(model)(images)
    assert labels.dtype == torch.uint8 and len(labels.unique()) == 2
    assert torch.equal(labels, torch.where(plain == 0, 7, 0).to(torch.uint8))
    assert torch.equal(export_graph(model).module()(images), labels)


def test_labels_and_what_the_file_tells(tmp_path):
    import onnxruntime

    model, file = segmentor(**POOLS, **BGR, test_cfg=dict(size=(64, 64))), tmp_path / "model.onnx"
    export_onnx(model, file, metadata=dict(test_resize=dict(scale=(240, 180))))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert all(check.identical >= 0.9999 for check in check_onnx(model, file, sizes=SIZES))
    session = onnxruntime.InferenceSession(file)
    (image,), (labels,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type) == ("image", "tensor(uint8)")
    assert image.shape == ["batch", "height", "width", 3]
    assert (labels.name, labels.type) == ("labels", "tensor(uint8)")
    assert labels.shape[:1] == ["batch"]
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(CLASSES)
    assert json.loads(told["palette"])[4] == [4, 8, 12]
    assert json.loads(told["mean"]) == BGR["mean"]
    assert json.loads(told["test_resize"]) == dict(scale=[240, 180])
    assert (told["network_order"], told["preprocessing"]) == ("BGR", "inside")
    assert told["made_by"] == f"fcn_plugin {fcn_plugin.__version__}"


@pytest.mark.parametrize("settings", [BGR, RGB], ids=["bgr", "rgb"])
def test_preprocessing_is_the_hosts(settings):
    """The host is given BGR, as its loader has it."""
    model = segmentor(**settings, test_cfg=dict(size_divisor=32))
    rgb = clouds(1, (50, 41))
    given = model.data_preprocessor(
        dict(inputs=[rgb[0].flip(-1).permute(2, 0, 1)], data_samples=[SampleOfNoUse()])
    )
    ours = Deployed(model)
    torch.testing.assert_close(ours._padded(ours.prepared(rgb)), given["inputs"])


class SampleOfNoUse:
    def set_metainfo(self, meta):
        pass


@pytest.mark.parametrize("padding", ["same", pytest.param("reference", marks=slow)])
def test_graph_is_exact_and_compiles(padding):
    model = segmentor(padding, **(POOLS if padding == "same" else {})).double()
    graph = export_graph(model, argmax=False).module()
    whole = Deployed(model, argmax=False)
    compiled = torch.compile(whole, backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for number, size in enumerate(SIZES):
            images = clouds(1 + number % 2, size)
            expected = whole(images)
            for found in (graph(images), compiled(images)):
                torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [(7, 11), (6, 6), (2, 5)], ids=str)
@pytest.mark.parametrize("pooled", [1, 2, 3, 6])
def test_average_pooling_as_matrices(size, pooled):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = functional.adaptive_avg_pool2d(x, pooled)
    torch.testing.assert_close(average_pooled(x, [pooled] * 2), expected, rtol=1e-12, atol=1e-12)


def test_a_binary_network_gives_zeros_and_ones():
    model = segmentor(head=dict(num_classes=2, out_channels=1, threshold=0.3))
    images = clouds(2, (40, 56))
    with torch.no_grad():
        labels = Deployed(model)(images)
        probabilities = Deployed(model, argmax=False)(images).sigmoid()[:, 0]
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.bool(), probabilities > 0.3)
    assert 0 < labels.double().mean() < 1


def looks(level):
    return level if level.sum() > 0 else -level


def one_size(level):
    if level.shape[-1] != 8:
        raise RuntimeError(f"the size is {tuple(level.shape)}")
    return level


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (looks, "--size HEIGHT WIDTH$"),
        (one_size, "the size is .* --size HEIGHT WIDTH$"),
        (torch.rand_like, "it draws random numbers; switch that off in the config$"),
    ],
    ids=["looks", "one size", "draws"],
)
def test_what_has_no_graph_is_an_error_that_names_it(change, said, tmp_path):
    model = segmentor()
    model.backbone.register_forward_hook(lambda module, images, made: tuple(map(change, made)))
    file = tmp_path / "model.onnx"
    with pytest.raises(UserError, match=rf"ConvolutionalizedVGG \+ SkipFusionHead: .*{said}"):
        export_onnx(model, file)
    assert not any(tmp_path.iterdir())
