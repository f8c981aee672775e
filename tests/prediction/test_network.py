"""A network takes a checkpoint's tensors where they lie in the file: none twice, none unfilled."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from prediction.trained import image, trained
from tools.running import ENVIRONMENT, config
from torch import nn

from fcn_plugin.errors import UserError
from fcn_plugin.prediction import Predictor
from fcn_plugin.prediction.network import load_network
from fcn_plugin.weights.mapped import build, share
from fcn_plugin.weights.safetensors_files import write_safetensors

CPU = torch.device("cpu")


def stored(state: dict, file: Path) -> Path:
    content = dict(meta={}, state_dict=state)
    if file.suffix == ".safetensors":
        write_safetensors(content, file)
    else:
        torch.save(content, file)
    return file


# What a checkpoint may hold of the same weights -> the weights that a network gets.
FORMS = {
    "as the network": lambda value: value,
    "contiguous": lambda value: value.contiguous(),
    "half": lambda value: value.half() if value.is_floating_point() else value,
    "double": lambda value: value.double() if value.is_floating_point() else value,
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("form", FORMS)
def test_weights_scores_and_memory_format_are_those_of_a_copy(tmp_path, form, suffix):
    file, weights = trained(tmp_path, "model = dict(backbone=dict(norm_cfg=dict(type='BN')))")
    state = torch.load(weights)["state_dict"]
    state = {name: FORMS[form](value) for name, value in state.items()}
    cfg = Config.fromfile(file)
    copy = MODELS.build(cfg.model)
    copy.load_state_dict(state)
    network, _ = load_network(cfg, stored(state, tmp_path / f"other{suffix}"), CPU)
    pairs = zip(network.state_dict().items(), copy.state_dict().items(), strict=True)
    for (name, value), (expected_name, expected) in pairs:
        assert (name, value.dtype, value.stride()) == (
            (expected_name, expected.dtype, expected.stride())
        )
        assert torch.equal(value, expected), name
    pixels = image(tmp_path / "a.png", 70, 90)
    predictor = Predictor(file, tmp_path / f"other{suffix}", "cpu")
    labels = predictor(pixels, probabilities=True)
    predictor.model = copy.eval()
    expected = predictor(pixels, probabilities=True)
    assert len(np.unique(labels.labels)) > 1
    assert np.array_equal(labels.labels, expected.labels)
    assert np.array_equal(labels.probabilities, expected.probabilities)
    before = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        next(network.parameters()).zero_()  # of this process alone: not in the file
    content = Predictor(file, tmp_path / f"other{suffix}", "cpu").model.state_dict()
    assert all(torch.equal(content[n].to(v.dtype), v) for n, v in before.items())


WIDE = """
model = dict(
    backbone=dict(base_channels=16, fc_channels=1600, init_cfg=None),
    decode_head=dict(in_channels=(64, 128, 1600)),
)
"""
# Bytes that a way of loading adds at its peak, by the bytes of the weights. Linux sets the peak to
# what is used now when a 5 is written to this file.
PEAK = """
import sys, torch
from pathlib import Path
import fcn_plugin
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from fcn_plugin.prediction.network import load_network
from fcn_plugin.system.memory import peak_resident, resident

def copied(cfg, file, device):
    network = MODELS.build(cfg.model)
    network.load_state_dict(torch.load(file, mmap=True)["state_dict"])
    return network, None

init_default_scope("mmseg")
load = dict(load_network=load_network, copied=copied)[sys.argv[1]]
small, file, wide, weights = sys.argv[2:]
load(Config.fromfile(small), Path(file), torch.device("cpu"))  # what is imported once
cfg = Config.fromfile(wide)
Path("/proc/self/clear_refs").write_text("5")
before = resident()
network, _ = load(cfg, Path(weights), torch.device("cpu"))
size = sum(value.nbytes for value in network.state_dict().values())
assert size > 50e6
print((peak_resident() - before) / size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_weights_are_held_once(tmp_path):
    """Whatever else the file has; built with random numbers and copied they are held twice."""
    small, file = trained(tmp_path)
    (tmp_path / "wide").mkdir()
    wide = config(tmp_path / "wide", WIDE)
    network = MODELS.build(Config.fromfile(wide).model)
    momenta = {str(i): torch.zeros_like(p) for i, p in enumerate(network.parameters())}
    content = dict(meta={}, state_dict=network.state_dict(), optimizer=dict(state=momenta))
    torch.save(content, tmp_path / "wide.pth")

    def peak(way: str) -> float:
        command = [sys.executable, "-W", "ignore", "-c", PEAK, way, small, file]
        run = subprocess.run(
            [*command, wide, tmp_path / "wide.pth"],
            capture_output=True,
            text=True,
            env=os.environ | ENVIRONMENT,
        )
        assert run.returncode == 0, run.stderr[-2000:]
        return float(run.stdout.splitlines()[-1])

    assert 0.9 < peak("load_network") < 1.3
    assert peak("copied") > 1.8


class Hidden(nn.Conv2d):
    """A layer whose weight is in no checkpoint, like that of a frozen teacher."""

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[f"{prefix}weight"]


def test_weights_that_no_file_has_are_drawn():
    def network(kind: type) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), kind(8, 8, 3))

    stored = {"0.weight", "0.bias", "1.weight", "1.bias"}
    tensors = dict.fromkeys(stored - {"1.weight"}, torch.ones(1))
    for kind in (Hidden, nn.Conv2d):
        torch.manual_seed(0)
        drawn = list(network(kind).parameters())
        torch.manual_seed(0)
        built = build(lambda kind=kind: network(kind), tensors).parameters()
        assert all(torch.equal(a, b) for a, b in zip(built, drawn, strict=True))
    state = torch.get_rng_state()
    build(lambda: network(nn.Conv2d), dict.fromkeys(stored, torch.ones(1)))
    assert torch.equal(torch.get_rng_state(), state)
    network(nn.Conv2d)  # the control
    assert not torch.equal(torch.get_rng_state(), state)


def test_parameters_keep_their_identity():
    """Modules may have them in lists, and under two names, of which the last one counts."""
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    listed = list(tied.parameters())
    tensors = {"0.weight": torch.zeros(4, 4), "1.weight": torch.ones(4, 4)}
    share(tied, tensors)
    tied.load_state_dict(tensors)
    assert tied[0].weight is tied[1].weight is listed[0]
    assert torch.equal(listed[0], torch.ones(4, 4))


def test_a_checkpoint_that_lacks_a_weight(tmp_path):
    file, weights = trained(tmp_path)
    state = torch.load(weights)["state_dict"]
    name = "decode_head.score.0.weight"
    for other in ({}, {f"module.{name}": state[name]}):
        lacking = {n: value for n, value in state.items() if n != name} | other
        with pytest.raises(UserError, match=f"does not fit the config: .*{name}"):
            Predictor(file, stored(lacking, tmp_path / "lacking.pth"), "cpu")


def test_a_file_that_is_written_to_while_it_is_used(tmp_path):
    file, weights = trained(tmp_path)
    pixels = image(tmp_path / "a.png", 40, 50)
    predictor = Predictor(file, weights, "cpu")
    expected = predictor(pixels).labels
    copy = tmp_path / "copy.pth"
    copy.write_bytes(weights.read_bytes())
    copy.replace(weights)  # the file in use has no name any more
    assert np.array_equal(predictor(pixels).labels, expected)
    weights.unlink()
    assert np.array_equal(predictor(pixels).labels, expected)
    weights = stored(torch.load(trained(tmp_path)[1])["state_dict"], tmp_path / "written.pth")
    predictor = Predictor(file, weights, "cpu")
    os.utime(weights, ns=(0, 0))  # as writing does
    with pytest.raises(UserError, match=r"written\.pth: was written to .* by mv, not by cp"):
        predictor(pixels)
