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


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder with a config."""
    write_shapes(tmp_path / "data" / "shapes", train=16, val=3, size=32)
    config(
        tmp_path,
        f"""
train_dataloader.update(num_workers=1)
train_cfg = dict(max_iters={ITERATIONS}, val_interval=30)
param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end={ITERATIONS}, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=8), logger=dict(interval=20))
model["backbone"]["dropout_ratio"] = 0.5
""",
    )
    return tmp_path


def outcome(work_dir: Path) -> dict:
    """All that a further iteration depends on, and the files."""
    last = torch.load(work_dir / f"iter_{ITERATIONS}.pth", weights_only=True)
    parts = {name: last[name] for name in ("state_dict", "optimizer", "param_schedulers")}
    return dict(parts, files=sorted(path.name for path in work_dir.glob("*.pth")))


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_random(project, kills):
    """In as many runs as that takes."""
    started, draw = time.monotonic(), random.Random(kills)
    assert train(project, "undisturbed") == 0
    seconds, number = time.monotonic() - started, 0
    undisturbed = outcome(project / "undisturbed")
    while kills:
        work_dir, number = f"killed-{number}", number + 1
        # From its first moments to the end of the run, sooner rather than later.
        while kills and train(
            project, work_dir, seconds * draw.random() ** 3, group=draw.random() < 0.5
        ):
            kills -= 1
        assert train(project, work_dir) == 0
        assert same(outcome(project / work_dir), undisturbed), work_dir
