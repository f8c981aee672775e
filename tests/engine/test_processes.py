"""On a CPU, several processes do what one does."""

import gc
import time
from datetime import timedelta

import pytest
import torch
from engine.processes import (
    CASES,
    STEPS,
    all_trained,
    judged_by_the_first,
    relative,
    results,
    same_buffers,
)
from engine.runs import same
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from fcn_plugin.engine import precision, processes
from fcn_plugin.engine.precision import bfloat16_ratio
from fcn_plugin.engine.processes import BFloat16OptimWrapper, end_workers, prepare_cpu
from fcn_plugin.errors import UserError

HOST, SUM, VALID = "mmseg's loss", "sum", "mean over valid"
PRECISIONS = {torch.float64: 1e-12, torch.float32: 1e-6}


# --- what a config becomes without a GPU ---------------------------------------------------------


def settings(launcher: str = "pytorch", timeout: object = None, **others) -> Config:
    norm = dict(type="SyncBN", requires_grad=True)
    return Config(
        dict(
            model=dict(backbone=dict(norm_cfg=norm), auxiliary_head=[dict(norm_cfg=norm)]),
            optim_wrapper=dict(type="AmpOptimWrapper", loss_scale="dynamic", dtype="bfloat16"),
            env_cfg=dict(dist_cfg=dict(backend="nccl", timeout=timeout)),
            launcher=launcher,
            **others,
        )
    )


@pytest.mark.parametrize(("ratio", "warned"), [(2.0, True), (0.5, False)])
def test_a_cpu_that_is_slower_in_bfloat16_is_told(monkeypatch, caplog, ratio, warned):
    def seconds(images: torch.Tensor, weights: torch.Tensor) -> float:
        assert images.dtype == weights.dtype
        return ratio if images.dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(precision, "_seconds", seconds)
    assert bfloat16_ratio() == ratio
    weights = torch.nn.Parameter(torch.ones(1))
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        BFloat16OptimWrapper(torch.optim.SGD([weights], 0.1))
    finally:
        logger.removeHandler(caplog.handler)
    assert ("2.0 times as long" in caplog.text) == warned


def test_several_processes(monkeypatch):
    joined: list[tuple] = []
    monkeypatch.setattr(
        processes.distributed,
        "init_process_group",
        lambda backend, timeout: joined.append((backend, timeout)),
    )
    cfg = settings(timeout=0.5, find_unused_parameters=True)
    with monkeypatch.context() as patch:  # a GPU needs nothing of it
        patch.setattr(processes, "get_device", lambda: "cuda")
        before = cfg.to_dict()
        prepare_cpu(cfg)
        assert cfg.to_dict() == before and not joined
    prepare_cpu(cfg)
    assert cfg.optim_wrapper == dict(type="BFloat16OptimWrapper")
    assert joined == [("gloo", timedelta(seconds=0.5))]
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters is True
    assert cfg.model.backbone.norm_cfg.type == cfg.model.auxiliary_head[0].norm_cfg.type == "BN"


def test_what_cannot_be_joined():
    for seconds in ("10 min", 0, float("nan"), True):
        with pytest.raises(UserError, match=r"env_cfg\.dist_cfg\.timeout=.*; give the seconds"):
            prepare_cpu(settings(timeout=seconds))
    with pytest.raises(UserError, match="torchrun"):
        prepare_cpu(settings("slurm"))


# --- its end --------------------------------------------------------------------------------------


def test_workers_of_a_loader_in_a_cycle_end_at_once():
    loader = DataLoader(range(4), num_workers=2, persistent_workers=True)
    loader.itself = loader
    list(loader)
    workers = loader._iterator._workers
    del loader
    begin = time.monotonic()
    end_workers()
    gc.collect()
    assert time.monotonic() - begin < 4
    assert not any(worker.is_alive() for worker in workers)


# --- the same gradients -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, list[dict]]:
    """By number of processes, what ``all_trained`` gives in each of them."""
    folder = tmp_path_factory.mktemp("trained")
    return {n: results(n, folder / str(n), all_trained) for n in (1, 2, 4)}


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", [name for name in CASES if name not in (SUM, HOST)])
def test_gradients_and_weights_are_those_of_one_process(runs, name, dtype):
    """Of images of other sizes, the pixels of one all void, of another nearly all."""
    # Rounding adds up over the layers, of which this one has twice as many.
    limit = PRECISIONS[dtype] * (10 if name.endswith("unpooled") else 1)
    one = runs[1][0][name, dtype]
    assert len(one["gradients"]) == STEPS
    for several in (2, 4):
        ranks = [rank[name, dtype] for rank in runs[several]]
        for rank in ranks:
            for step, expected in enumerate(one["gradients"]):
                # In single precision the steps before add their rounding.
                assert relative(rank["gradients"][step], expected) < (10 if step else 1) * limit
            assert relative(rank["weights"], one["weights"]) < limit
        for step, loss in enumerate(one["losses"]):
            mean = sum(rank["losses"][step] for rank in ranks) / several
            assert mean == pytest.approx(loss, rel=limit)


def test_other_means_would_be_others(runs):
    """The host's in each process, which makes the test above one that can fail; a sum is averaged.

    A process without valid pixels adds nothing.
    """

    def gradients(processes: int, name: str) -> list[torch.Tensor]:
        return runs[processes][0][name, torch.float64]["gradients"][0]

    assert relative(gradients(1, HOST), gradients(1, VALID)) < 1e-12
    for n in (2, 4):
        assert relative(gradients(n, HOST), gradients(1, VALID)) > 0.1
        assert relative([n * g for g in gradients(n, SUM)], gradients(1, SUM)) < 1e-12
    assert runs[4][3][VALID, torch.float64]["losses"] == [0] * STEPS


def test_what_one_process_computes_alone_waits_for_no_other(tmp_path):
    alone, nothing = results(2, tmp_path / "two", judged_by_the_first)
    assert (len(alone), nothing) == (3, [])
    assert results(1, tmp_path / "one", judged_by_the_first) == [alone]


def test_validation_is_of_the_first_processs_network(tmp_path):
    """Of the one that is saved, whose BatchNorm has seen other images than the others'."""
    (before, after), (other, others) = results(2, tmp_path / "two", same_buffers)
    assert not torch.equal(before["1.running_mean"], other["1.running_mean"])
    assert same(after, before) and same(others, before)
