"""tools/train.py is killed at random, again and again, and ends with the same weights."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from engine.runs import same
from tools.running import Fork, config

from fcn_plugin.prepare.shapes import write_shapes

KILLS = 60
ITERATIONS = 90


def train(folder: Path, work_dir: str, life: float | None = None, group: bool = False) -> int:
    """The exit status of a run; killed after ``life`` seconds, with its data loader or alone."""
    with Fork("train.py", "tiny.py", "--work-dir", work_dir, "--resume", folder=folder) as fork:
        process = fork.pid
        if life is not None:
            time.sleep(life)
            with suppress(ProcessLookupError):  # it had ended
                (os.killpg if group else os.kill)(process, signal.SIGKILL)
        done = fork.finished()
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-2000:]
    return done.returncode


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with a config."""
    folder = tmp_path_factory.mktemp("kills")
    write_shapes(folder / "data" / "shapes", train=16, val=3, size=32)
    config(
        folder,
        f"""
train_dataloader.update(num_workers=1)
train_cfg = dict(max_iters={ITERATIONS}, val_interval=30)
param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end={ITERATIONS}, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=8), logger=dict(interval=20))
model["backbone"]["dropout_ratio"] = 0.5
""",
    )
    return folder


@pytest.fixture(scope="module")
def seconds(project) -> float:
    """How long a run takes that nobody disturbs."""
    started = time.monotonic()
    assert train(project, "undisturbed") == 0
    return time.monotonic() - started


def killed(folder: Path, kills: int, seconds: float, seed: int) -> tuple[int, Path]:
    """How often a run was killed before it ended, at most ``kills`` times, and its work dir."""
    draw, work_dir, done = random.Random(seed), f"killed-{seed}", 0
    while done < kills:
        # From its first moments to the end of the run, sooner rather than later.
        life = seconds * draw.random() ** 3
        if train(folder, work_dir, life, group=draw.random() < 0.5) == 0:
            break
        done += 1
    assert train(folder, work_dir) == 0
    return done, folder / work_dir


def ends_alike(one: Path, other: Path) -> bool:
    """In everything that a further iteration depends on, and in the files."""
    checkpoints = [{path.name for path in folder.glob("*.pth")} for folder in (one, other)]
    last = [
        torch.load(folder / f"iter_{ITERATIONS}.pth", weights_only=True) for folder in (one, other)
    ]
    parts = ("state_dict", "optimizer", "param_schedulers")
    return checkpoints[0] == checkpoints[1] and all(
        same(*(c[part] for c in last)) for part in parts
    )


def test_killed_a_few_times(project, seconds):
    kills, folder = killed(project, 4, seconds, seed=0)
    assert kills > 0
    assert ends_alike(folder, project / "undisturbed")


@pytest.mark.slow
def test_killed_at_random(project, seconds):
    """As often as KILLS, in as many runs as that takes."""
    total, seed = 0, 1
    while total < KILLS:
        kills, folder = killed(project, KILLS - total, seconds, seed)
        total, seed = total + kills, seed + 1
        assert ends_alike(folder, project / "undisturbed"), f"after kill {total}, seed {seed}"
    print(f"{total} kills in {seed - 1} runs, all of which ended with the same weights")
