"""The switches of VGG's poolings, and networks that compute them in other ways."""

import copy
import logging
import pickle
from types import SimpleNamespace

import pytest
import torch
from families import NEWER_TORCH
from models.segnet import NORM, ODD, segnet
from models.small import backbone, labelled

from fcn_plugin.engine import CompileHook
from fcn_plugin.models.layers import SwitchingPool
from fcn_plugin.models.unpooling import unpool


@pytest.mark.parametrize("settings", [{}, NORM], ids=["plain", "batch norm"])
def test_switches_change_nothing_else(settings):
    image = torch.randn(2, 3, *ODD)
    plain = backbone(out_indices=(2, 4, 5), **settings).eval()
    switching = backbone(out_indices=(2, 4, 5), switches=True, **settings).eval()
    assert plain.state_dict().keys() == switching.state_dict().keys()
    switching.load_state_dict(plain.state_dict())
    with torch.no_grad():
        features, with_switches = plain(image), switching(image)
    assert all(map(torch.equal, features, with_switches))
    assert features.switches == () and len(with_switches.switches) == 5
    assert features.maps == with_switches.maps
    sizes = [ODD, (19, 27), (10, 14), (5, 7), (3, 4)]
    assert [switches.size for switches in with_switches.switches] == sizes
    copied = pickle.loads(pickle.dumps(with_switches))
    for one, other in zip(copied.switches, with_switches.switches, strict=True):
        assert one.size == other.size and torch.equal(one.indices, other.indices)


@pytest.mark.parametrize("frozen", [0, 2])
def test_recomputed_in_other_memory_and_of_frozen_stages(frozen):
    plain = segnet(backbone=dict(frozen_stages=frozen)).train()
    other = segnet(backbone=dict(frozen_stages=frozen, with_cp=True)).train()
    other.load_state_dict(plain.state_dict())
    other.to(memory_format=torch.contiguous_format)
    images, samples = torch.randn(2, 3, *ODD).double(), labelled(ODD)
    losses = []
    for model in (plain, other):
        losses.append(model(images, copy.deepcopy(samples), mode="loss")["decode.loss_ce"])
        losses[-1].backward()
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-12)
    gradients = [{n: p.grad for n, p in m.named_parameters()} for m in (plain, other)]
    assert sum(gradient is None for gradient in gradients[0].values()) == (16 if frozen else 0)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)
    # Statistics, too: a batch is counted once.
    torch.testing.assert_close(plain.state_dict(), other.state_dict())


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_unpools_deterministically_unpools_the_same(dtype, request):
    image = torch.randn(2, 3, *ODD).to(dtype).contiguous(memory_format=torch.channels_last)
    x, switches = SwitchingPool()(image)
    x.requires_grad_()
    results = []
    for _ in range(2):
        filled = unpool(x, switches)
        results.append([filled, *torch.autograd.grad((filled * image).sum(), x)])
        request.getfixturevalue("deterministic")
    assert filled.shape == image.shape and all(map(torch.equal, *results))


@NEWER_TORCH
@pytest.mark.slow
def test_one_graph_with_the_same_loss():
    plain = segnet(backbone=dict(depth=11), head=dict(depth=11)).float()
    compiled = copy.deepcopy(plain)
    CompileHook(backend="aot_eager", fullgraph=True).before_train(
        SimpleNamespace(model=compiled, logger=logging.getLogger("test"))
    )
    images, samples = torch.randn(2, 3, *ODD), labelled(ODD)
    torch._dynamo.reset()
    losses = [m(images, copy.deepcopy(samples), mode="loss") for m in (plain, compiled)]
    for key, value in losses[0].items():
        torch.testing.assert_close(losses[1][key], value, rtol=1e-5, atol=1e-6)


def test_in_bfloat16():
    model = segnet().float()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(torch.randn(2, 3, *ODD), labelled(ODD), mode="loss")
    losses["decode.loss_ce"].backward()
    assert losses["decode.loss_ce"].dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters())
