"""Define and measure figures: two ways to do the same job, run alternately on the same inputs.

A module of figures has a list ``FIGURES`` of ``Figure``. Most figures compare two ``Sides``, ours
and mmseg's or another peer's; a figure of one side, such as a share, has its own ``reading``.
"""

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

MIB = 2**20
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class Skipped(Exception):
    """A figure cannot be measured; the message says why, and what to do."""


@dataclass(frozen=True)
class Setting:
    """Settings that all figures of a run share."""

    device: torch.device  # of networks and tensors
    dtype: torch.dtype = torch.float32  # of networks; bfloat16 by autocast
    quick: bool = False  # tiny sizes, about a second per figure, meaningless results
    peers: Path | None = None  # a clone of wkentaro/pytorch-fcn

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32)


@dataclass(frozen=True)
class Sides:
    """Two ways to do the same job, called alternately."""

    ours: Callable[[], object]
    theirs: Callable[[], object]
    # Asserts that both results agree, and returns a note for the table: "99.999 % equal".
    agree: Callable[[Any, Any], str] | None = None
    unit: str = "ms"  # of the time of one item: "s", "ms" or "us"
    per: int = 1  # items in one call
    count: bool = False  # whether to count the operations of convolutions and matrix products


@dataclass(frozen=True)
class Row:
    """One quantity of a figure, in ``unit``; ``quartiles`` are those of ours, then of theirs."""

    quantity: str
    ours: float
    unit: str
    theirs: float | None = None
    quartiles: tuple[list[float], ...] | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None


@dataclass(frozen=True)
class Result:
    """The rows of a figure, or why it was skipped, or how its sides disagree."""

    rows: tuple[Row, ...] = ()
    word: str = ""  # shown below the rows
    # For the JSON file; the table also shows "operations_per_second", ours first.
    details: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""
    disagreement: str = ""


@dataclass(frozen=True)
class Figure:
    """One figure of the table, with either a ``setup`` or a ``reading``.

    ``setup`` builds both sides on the same inputs, and is not timed. ``reading`` measures by
    itself, with a number of repeats. Either raises ``Skipped`` if it cannot be measured.
    """

    name: str  # chooses it on the command line; so does the group
    group: str  # one of ``figures.GROUPS``
    against: str  # the other side, such as "mmseg: resize + CrossEntropyLoss + accuracy"
    setup: Callable[[Setting], Sides] | None = None
    reading: Callable[[Setting, int], Result] | None = None
    repeats: int = 5  # timed calls of each side


def measure(figure: Figure, setting: Setting, repeats: int | None = None) -> Result:
    """The result of one figure.

    Args:
        repeats: timed calls of each side; default: the figure's own number, 1 if quick.
    """
    repeats = repeats or (1 if setting.quick else figure.repeats)
    try:
        if figure.reading is not None:
            return figure.reading(setting, repeats)
        return _compare(figure.setup(setting), setting.device, repeats)
    except Skipped as why:
        return Result(skipped=str(why))


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
    """Seconds of each of ``repeats`` runs of each call; the calls alternate."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            synchronize(device)
            start = time.perf_counter()
            result = call()
            synchronize(device)
            taken.append(time.perf_counter() - start)
            del result  # frees it outside the next call's time
    return times


def quartiles(values: list[float]) -> list[float]:
    """First and third quartile; a single value is both."""
    if len(values) == 1:
        return values * 2
    first, _, third = quantiles(values, n=4, method="inclusive")
    return [first, third]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """Peak bytes that ``call`` adds to the memory in use, including its result.

    On CUDA these are bytes of the allocator; elsewhere resident memory of the process, so that
    arrays of numpy and OpenCV count. None if the system does not report it, as only Linux does.
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
        # Return freed memory to the system, so that using it again counts, and reset the peak.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        return None
    before = _status("VmRSS")
    call()
    return max(_status("VmHWM") - before, 0)


def _status(name: str) -> int:
    """Bytes in a line of /proc/self/status, which is in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
