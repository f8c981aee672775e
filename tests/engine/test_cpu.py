from datetime import timedelta
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from fcn_plugin.engine import processes
from fcn_plugin.engine.processes import BFloat16OptimWrapper, prepare_cpu
from fcn_plugin.errors import UserError


def config(**settings) -> Config:
    norm = dict(type="SyncBN", requires_grad=True)
    return Config(
        dict(
            model=dict(backbone=dict(norm_cfg=norm), auxiliary_head=[dict(norm_cfg=norm)]),
            optim_wrapper=dict(type="AmpOptimWrapper", loss_scale="dynamic"),
            **settings,
        )
    )


def test_a_machine_with_a_gpu_is_left_alone(monkeypatch):
    monkeypatch.setattr(processes, "get_device", lambda: "cuda")
    cfg = config(launcher="pytorch")
    before = cfg.to_dict()
    prepare_cpu(cfg)
    assert cfg.to_dict() == before


@pytest.mark.parametrize(
    "wrapper",
    [
        None,
        dict(type="OptimWrapper", optimizer=dict(type="SGD")),
        dict(type="AmpOptimWrapper", loss_scale="dynamic"),
        dict(type="AmpOptimWrapper", dtype="bfloat16"),
    ],
)
def test_one_process(wrapper):
    cfg = Config(dict(optim_wrapper=wrapper, model=dict(), launcher="none"))
    prepare_cpu(cfg)
    amp = wrapper is not None and wrapper["type"] == "AmpOptimWrapper"
    assert cfg.optim_wrapper == (dict(type="BFloat16OptimWrapper") if amp else wrapper)
    assert "model_wrapper_cfg" not in cfg


def joined(cfg: Config, monkeypatch) -> list[tuple[str, timedelta | None]]:
    """The process groups that ``prepare_cpu`` joins: backend and timeout."""
    found: list[tuple[str, timedelta | None]] = []
    monkeypatch.setattr(
        processes.distributed,
        "init_process_group",
        lambda backend, timeout: found.append((backend, timeout)),
    )
    prepare_cpu(cfg)
    return found


def test_several_processes(monkeypatch):
    cfg = config(launcher="pytorch", find_unused_parameters=True)
    assert joined(cfg, monkeypatch) == [("gloo", None)]
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters is True
    assert cfg.model.backbone.norm_cfg.type == "BN"
    assert cfg.model.auxiliary_head[0].norm_cfg.type == "BN"


def patience(seconds: object) -> dict:
    return dict(env_cfg=dict(dist_cfg=dict(backend="nccl", timeout=seconds)))


@pytest.mark.parametrize("seconds", [600, 0.5])
def test_how_long_a_process_waits_for_another(monkeypatch, seconds):
    cfg = config(launcher="pytorch", **patience(seconds))
    assert joined(cfg, monkeypatch) == [("gloo", timedelta(seconds=seconds))]


@pytest.mark.parametrize("seconds", ["10 min", 0, -1, float("nan"), float("inf"), True], ids=str)
def test_a_timeout_that_is_no_time(seconds):
    with pytest.raises(UserError, match=r"env_cfg\.dist_cfg\.timeout=.*; give the seconds"):
        prepare_cpu(config(launcher="pytorch", **patience(seconds)))


def test_the_shipped_timeout():
    """Longer than a checkpoint takes to write, shorter than the night that nobody looks."""
    shipped = Config.fromfile(Path(__file__).parents[2] / "configs" / "_base_" / "runtime.py")
    assert shipped.env_cfg.dist_cfg.timeout == 600


def test_slurm_without_gpus():
    with pytest.raises(UserError, match="torchrun"):
        prepare_cpu(config(launcher="slurm"))


def test_bfloat16_is_used_within_the_context_and_updates_the_weights():
    model = nn.Linear(4, 4)
    before = model.weight.detach().clone()
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        out = model(torch.randn(2, 4))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().pow(2).sum())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)
