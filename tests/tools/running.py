"""Run the tools as a user does: in a process of their own, in a folder of one's own."""

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]
TOOLS, BENCHMARKS = REPOSITORY / "tools", REPOSITORY / "benchmarks"
# What a user's shell would have set; the tests are to find the clone that they belong to.
ENVIRONMENT = dict(PYTHON=sys.executable, PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS="1")
PATIENCE = 300  # seconds


def script(name: str) -> Path:
    """The file of a tool, or of a benchmark."""
    return next(folder / name for folder in (TOOLS, BENCHMARKS) if (folder / name).exists())


def tool(command: str, *options: object, folder: Path, **environment: str):
    """The finished process of tools/COMMAND, whose words may all stand in one text.

    A tool in Python is a fork of a process that has imported mmseg, unless its environment is
    changed, which may matter to the imports. ``started`` starts it as a user does. Its output goes
    to no terminal, and has no colours.
    """
    name, *words = command.split()
    options = (*words, *options)
    if name.endswith(".py") and not environment:
        with Fork(name, *options, folder=folder) as fork:
            done = fork.finished()
    else:
        done = started(name, *options, folder=folder, **environment)
    assert "\x1b" not in done.stdout + done.stderr
    return done


def ran(command: str, *options: object, folder: Path, **environment: str):
    """As ``tool``, of a process that has succeeded."""
    done = tool(command, *options, folder=folder, **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def started(name: str, *options: object, folder: Path, **environment: str):
    """The finished process of tools/NAME, started from nothing."""
    path = script(name)
    command = ["bash", path] if path.suffix == ".sh" else [sys.executable, path]
    return subprocess.run(
        [*map(str, command), *map(str, options)],
        cwd=folder,
        env=os.environ | ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@contextmanager
def as_module(name: str) -> Iterator[ModuleType]:
    """tools/NAME.py imported, with what lies beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        patch.delitem(sys.modules, name, raising=False)
        yield importlib.import_module(name)


class Fork:
    """A run of tools/NAME as a fork of a process that has imported everything (``forked.py``)."""

    def __init__(self, name: str, *options: object, folder: Path, **environment: str) -> None:
        self.argv = [str(script(name)), *map(str, options)]
        self._own = tempfile.TemporaryDirectory(prefix="fork-")
        self.files = Path(self._own.name)
        env = os.environ | ENVIRONMENT | environment
        order = dict(argv=self.argv, cwd=str(folder), env=env, folder=self._own.name)
        server = _server()
        assert server.stdin is not None
        # One write, so that several threads may ask.
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()

    def __enter__(self) -> "Fork":
        return self

    def __exit__(self, *error: object) -> None:
        self._own.cleanup()

    @property
    def pid(self) -> int:
        """Its process and process group; waits until it has begun."""
        return self._told("pid")

    def finished(self) -> subprocess.CompletedProcess:
        """As of ``subprocess.run``; waits until it has ended."""
        status = self._told("status")
        output = [
            file.read_text(errors="replace") if file.exists() else ""
            for file in (self.files / "stdout", self.files / "stderr")
        ]
        return subprocess.CompletedProcess(self.argv, status, *output)

    def _told(self, name: str) -> int:
        deadline = time.monotonic() + PATIENCE
        while not (self.files / name).exists():
            if _server().poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"{self.argv}: no {name}")
            time.sleep(0.01)
        return int((self.files / name).read_text())


@cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("forked.py")],
        env=os.environ | ENVIRONMENT,
        stdin=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)
    return server


def config(folder: Path, extra: str = "") -> Path:
    """A config of a tiny FCN-8s on tiny shapes, four iterations of four images."""
    path = folder / "tiny.py"
    path.write_text(
        f"""
_base_ = "{REPOSITORY}/configs/fcn8s_vgg16_shapes.py"
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(depth=11, base_channels=2, fc_channels=8),
    decode_head=dict(in_channels=(8, 16, 8)),
)
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=4, val_interval=4)
param_scheduler = None
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
{extra}
"""
    )
    return path
