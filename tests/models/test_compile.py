"""torch.compile takes the whole network and its loss as one graph."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from families import NEWER_TORCH
from models.small import labelled, segmentor

from fcn_plugin.engine import CompileHook

SIZE = (64, 96)


@NEWER_TORCH
@pytest.mark.parametrize("padding", ["same", pytest.param("reference", marks=pytest.mark.slow)])
def test_one_graph_with_the_same_loss_and_gradients(padding):
    """Also for other images of the size, which are other samples by their names and mirroring."""
    plain = segmentor(padding=padding, backbone=dict(dropout_ratio=0))
    compiled = copy.deepcopy(plain)
    # No compiler is needed for this, and fullgraph does not let a break pass.
    CompileHook(backend="aot_eager", fullgraph=True).before_train(
        SimpleNamespace(model=compiled, logger=logging.getLogger("test"))
    )
    torch._dynamo.reset()  # of what other tests compiled
    with torch._dynamo.config.patch(error_on_recompile=True):
        for name in "ab":
            images, samples = torch.randn(2, 3, *SIZE), labelled(SIZE, img_path=name)
            losses = [model(images, samples, mode="loss") for model in (plain, compiled)]
            for one in losses:
                one["decode.loss_ce"].backward()
            for key, value in losses[0].items():
                torch.testing.assert_close(losses[1][key], value, rtol=1e-5, atol=1e-6)
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        (found, _), (expected, _) = (
            model.eval()(images, copy.deepcopy(samples), mode="predict")
            for model in (compiled, plain)
        )
    same = found.pred_sem_seg.data == expected.pred_sem_seg.data
    assert same.shape == (1, *SIZE) and same.double().mean() > 0.999
