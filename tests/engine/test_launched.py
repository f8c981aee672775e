"""Training by several processes as a user starts it; a fault in one ends them all."""

import os
import random
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import torch
from engine.processes import relative
from engine.runs import same
from tools.running import REPOSITORY, Fork, config, tool

from fcn_plugin.prepare.shapes import write_shapes

FAULT = '''
"""One process does something to itself before an iteration, in its first life only."""

import os

from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from fcn_plugin.errors import UserError


@HOOKS.register_module()
class FaultHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        rank, iteration, number = map(int, os.environ["FAULT"].split())
        if (runner.rank, runner.iter) != (rank, iteration):
            return
        if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
            return
        if number == 0:
            raise UserError("cat.jpg: is damaged; copy it again")
        if number < 0:
            data_batch["inputs"][1] = data_batch["inputs"][1] * float("nan")
        else:
            os.kill(os.getpid(), number)
'''
SETTINGS = """
custom_imports = dict(imports=["fcn_plugin", "fault"])
custom_hooks = [dict(type="FaultHook")]
train_cfg.update(val_interval=4)
train_dataloader.update(num_workers=1)
randomness = dict(seed=3)
"""
LATE = """
custom_imports = dict(imports=["fcn_plugin", "engine.late"])
custom_hooks = [dict(type="LateHook")]
train_cfg.update(max_iters=1)
"""
LONG = """
train_dataloader.update(num_workers=1)
train_cfg.update(max_iters=45, val_interval=15)
param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end=45, by_epoch=False)]
default_hooks["checkpoint"].update(interval=4)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With shapes, tiny configs, and a fault that waits to be asked for."""
    folder = tmp_path_factory.mktemp("project")
    write_shapes(folder / "data" / "shapes", train=16, val=7, size=32)
    (folder / "fault.py").write_text(FAULT)
    config(folder, LONG).rename(folder / "long.py")
    config(folder, LATE).rename(folder / "late.py")
    config(folder, SETTINGS)
    return folder


def train(
    folder: Path, work: str, *options: str, processes: int = 2, fault: str = "", **environment: str
):
    """The finished run of so many processes, one of them with the ``fault``."""
    command = f"dist_train.sh tiny.py {processes}" if processes > 1 else "train.py tiny.py"
    path = f"{REPOSITORY}:{folder}"
    environment |= dict(FAULT=fault or "-1 0 0", PYTHONPATH=path)
    run = tool(f"{command} --work-dir {work}", *options, folder=folder, **environment)
    assert run.returncode == bool(fault and "MAX_RESTARTS" not in environment), run.stderr[-3000:]
    return run


def settings(iterations: int = 10, **others: object) -> list[str]:
    given = {"train_cfg.max_iters": iterations} | others
    return ["--cfg-options", *(f"{key.replace('__', '.')}={value}" for key, value in given.items())]


def result(work_dir: Path, iteration: int = 10) -> dict:
    """What a further iteration would depend on."""
    held = torch.load(work_dir / f"iter_{iteration}.pth", weights_only=True)
    kept = {name: held.get(name) for name in ("state_dict", "optimizer", "param_schedulers")}
    hub = held["message_hub"]["runtime_info"]
    return kept | {key: hub.get(key) for key in ("place", "best_score")}


def test_an_error_in_one_process_ends_all_and_is_told(folder):
    run = train(folder, "error", *settings(10**6), fault="1 2 0")
    assert "error: cat.jpg: is damaged; copy it again" in run.stderr.splitlines()


def test_processes_leave_together(folder):
    """None before the first has finished, whatever gloo has still to release."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    group = dict(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    group |= dict(PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'tests'}")
    options = ["late.py", "--launcher", "pytorch", "--work-dir", "late"]
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(
                Fork("train.py", *options, folder=folder, RANK=rank, LOCAL_RANK=rank, **group)
            )
            for rank in "01"
        )
        late = second.finished()
        printed = (first.files / "stdout").read_text()
        early = first.finished()
    assert (early.returncode, late.returncode) == (0, 0), early.stderr + late.stderr
    assert "Next: fcn-plugin" in printed


@pytest.mark.slow
def test_processes_stop_together_at_a_loss_that_is_not_finite(folder):
    """The one whose image is bad names it, the other says that it was not its own."""
    run = train(folder, "nan", *settings(10**6), fault="1 2 -1")
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: process")]
    first, second = sorted(errors)
    assert "this process's batch is not the cause, another's is; the weights before it" in first
    assert "process 1, iteration 3: " in second and "the image itself has nan" in second
    assert (folder / "nan/bad_numbers_iter_3.pth").exists()


@pytest.mark.slow
def test_a_process_that_hangs_ends_all_after_the_timeout(folder):
    short = settings(10**6, env_cfg__dist_cfg__timeout=10)
    run = train(folder, "hung", *short, fault=f"1 5 {signal.SIGSTOP:d}")
    assert "error: another process did not answer for env_cfg.dist_cfg" in run.stderr


@pytest.mark.slow
def test_a_lost_process_is_started_again_and_changes_nothing(folder):
    """All processes are, and go on from the last checkpoint, without --resume."""
    train(folder, "whole", *settings())
    fault = dict(fault=f"1 7 {signal.SIGKILL:d}", MAX_RESTARTS="2")
    assert "resumed epoch: 0, iter: 6" in train(folder, "elastic", *settings(), **fault).stdout
    assert same(result(folder / "elastic"), result(folder / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)], ids=["2 to 1", "1 to 2"])
def test_resumed_with_another_number_of_processes(folder, before, after):
    """The same images in each step, and so the same weights but for rounding."""

    def of(processes: int, iterations: int) -> list[str]:
        return settings(
            iterations,
            train_dataloader__batch_size=4 // processes,
            model__backbone__norm_cfg=None,
            model__backbone__dropout_ratio=0.0,
            optim_wrapper__optimizer__type="SGD",
            optim_wrapper__optimizer__lr=0.1,
        )

    def weights(file: str) -> list[torch.Tensor]:
        return list(torch.load(folder / file, weights_only=False)["state_dict"].values())

    work, whole = f"from{before}", f"all{before}"
    train(folder, work, *of(before, 4), processes=before)
    start = weights(f"{work}/iter_4.pth")
    log = train(folder, work, "--resume", *of(after, 10), processes=after).stdout
    was, now = (f"{n} x {4 // n}" for n in (before, after))
    assert f"Resumed with {now} images in a step (processes x batch_size) instead of {was}" in log
    train(folder, whole, *of(before, 10), processes=before)
    expected = weights(f"{whole}/iter_10.pth")
    found = weights(f"{work}/iter_10.pth")
    assert relative(found, expected) < 1e-5 < relative(start, expected) / 100


def train_once(folder: Path, work: str, life: float | None = None, group: bool = False) -> bool:
    """Whether a run ended that is killed after ``life`` seconds, with its data loader or alone."""
    with Fork("train.py", "long.py", "--work-dir", work, "--resume", folder=folder) as fork:
        process = fork.pid
        if life is not None:
            time.sleep(life)
            with suppress(ProcessLookupError):  # it had ended
                (os.killpg if group else os.kill)(process, signal.SIGKILL)
        done = fork.finished()
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-2000:]
    return done.returncode == 0


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_random(folder, kills):
    """In as many runs as that takes, with the same weights and the same files at their ends."""
    undisturbed, draw, number = folder / f"long-{kills}", random.Random(kills), 0
    began = time.monotonic()
    assert train_once(folder, undisturbed.name)
    seconds = time.monotonic() - began
    while kills:
        work, number = folder / f"killed-{number}", number + 1
        # From its first moments to the end of the run, sooner rather than later.
        while kills and not train_once(
            folder, work.name, seconds * draw.random() ** 3, group=draw.random() < 0.5
        ):
            kills -= 1
        assert train_once(folder, work.name)
        assert same(result(work, 45), result(undisturbed, 45)), work
        names = [sorted(path.name for path in each.glob("*.pth")) for each in (work, undisturbed)]
        assert names[0] == names[1]
