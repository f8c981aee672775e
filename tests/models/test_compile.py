"""torch.compile takes the whole network and its loss as one graph."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from fcn_plugin.engine import CompileHook

SIZE = (64, 96)


def segmentor(padding: str, **backbone):
    model = MODELS.build(
        ConfigDict(
            type="FCNSegmentor",
            data_preprocessor=dict(type="SegDataPreProcessor"),
            backbone=dict(
                type="ConvolutionalizedVGG",
                depth=11,
                padding=padding,
                base_channels=4,
                fc_channels=8,
                dropout_ratio=0,
            )
            | backbone,
            decode_head=dict(
                type="SkipFusionHead",
                in_channels=(16, 32, 8),
                in_index=(0, 1, 2),
                num_classes=5,
                init_cfg=dict(type="Normal", layer="Conv2d", std=0.1),
            ),
            test_cfg=dict(mode="whole"),
        )
    )
    model.init_weights()
    return model


def batch():
    labels = torch.randint(0, 5, (2, 1, *SIZE))
    shapes = dict(img_shape=SIZE, ori_shape=SIZE)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=shapes) for label in labels]
    return torch.randn(2, 3, *SIZE), samples


@pytest.mark.parametrize("padding", ["same", pytest.param("reference", marks=pytest.mark.slow)])
def test_one_graph_with_the_same_loss_and_gradients(padding):
    plain, data = segmentor(padding), batch()
    compiled = copy.deepcopy(plain)
    # No compiler is needed for this, and fullgraph does not let a break pass.
    forward = torch.compile(compiled.forward, backend="aot_eager", fullgraph=True)
    for model, run in ((plain, plain.forward), (compiled, forward)):
        losses = run(*data, mode="loss")
        losses["decode.loss_ce"].backward()
        model.found = losses
    for key, value in plain.found.items():
        torch.testing.assert_close(compiled.found[key], value, rtol=1e-5, atol=1e-6)
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_other_images_of_the_size_take_the_same_graph():
    """By their names and mirroring they are other samples, which is no reason to compile anew."""
    model, seen = segmentor("same"), []
    model.forward_plain = model.forward
    CompileHook(backend="aot_eager", fullgraph=True).before_train(
        SimpleNamespace(model=model, logger=logging.getLogger("test"))
    )
    torch._dynamo.reset()  # of what other tests compiled
    with torch._dynamo.config.patch(error_on_recompile=True):
        for name in "abc":
            images, samples = batch()
            for sample in samples:
                sample.set_metainfo(dict(img_path=f"{name}.jpg", flip=name == "b"))
            seen.append(float(model(images, samples, mode="loss")["decode.loss_ce"]))
            plain = float(model.forward_plain(images, samples, mode="loss")["decode.loss_ce"])
            assert seen[-1] == pytest.approx(plain, rel=1e-5)
    assert len(set(seen)) == 3
    assert model.eval()(*batch(), mode="predict")[0].pred_sem_seg.shape == SIZE


def test_predictions_are_the_same():
    model, (images, samples) = segmentor("same").eval(), batch()
    forward = torch.compile(model.forward, backend="aot_eager")
    with torch.no_grad():
        plain = [
            sample.pred_sem_seg.data.clone()
            for sample in model(images, copy.deepcopy(samples), mode="predict")
        ]
        compiled = forward(images, samples, mode="predict")
    for one, other in zip(plain, compiled, strict=True):
        assert (one == other.pred_sem_seg.data).double().mean() > 0.999
