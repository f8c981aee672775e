"""Training by several processes as a user starts it, and what is done to them meanwhile."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from tools.running import REPOSITORY, TOOLS, config

from fcn_plugin.prepare.shapes import write_shapes

MARK = "FCN_PLUGIN_TEST_RUN"  # in the environment of all that a run starts
LIMIT = 240  # seconds
FAULT = '''
"""One process does something to itself before an iteration, in its first life only."""

import os

import numpy as np
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from fcn_plugin.errors import UserError


@HOOKS.register_module()
class FaultHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        rank, iteration, number = map(int, os.environ.get("FAULT", "-1 0 0").split())
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
"""


def project(folder: Path) -> Path:
    """A folder with shapes, a tiny config, tiny.py, and a fault that waits to be asked for."""
    write_shapes(folder / "data" / "shapes", train=16, val=7, size=32)
    (folder / "fault.py").write_text(FAULT)
    config(folder, SETTINGS)
    return folder


class Run:
    """Processes of tools/dist_train.sh, or of tools/train.py for one; ``log`` is what they say."""

    def __init__(
        self, folder: Path, processes: int, *options: object, log: str = "log", **environment: str
    ) -> None:
        self.log, self.mark = folder / log, f"{folder}/{log}"
        command = [sys.executable, TOOLS / "train.py", "tiny.py"]
        if processes > 1:
            command = ["bash", TOOLS / "dist_train.sh", "tiny.py", processes]
        with self.log.open("w") as log_file:
            self.launcher = subprocess.Popen(
                [*map(str, command), *map(str, options)],
                cwd=folder,
                env=os.environ
                | {MARK: self.mark, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
                | dict(PYTHONPATH=f"{REPOSITORY}:{folder}")
                | environment,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """All that the run has started, whoever their parents are by now; zombies are none."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # those of other users cannot be read, and some end meanwhile
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def wait(self) -> int:
        return self.launcher.wait(LIMIT)

    def left_after(self, seconds: float) -> list[int]:
        """The processes that are still there so long after the launcher has ended."""
        end = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.2)
        return left

    def wait_for(self, pattern: str) -> None:
        """Until the log has it."""
        end = time.monotonic() + LIMIT
        while not re.search(pattern, self.log.read_text()):
            assert self.launcher.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """All of its processes at once, as far as that can be."""
        while found := self.processes():
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.launcher.wait(LIMIT)


@contextmanager
def started(*arguments: object, **settings: str) -> Iterator[Run]:
    """A ``Run``; nothing of it is left afterwards."""
    run = Run(*arguments, **settings)  # type: ignore[arg-type]
    try:
        yield run
    finally:
        run.kill()


def finished(*arguments: object, **settings: str) -> str:
    """The log of a run that succeeds."""
    with started(*arguments, **settings) as run:
        assert run.wait() == 0, run.log.read_text()[-3000:]
        return run.log.read_text()


def result(work_dir: Path, iteration: int) -> dict:
    """What a further iteration would depend on; all of it compares bit for bit."""
    held = torch.load(work_dir / f"iter_{iteration}.pth", weights_only=False)
    hub = held["message_hub"]["runtime_info"]
    kept = {key: hub.get(key) for key in ("place", "best_score")}
    return dict(model=held["state_dict"], optimizer=held["optimizer"], **kept)
