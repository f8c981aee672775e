"""What a curve of growth is, and how one of its points is measured."""

import logging
import resource
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from fcn_plugin.system.memory import free_memory
from figures.framework import alternate, peak_memory

CPU = torch.device("cpu")
WARM = 5  # seconds; a call that took as long need not be repeated for its time
SHARE = 0.8  # of the free memory that a point may use
LACK = ("alloc", "memory", "primitive")  # in errors of torch, OpenCV and oneDNN without memory
Measured = tuple[float, int | None] | str


@dataclass(frozen=True)
class Setting:
    """What all points of a record share; ``folder`` is empty and of one point alone."""

    width: int  # of the network's first stage, 64 in VGG16
    quick: bool = False
    folder: Path = Path()


@dataclass(frozen=True)
class Curve:
    """Time and memory against one quantity.

    Attributes:
        name, group: either chooses it on the command line; a group shares a plot.
        unit: of the points, such as "images".
        points: sizes, in ascending order, or commands.
        setup: of a point; gives what is measured, and is not measured itself.
        reading: or, instead, measures a point by itself: seconds and bytes.
    """

    name: str
    group: str
    unit: str
    points: tuple[float | str, ...]
    setup: Callable[[Any, Setting], Callable[[], object]] | None = None
    reading: Callable[[Any], tuple[float, int | None]] | None = None

    def chosen(self, setting: Setting, most: float | None) -> list[float | str]:
        """The points to measure; ``most`` leaves out larger sizes."""
        points = self.points[:3] if setting.quick else self.points
        return [p for p in points if isinstance(p, str) or most is None or p <= most]


def measured(curve: Curve, at: float | str, setting: Setting) -> Measured:
    """Seconds and peak bytes of a point, in a process of its own; or why it has none."""
    with (
        TemporaryDirectory(prefix="growth-") as folder,
        # A fork has imported everything, and is new in all else.
        ProcessPoolExecutor(1, get_context("fork")) as pool,
    ):
        alone = replace(setting, folder=Path(folder))
        try:
            return pool.submit(_measured, curve, at, alone).result()
        except BrokenProcessPool:
            return "killed from outside, as systems do when memory runs out"


def _measured(curve: Curve, at: float | str, setting: Setting) -> Measured:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    try:
        return curve.reading(at) if curve.reading else _called(curve, at, setting)
    except Exception as error:
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in LACK):
            raise
        return f"more memory than is free ({' '.join(str(error).split())[:100]})"


def _called(curve: Curve, at: float | str, setting: Setting) -> tuple[float, int | None]:
    """Peak bytes of a first call beyond its start, and seconds of a second one."""
    assert curve.setup is not None
    first, second = setting.folder / "first", setting.folder / "second"
    for folder in (first, second):
        folder.mkdir()
    # The smallest point initialises the libraries, which would count as this point's memory.
    curve.setup(curve.points[0], replace(setting, quick=True, folder=first))()
    call = curve.setup(at, replace(setting, folder=second))
    limit_memory()
    start = time.perf_counter()
    memory = peak_memory(call, CPU)
    seconds = time.perf_counter() - start
    if seconds < WARM:
        ((seconds,),) = alternate((call,), 1, CPU)
    return seconds, memory


def limit_memory() -> None:
    """Let this process fail beyond its share of the free memory, before the system kills others."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        used = int(lines["VmData"].split()[0]) * 1024
        limit = used + int(SHARE * free_memory())
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
