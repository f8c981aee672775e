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
            images, samples = batch()
            for sample in samples:
                sample.set_metainfo(dict(img_path=f"{name}.jpg", flip=name == "b"))
            losses.append(float(model(images, samples, mode="loss")["decode.loss_ce"]))
            expected = float(plain(images, samples, mode="loss")["decode.loss_ce"])
            assert losses[-1] == pytest.approx(expected, rel=1e-5)
    assert len(set(losses)) == 3
    assert model.eval()(*batch(), mode="predict")[0].pred_sem_seg.shape == SIZE


def test_predictions_are_the_same():
    model, (images, samples) = narrow("same").eval(), batch()
    forward = torch.compile(model.forward, backend="aot_eager")
    with torch.no_grad():
        plain, compiled = (
            [sample.pred_sem_seg.data for sample in run(images, given, mode="predict")]
            for run, given in ((model, copy.deepcopy(samples)), (forward, samples))
        )
    assert (torch.stack(plain) == torch.stack(compiled)).double().mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["same", "reference"])
def test_scores_at_two_sizes(padding):
    model = segmentor("EncoderDecoder", padding).eval()
    compiled = torch.compile(model, backend="aot_eager")
    for size in ((64, 96), (70, 50)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(compiled(image), model(image))
