"""torch.compile takes the whole network and its loss as one graph."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from models.small import labelled, segmentor

from fcn_plugin.engine import CompileHook

SIZE = (64, 96)


def narrow(padding: str):
    return segmentor(padding=padding, backbone=dict(dropout_ratio=0))


def batch():
    return torch.randn(2, 3, *SIZE), labelled(SIZE)


@pytest.mark.parametrize("padding", ["same", pytest.param("reference", marks=pytest.mark.slow)])
def test_one_graph_with_the_same_loss_and_gradients(padding):
    plain, data = narrow(padding), batch()
    compiled = copy.deepcopy(plain)
    # No compiler is needed for this, and fullgraph does not let a break pass.
    forward = torch.compile(compiled.forward, backend="aot_eager", fullgraph=True)
    losses = [run(*data, mode="loss") for run in (plain.forward, forward)]
    for one in losses:
        one["decode.loss_ce"].backward()
    for key, value in losses[0].items():
        torch.testing.assert_close(losses[1][key], value, rtol=1e-5, atol=1e-6)
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_other_images_of_the_size_take_the_same_graph():
    """By their names and mirroring they are other samples, which is no reason to compile anew."""
    model, losses = narrow("same"), []
    plain = model.forward
    CompileHook(backend="aot_eager", fullgraph=True).before_train(
        SimpleNamespace(model=model, logger=logging.getLogger("test"))
    )
    torch._dynamo.reset()  # of what other tests compiled
    with torch._dynamo.config.patch(error_on_recompile=True):
        for name in "abc":
            meta = dict(img_path=f"{name}.jpg", flip=name == "b")
            images, samples = torch.randn(2, 3, *SIZE), labelled(SIZE, **meta)
            losses.append(float(model(images, samples, mode="loss")["decode.loss_ce"]))
            expected = float(plain(images, samples, mode="loss")["decode.loss_ce"])
            assert losses[-1] == pytest.approx(expected, rel=1e-5)
    assert len(set(losses)) == 3
    images, samples = batch()
    with torch.no_grad():
        (found, _), (expected, _) = (
            run(images, copy.deepcopy(samples), mode="predict") for run in (model.eval(), plain)
        )
    same = found.pred_sem_seg.data == expected.pred_sem_seg.data
    assert same.shape == (1, *SIZE) and same.double().mean() > 0.999
