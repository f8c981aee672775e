"""Figures of the demo's training step on cores that busy processes share.

Theirs is the same tool as OpenMP and torch.distributed.run set it up: a thread that waits for
another spins, and so occupies a core that the other may need.

The fair share is the time that a step takes if the kernel gives each thread that wants to run the
same time, as Linux does, and none waits for another. ``threads`` threads beside N busy processes
on ``cores`` cores then run at ``cores / (N + threads)`` of their speed, if that is less than 1:

    fair share = time alone * max(1, (N + threads) / cores)

With autogroups (/proc/sys/kernel/sched_autogroup_enabled) the kernel first divides the time among
sessions. torch.distributed.run gives each process a session of its own; then each busy process gets
one, too, and else all stay in this one, so that the time is divided among threads all the same.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from common import THREADS
from threads import WAITING

from fcn_plugin.prepare.shapes import write_shapes
from fcn_plugin.system.machine import available_cores, threads_of
from figures.framework import Figure, Result, Row, Setting, Skipped, quartiles

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "configs" / "fcn8s_vgg16_shapes.py"
# The steps that also initialise libraries, and those that are counted each time.
WARM_UP, STEPS = 4, 4
IMAGES = 64
# libgomp's default: about 3 ms of spinning.
SPINNING = {"GOMP_SPINCOUNT": "300000"}
# Ends with the process whose number it is given.
BUSY = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000): pass
"""


class Tool(NamedTuple):
    """A training tool, with what its users have where fcn_plugin sets nothing."""

    command: tuple[object, ...]
    processes: int
    busy: tuple[int, ...]
    default: dict[str, str]


TRAIN = Tool((sys.executable, REPOSITORY / "tools/train.py", CONFIG), 1, (0, 2, 4, 8), SPINNING)
DIST_TRAIN = Tool(
    ("bash", REPOSITORY / "tools/dist_train.sh", CONFIG, 2),
    2,
    (0, 4),
    SPINNING | {"OMP_NUM_THREADS": "1"},
)


def reading(tool: Tool) -> Callable[[Setting, int], Result]:
    """The figure of a tool: seconds of a step for each number of busy processes."""
    return lambda setting, repeats: shared_cores(tool, setting, repeats)


def shared_cores(tool: Tool, setting: Setting, repeats: int) -> Result:
    if sys.platform != "linux":
        raise Skipped("other systems divide cores otherwise; measure on Linux")
    numbers = tool.busy[:1] if setting.quick else tool.busy
    seconds: dict[tuple[int, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="shared_cores") as name, ExitStack() as stack:
        folder = Path(name)
        write_shapes(folder / "shapes", train=IMAGES, val=1)
        sides = {
            "ours": stack.enter_context(training(tool, folder / "ours", {})),
            "theirs": stack.enter_context(training(tool, folder / "theirs", tool.default)),
        }
        for _ in range(repeats):
            for busy in numbers:
                with busy_processes(busy, sessions=tool.processes > 1):
                    for side, steps in sides.items():
                        seconds.setdefault((busy, side), []).extend(steps(STEPS))
    cores = available_cores()
    one = torch.get_num_threads()
    threads = one if tool.processes == 1 else tool.processes * threads_of(tool.processes)[0]
    alone = median(seconds[0, "ours"])
    rows = []
    for busy in numbers:
        ours, theirs = (seconds[busy, side] for side in ("ours", "theirs"))
        spread = (quartiles(ours), quartiles(theirs))
        rows.append(Row(f"beside {busy} busy", median(ours), "s", median(theirs), spread))
        fair = alone * max(1, (busy + threads) / cores)
        rows.append(Row("  and its fair share", median(ours), "s", fair))
    return Result(tuple(rows), f"{threads} threads on {cores} cores")


@contextmanager
def training(
    tool: Tool, work_dir: Path, environment: dict[str, str]
) -> Iterator[Callable[[int], list[float]]]:
    """A training that is stopped but while a call of the function waits for steps.

    The function gives the seconds of that many steps, without the one it was stopped in.
    """
    options = dict.fromkeys(("train_cfg.max_iters", "param_scheduler.1.end"), 10_000)
    options |= {"param_scheduler.0.end": WARM_UP, "param_scheduler.1.begin": WARM_UP}
    options |= {"default_hooks.logger.interval": 1, "train_cfg.val_interval": 10_000}
    options |= {"log_processor.window_size": 1}  # of whose steps "time" is the mean
    settings = [f"{key}={value}" for key, value in options.items()]
    for name in ("train", "val"):
        settings.append(f"{name}_dataloader.dataset.data_root={work_dir.parent / 'shapes'}")
    # Importing tools/common.py has set these variables in this process, too.
    ours = {*WAITING, *(("OMP_NUM_THREADS", "MKL_NUM_THREADS") if THREADS else ())}
    unset = {name: value for name, value in os.environ.items() if name not in ours}
    unset["PYTHON"] = sys.executable  # for the scripts
    words = [*map(str, tool.command), "--work-dir", str(work_dir), "--cfg-options", *settings]
    with tempfile.TemporaryFile() as output:
        run = subprocess.Popen(words, env=unset | environment, stdout=output, stderr=output)

        def trainers() -> list[int]:
            # torch.distributed.run gives up a machine that is silent for 15 seconds: its own.
            return [*family(run.pid)][tool.processes > 1 :]

        def times() -> list[float]:
            if run.poll() is not None:
                output.seek(0)
                raise RuntimeError(output.read().decode()[-2000:])
            scalars = "".join(file.read_text() for file in work_dir.glob("*/vis_data/scalars.json"))
            # The last line may be half written.
            lines = map(json.loads, scalars.splitlines()[: scalars.count("\n")])
            return [line["time"] for line in lines if "loss" in line]

        def steps(count: int) -> list[float]:
            first = len(times()) + 1
            send(signal.SIGCONT, trainers())
            while len(times()) < first + count:
                time.sleep(0.05)
            send(signal.SIGSTOP, trainers())
            return times()[first : first + count]

        try:
            steps(WARM_UP)
            yield steps
        finally:
            send(signal.SIGKILL, [*family(run.pid)])
            run.wait()


def send(number: int, processes: list[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(process, number)


def family(process: int) -> Iterator[int]:
    """The process and all that it has started."""
    yield process
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


@contextmanager
def busy_processes(count: int, sessions: bool) -> Iterator[None]:
    """Processes that always want to run, each in a session of its own if ``sessions``."""
    command = [sys.executable, "-c", BUSY, str(os.getpid())]
    processes = [subprocess.Popen(command, start_new_session=sessions) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


AGAINST = "threads that spin while they wait"
FIGURES = [
    Figure("demo step, shared cores", "shared", AGAINST, reading=reading(TRAIN), repeats=2),
    Figure("two processes", "shared", AGAINST, reading=reading(DIST_TRAIN), repeats=2),
]
