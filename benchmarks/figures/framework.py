"""What a figure is, and how it is measured: two ways of one job, in turn, on the same inputs.

A module of figures has a list ``FIGURES`` of ``Figure``. Most figures compare ``Sides``, ours and
mmseg's or a peer's; a figure that is a share or a number of seconds measures by itself.
"""

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

MIB = 2**20
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class Skipped(Exception):
    """Why a figure cannot be measured, and what to do about it."""


@dataclass(frozen=True)
class Setting:
    """What all figures of a run share."""

    device: torch.device  # of networks and tensors; figures without any ignore it
    dtype: torch.dtype = torch.float32  # of the networks' computation; bfloat16 by autocast
    batch: int | None = None  # images in a batch; None leaves it to the figure
    quick: bool = False  # sizes so small that a figure takes about a second and says nothing
    peers: Path | None = None  # a clone of wkentaro/pytorch-fcn

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32)


@dataclass(frozen=True)
class Sides:
    """Two ways of the same job, called in turn: ours, theirs, ours, theirs, ..."""

    ours: Callable[[], object]
    theirs: Callable[[], object]
    # Asserts that both results agree, and returns a word for the table: "99.999 % equal".
    agree: Callable[[Any, Any], str] | None = None
    unit: str = "ms"  # of the time of one item: "s", "ms" or "us"
    per: int = 1  # items in one call
    count: bool = False  # the floating-point operations of matrix products and convolutions


@dataclass(frozen=True)
class Row:
    """One quantity of a figure, in ``unit``; ``quartiles`` are of ours and of theirs.

    ``bar`` is the highest ratio that is good enough, without ``theirs`` the highest of ours.
    """

    quantity: str
    ours: float
    unit: str
    theirs: float | None = None
    quartiles: tuple[list[float], ...] | None = None
    bar: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None

    @property
    def met(self) -> bool | None:
        """Whether it is within its bar; None without one."""
        if self.bar is None:
            return None
        value = self.ratio if self.theirs is not None else self.ours
        return value is not None and value <= self.bar


@dataclass(frozen=True)
class Result:
    """The rows of a figure, or why it was skipped, or how its sides disagreed."""

    rows: tuple[Row, ...] = ()
    word: str = ""  # shown below the rows
    # For the JSON file; "operations_per_second", ours first, the table compares with the machine's.
    details: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""
    disagreement: str = ""


@dataclass(frozen=True)
class Figure:
    """One figure of the table: either ``setup`` or, if it measures by itself, ``reading``.

    ``setup`` builds the inputs, the same for both sides; it is not timed. ``reading`` gets the
    number of repeats as well. Either raises ``Skipped`` where the figure cannot be measured.
    """

    name: str  # chosen by it, or by its group, on the command line
    group: str  # one of ``figures.GROUPS``
    against: str  # what it is compared with: "mmseg: resize + CrossEntropyLoss + accuracy"
    setup: Callable[[Setting], Sides] | None = None
    reading: Callable[[Setting, int], Result] | None = None
    bars: dict[str, float] = field(default_factory=dict)  # by quantity
    repeats: int = 5  # timed calls of each side
    bars_on: tuple[str, ...] = ("cpu", "cuda")  # devices whose figures are held against the bars


def measure(figure: Figure, setting: Setting, repeats: int | None = None) -> Result:
    """Measure one figure; bars are left out on other devices and with ``setting.quick``.

    Args:
        repeats: timed calls of each side; default the figure's own, one if quick.
    """
    repeats = repeats or (1 if setting.quick else figure.repeats)
    try:
        if figure.reading is not None:
            result = figure.reading(setting, repeats)
        else:
            result = _compare(figure.setup(setting), setting.device, repeats)
    except Skipped as why:
        return Result(skipped=str(why))
    judged = not setting.quick and setting.device.type in figure.bars_on
    bars = figure.bars if judged else {}
    rows = (replace(row, bar=bars.get(row.quantity)) for row in result.rows)
    return replace(result, rows=tuple(rows))


def _compare(sides: Sides, device: torch.device, repeats: int) -> Result:
    calls = (sides.ours, sides.theirs)
    counters = [FlopCounterMode(display=False) for _ in calls]
    results = []
    for call, counter in zip(calls, counters, strict=True):
        with counter if sides.count else nullcontext():
            results.append(call())
    try:
        word = sides.agree(*results) if sides.agree else ""
    except AssertionError as error:
        why = str(error).partition("\n")[0] or "the results differ"
        return Result(disagreement=why)
    del results
    times = alternate(calls, repeats, device)
    seconds = [median(taken) for taken in times]
    factor = SECONDS[sides.unit] * sides.per
    ours, theirs = (taken / factor for taken in seconds)
    spread = tuple([quartile / factor for quartile in quartiles(taken)] for taken in times)
    rows = [Row("time", ours, sides.unit, theirs, spread)]
    details = {"items_per_second": [sides.per / taken for taken in seconds]}
    peaks = [peak_memory(call, device) for call in calls]
    if None not in peaks:
        ours, theirs = (peak / MIB for peak in peaks if peak is not None)
        rows.append(Row("memory", ours, "MiB", theirs))
    if sides.count:
        counts = [counter.get_total_flops() for counter in counters]
        rows.append(Row("operations", counts[0] / 1e9, "GFLOP", counts[1] / 1e9))
        rates = [count / taken for count, taken in zip(counts, seconds, strict=True)]
        details["operations_per_second"] = rates
    return Result(tuple(rows), word, details)


def alternate(
    calls: tuple[Callable[[], object], ...], repeats: int, device: torch.device
) -> list[list[float]]:
    """Seconds of each call, called in turn, ``repeats`` times each."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            synchronize(device)
            start = time.perf_counter()
            result = call()
            synchronize(device)
            taken.append(time.perf_counter() - start)
            del result  # not within the next call's time
    return times


def quartiles(values: list[float]) -> list[float]:
    """First and third quartile; of one value, itself twice."""
    if len(values) == 1:
        return values * 2
    first, _, third = quantiles(values, n=4, method="inclusive")
    return [first, third]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that ``call`` needs at its peak above what is there before, its result included.

    On CUDA what the allocator hands out. Elsewhere the process's resident memory, so that numpy's
    and OpenCV's arrays count; None where the system is not Linux, which alone tells it.
    """
    gc.collect()
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if sys.platform != "linux":
        return None
    try:
        # Give freed memory back, which would hide what is taken again, and forget the last peak.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        return None
    before = _status("VmRSS")
    call()
    return max(_status("VmHWM") - before, 0)


def _status(name: str) -> int:
    """Bytes of a line of /proc/self/status, which counts in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
