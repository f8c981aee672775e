"""Several processes do what one does; a fault in one ends them all, soon."""

import random
import signal
import time
from pathlib import Path

import pytest
import torch
from engine.launched import finished, project, result, started
from engine.processes import (
    CASES,
    SAMPLES,
    STEPS,
    all_scored,
    all_trained,
    judged_by_the_first,
    results,
    same_buffers,
    trained,
)
from engine.runs import same
from tools.running import tool

HOST = "of the host"
MEANS = [name for name in CASES if name not in ("sum", HOST)]
PRECISIONS = {torch.float64: 1e-12, torch.float32: 1e-6}
BY_DTYPE = pytest.mark.parametrize("dtype", PRECISIONS, ids=str)


def relative(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The length of the difference, relative to that of what is expected."""
    one, other = (torch.cat([t.flatten() for t in tensors]) for tensors in (found, expected))
    return float((one - other).norm() / other.norm())


# --- the same gradients -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, list[dict]]:
    """By number of processes, what ``all_trained`` gives in each of them."""
    folder = tmp_path_factory.mktemp("trained")
    return {n: results(n, folder / str(n), all_trained) for n in (1, 2, 4)}


@BY_DTYPE
@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("processes", [2, 4])
def test_gradients_and_weights_are_those_of_one_process(runs, processes, name, dtype):
    """Of images of other sizes, the pixels of one all void, of another nearly all."""
    one, key = runs[1][0][name, dtype], (name, dtype)
    assert len(one["gradients"]) == STEPS
    for rank in runs[processes]:
        for step, expected in enumerate(one["gradients"]):
            # In single precision the steps before add their rounding.
            limit = PRECISIONS[dtype] if step == 0 else 10 * PRECISIONS[dtype]
            assert relative(rank[key]["gradients"][step], expected) < limit
        assert relative(rank[key]["weights"], one["weights"]) < PRECISIONS[dtype]
    for step, loss in enumerate(one["losses"]):
        shares = [rank[key]["losses"][step] for rank in runs[processes]]
        assert sum(shares) / processes == pytest.approx(loss, rel=PRECISIONS[dtype])


@BY_DTYPE
@pytest.mark.parametrize("processes", [2, 4])
def test_a_mean_in_each_process_would_be_another(runs, processes, dtype):
    """The host's, which makes the comparison above one that can fail."""
    ours, hosts = (runs[1][0][name, dtype]["gradients"][0] for name in ("mean over valid", HOST))
    assert relative(hosts, ours) < PRECISIONS[dtype]
    assert relative(runs[processes][0][HOST, dtype]["gradients"][0], ours) > 0.1


@BY_DTYPE
@pytest.mark.parametrize("processes", [2, 4])
def test_a_sum_is_averaged_over_the_processes(runs, processes, dtype):
    """As the wrapper does with whatever it is given."""
    (found, *_), (expected, *_) = (runs[n][0]["sum", dtype]["gradients"] for n in (processes, 1))
    assert relative([processes * g for g in found], expected) < PRECISIONS[dtype]


def test_a_process_without_valid_pixels_adds_nothing(runs):
    assert runs[4][3]["mean over valid", torch.float64]["losses"] == [0] * STEPS
    assert min(runs[4][0]["mean over valid", torch.float64]["losses"]) > 0


def test_what_one_process_computes_alone_waits_for_no_other(tmp_path):
    alone, nothing = results(2, tmp_path / "two", judged_by_the_first)
    assert (len(alone), nothing) == (3, [])
    assert results(1, tmp_path / "one", judged_by_the_first) == [alone]


@pytest.mark.slow
def test_compiled_in_two_processes(runs, tmp_path):
    arguments = "mean over valid", torch.float64, True
    for rank in results(2, tmp_path / "two", trained, *arguments):
        one = runs[1][0][arguments[:2]]
        assert relative(rank["weights"], one["weights"]) < 1e-12


# --- the same scores ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored_by_one(tmp_path_factory) -> list[tuple]:
    return results(1, tmp_path_factory.mktemp("scored") / "one", all_scored)[0]


@pytest.mark.parametrize("processes", [2, 4])
def test_scores_are_those_of_one_process_to_the_last_digit(scored_by_one, processes, tmp_path):
    """Of each class too, with more images than processes or fewer."""
    assert [sum(map(sum, matrix)) for _, matrix in scored_by_one] == [99 * n for n in SAMPLES]
    for rank in results(processes, tmp_path / "several", all_scored):
        assert rank == scored_by_one


def test_validation_is_of_the_first_processs_network(tmp_path):
    """Of the one that is saved, whose BatchNorm has seen other images than the others'."""
    ranks = results(2, tmp_path / "two", same_buffers)
    (before, _), (other, _) = ranks
    assert not torch.equal(before["1.running_mean"], other["1.running_mean"])
    for _, after in ranks:
        assert same(after, before)


# --- real runs, and faults ----------------------------------------------------------------------

FORGIVING = 30  # seconds that torchrun gives a process between SIGTERM and SIGKILL
# For torchrun to notice, for data loaders' workers to miss their parents; on a busy machine.
NOTICED, ORPHANED = 20, 10


def options(iterations: int = 10, **others: object) -> list[str]:
    """Of a run with a checkpoint every second iteration and workers that read."""
    settings = {
        "train_cfg.max_iters": iterations,
        "train_cfg.val_interval": 4,
        "train_dataloader.num_workers": 1,
        "randomness.seed": 3,
    }
    given = {key.replace("__", "."): value for key, value in others.items()}
    return ["--cfg-options", *(f"{key}={value}" for key, value in (settings | given).items())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def undisturbed(folder) -> dict:
    finished(folder, 2, "--work-dir", "whole", *options(), log="whole.log")
    return result(folder / "whole", 10)


def test_an_error_in_one_process_ends_all_and_is_told(folder):
    at_work = ["--work-dir", "error", *options(1000)]
    with started(folder, 2, *at_work, log="error.log", FAULT="1 2 0") as run:
        assert run.wait() == 1
        assert run.left_after(ORPHANED) == []
    lines = run.log.read_text().splitlines()
    assert "error: cat.jpg: is damaged; copy it again" in lines


@pytest.mark.slow
def test_processes_stop_together_at_a_loss_that_is_not_finite(folder):
    """The one whose image is bad names it, the other says that it was not its own."""
    at_work = ["--work-dir", "nan", *options()]
    with started(folder, 2, *at_work, log="nan.log", FAULT="1 2 -1") as run:
        assert run.wait() == 1
        assert run.left_after(ORPHANED) == []
    lines = run.log.read_text().splitlines()
    first, second = sorted(line for line in lines if line.startswith("error: process"))
    assert "this process's batch is not the cause, another's is; the weights before it" in first
    assert "process 1, iteration 3: " in second and "the image itself has nan" in second
    assert (folder / "nan/bad_numbers_iter_3.pth").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all(folder, rank):
    at_work, name = ["--work-dir", f"killed{rank}", *options(10**6)], f"killed{rank}.log"
    with started(folder, 2, *at_work, log=name, FAULT=f"{rank} 5 {signal.SIGKILL:d}") as run:
        run.wait_for(r"Iter\(train\) \[ *5/" if rank else r"Iter\(train\) \[ *4/")
        before = time.monotonic()
        assert run.wait() == 1
        assert time.monotonic() - before < NOTICED
        assert run.left_after(ORPHANED) == []
    assert "Signal 9 (SIGKILL) received" in run.log.read_text()


@pytest.mark.slow
def test_a_process_that_hangs_ends_all_after_the_timeout(folder):
    patience = 10
    at_work = ["--work-dir", "hung", *options(10**6, env_cfg__dist_cfg__timeout=patience)]
    with started(folder, 2, *at_work, log="hung.log", FAULT=f"1 5 {signal.SIGSTOP:d}") as run:
        run.wait_for(r"Iter\(train\) \[ *5/")
        before = time.monotonic()
        assert run.wait() == 1
        took = time.monotonic() - before
        assert patience - 1 < took < patience + FORGIVING + NOTICED
        assert run.left_after(ORPHANED) == []
    assert "error: another process did not answer for env_cfg.dist_cfg" in run.log.read_text()


@pytest.mark.slow
def test_a_lost_process_is_started_again_and_changes_nothing(folder, undisturbed):
    """All processes are, and go on from the last checkpoint, without --resume."""
    at_work = ["--work-dir", "elastic", *options()]
    fault = dict(FAULT=f"1 7 {signal.SIGKILL:d}", MAX_RESTARTS="2")
    log = finished(folder, 2, *at_work, log="elastic.log", **fault)
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

    def train(processes: int, work: str, iterations: int, *more: str) -> str:
        shared = dict(train_dataloader__batch_size=4 // processes, **plain)
        given = ["--work-dir", work, *more, *options(iterations, **shared)]
        return finished(folder, processes, *given, log=f"{work}-{iterations}.log")

    def weights(work: str, iterations: int) -> list[torch.Tensor]:
        return list(result(folder / work, iterations)["model"].values())

    name = f"from{before}"
    train(before, name, 4)
    start = weights(name, 4)
    log = train(after, name, 10, "--resume")
    was, now = (f"{n} x {4 // n}" for n in (before, after))
    assert f"Resumed with {now} images in a step (processes x batch_size) instead of {was}" in log
    assert "the same images in each step" in log
    assert " and 16 images, none of which are read again" in log
    train(before, f"all{before}", 10)
    found, expected = (weights(work, 10) for work in (name, f"all{before}"))
    assert relative(found, expected) < 1e-5 < relative(start, expected) / 100


def test_restarts_are_for_one_machine(tmp_path):
    run = tool("dist_train.sh", "c.py", 2, folder=tmp_path, NODES="2", MAX_RESTARTS="1")
    assert run.returncode == 1
    assert run.stderr.startswith("error: MAX_RESTARTS is for one machine")


@pytest.mark.slow
def test_two_runs_on_one_machine(folder):
    """Neither has to be told of a port that the other does not use."""
    short = options(2, train_cfg__val_interval=2)
    with (
        started(folder, 2, "--work-dir", "left", *short, log="left.log") as left,
        started(folder, 2, "--work-dir", "right", *short, log="right.log") as right,
    ):
        assert (left.wait(), right.wait()) == (0, 0)
