"""On a CPU, several processes do what one does; a fault in one ends them all, soon."""

import random
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from engine.launched import LIMIT, finished, project, result, started
from engine.processes import (
    CASES,
    STEPS,
    all_trained,
    judged_by_the_first,
    results,
    same_buffers,
)
from engine.runs import same
from mmengine.config import Config

from fcn_plugin.engine import processes
from fcn_plugin.engine.processes import BFloat16OptimWrapper, prepare_cpu
from fcn_plugin.errors import UserError

HOST, SUM, VALID = "mmseg's loss", "sum", "mean over valid"
PRECISIONS = {torch.float64: 1e-12, torch.float32: 1e-6}


def relative(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The length of the difference, relative to that of what is expected."""
    one, other = (torch.cat([t.flatten() for t in tensors]) for tensors in (found, expected))
    return float((one - other).norm() / other.norm())


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


def test_one_process(monkeypatch):
    cfg = settings("none")
    with monkeypatch.context() as patch:
        patch.setattr(processes, "get_device", lambda: "cuda")
        prepare_cpu(cfg)
        assert cfg.to_dict() == settings("none").to_dict()
    prepare_cpu(cfg)
    assert cfg.optim_wrapper == dict(type="BFloat16OptimWrapper")
    assert "model_wrapper_cfg" not in cfg


def test_several_processes(monkeypatch):
    joined: list[tuple] = []
    monkeypatch.setattr(
        processes.distributed,
        "init_process_group",
        lambda backend, timeout: joined.append((backend, timeout)),
    )
    cfg = settings(timeout=0.5, find_unused_parameters=True)
    prepare_cpu(cfg)
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


def test_bfloat16_is_used_within_the_context_and_updates_the_weights():
    model = torch.nn.Linear(4, 4)
    before = model.weight.detach().clone()
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        out = model(torch.randn(2, 4))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().pow(2).sum())
    assert model.weight.dtype == torch.float32 and not torch.equal(model.weight, before)


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
    one, limit = runs[1][0][name, dtype], PRECISIONS[dtype]
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


# --- real runs, and faults ----------------------------------------------------------------------

FORGIVING = 30  # seconds that torchrun gives a process between SIGTERM and SIGKILL
# For torchrun to notice, for data loaders' workers to miss their parents; on a busy machine.
NOTICED, ORPHANED = 20, 10


def options(iterations: int = 10, **others: object) -> list[str]:
    """Of a run with a checkpoint every second iteration and workers that read."""
    given = {
        "train_cfg.max_iters": iterations,
        "train_cfg.val_interval": 4,
        "train_dataloader.num_workers": 1,
        "randomness.seed": 3,
    } | {key.replace("__", "."): value for key, value in others.items()}
    return ["--cfg-options", *(f"{key}={value}" for key, value in given.items())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def undisturbed(folder) -> dict:
    finished(folder, 2, "--work-dir", "whole", *options(), log="whole.log")
    return result(folder / "whole", 10)


def failed(folder: Path, fault: str, begin: str = "", most: float = LIMIT, **others) -> str:
    """The log of two processes, one with the ``fault``; both end soon after ``begin``."""
    name = fault.replace(" ", "_")
    given = ["--work-dir", name, *options(10**6, **others)]
    with started(folder, 2, *given, log=f"{name}.log", FAULT=fault) as run:
        run.wait_for(rf"Iter\(train\) \[ *{begin}/" if begin else "")
        before = time.monotonic()
        assert run.wait() == 1
        assert time.monotonic() - before < most
        assert run.left_after(ORPHANED) == []
        return run.log.read_text()


def test_an_error_in_one_process_ends_all_and_is_told(folder):
    log = failed(folder, "1 2 0")
    assert "error: cat.jpg: is damaged; copy it again" in log.splitlines()


@pytest.mark.slow
def test_processes_stop_together_at_a_loss_that_is_not_finite(folder):
    """The one whose image is bad names it, the other says that it was not its own."""
    lines = failed(folder, "1 2 -1").splitlines()
    first, second = sorted(line for line in lines if line.startswith("error: process"))
    assert "this process's batch is not the cause, another's is; the weights before it" in first
    assert "process 1, iteration 3: " in second and "the image itself has nan" in second
    assert (folder / "1_2_-1/bad_numbers_iter_3.pth").exists()


@pytest.mark.slow
def test_a_killed_process_ends_all(folder):
    log = failed(folder, f"0 5 {signal.SIGKILL:d}", "4", most=NOTICED)
    assert "Signal 9 (SIGKILL) received" in log


@pytest.mark.slow
def test_a_process_that_hangs_ends_all_after_the_timeout(folder):
    most = 10 + FORGIVING + NOTICED
    log = failed(folder, f"1 5 {signal.SIGSTOP:d}", "5", most, env_cfg__dist_cfg__timeout=10)
    assert "error: another process did not answer for env_cfg.dist_cfg" in log


@pytest.mark.slow
def test_a_lost_process_is_started_again_and_changes_nothing(folder, undisturbed):
    """All processes are, and go on from the last checkpoint, without --resume."""
    fault = dict(FAULT=f"1 7 {signal.SIGKILL:d}", MAX_RESTARTS="2")
    log = finished(folder, 2, "--work-dir", "elastic", *options(), log="elastic.log", **fault)
    assert "resumed epoch: 0, iter: 6" in log
    assert same(result(folder / "elastic", 10), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_and_resumed_run_ends_as_an_undisturbed_one(folder, undisturbed, seed):
    """Killed with all its processes at any moment after the first iteration."""
    work = folder / f"moment{seed}"
    at_work = ["--work-dir", work.name, *options()]
    with started(folder, 2, *at_work, log=f"moment{seed}.log") as run:
        run.wait_for(r"Iter\(train\) \[ *1/")
        time.sleep(2 * random.Random(seed).random())
        run.kill()
    finished(folder, 2, *at_work, "--resume", log=f"resumed{seed}.log")
    assert same(result(work, 10), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)], ids=["2 to 1", "1 to 2"])
def test_resumed_with_another_number_of_processes(folder, before, after):
    """The same images in each step, and so the same weights but for rounding."""
    plain = dict(
        model__backbone__norm_cfg=None,
        model__backbone__dropout_ratio=0.0,
        optim_wrapper__optimizer__type="SGD",
        optim_wrapper__optimizer__lr=0.1,
    )

    def train(processes: int, work: str, iterations: int, *more: str) -> tuple[str, list]:
        plain["train_dataloader__batch_size"] = 4 // processes
        given = ["--work-dir", work, *more, *options(iterations, **plain)]
        log = finished(folder, processes, *given, log=f"{work}-{iterations}.log")
        return log, list(result(folder / work, iterations)["model"].values())

    name = f"from{before}"
    _, start = train(before, name, 4)
    log, found = train(after, name, 10, "--resume")
    was, now = (f"{n} x {4 // n}" for n in (before, after))
    assert f"Resumed with {now} images in a step (processes x batch_size) instead of {was}" in log
    assert "; the 16 images already seen are not read again" in log
    _, expected = train(before, f"all{before}", 10)
    assert relative(found, expected) < 1e-5 < relative(start, expected) / 100


@pytest.mark.slow
def test_two_runs_on_one_machine(folder):
    """Neither has to be told of a port that the other does not use."""
    short = options(2, train_cfg__val_interval=2)
    with (
        started(folder, 2, "--work-dir", "left", *short, log="left.log") as left,
        started(folder, 2, "--work-dir", "right", *short, log="right.log") as right,
    ):
        assert (left.wait(), right.wait()) == (0, 0)
