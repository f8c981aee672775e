"""What a figure is, and how it is measured: two ways of one job, in turn, on the same inputs.

A module of figures has a list ``FIGURES`` of ``Figure``. Most figures compare ``Sides``, ours and
the host's or a peer's; one that is a share, a count or a number of seconds is a ``Reading``.
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


@dataclass(frozen=True)
class Setting:
    """What all figures of a run share.

    Args:
        device: where networks and tensors are; figures that need none ignore it.
        dtype: of the networks' computation; torch.bfloat16 means autocast to it.
        batch: images in a batch; None leaves it to the figure.
        quick: sizes so small that a figure takes about a second. It then says nothing.
        peers: folder of a clone of wkentaro/pytorch-fcn.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    batch: int | None = None
    quick: bool = False
    peers: Path | None = None


@dataclass(frozen=True)
class Sides:
    """Two ways of the same job; one call is one repeat.

    Args:
        ours, theirs: called in turn: ours, theirs, ours, theirs, ...
        agree: asserts that both results agree, and returns a word for the table, such as
            "99.999 % equal".
        unit: of the time of one item: "s", "ms" or "us".
        per: items in one call; times are divided by it.
        count: count both sides' floating-point operations, of matrix products and convolutions.
    """

    ours: Callable[[], object]
    theirs: Callable[[], object]
    agree: Callable[[Any, Any], str] | None = None
    unit: str = "ms"
    per: int = 1
    count: bool = False


@dataclass(frozen=True)
class Reading:
    """A figure that is one number: a share, a count, seconds of a process.

    Args:
        value: the number to hold against the figure's bar.
        unit: of the value; empty for a share.
        quantity: what it is, for the table: "not convolution".
        beside: other quantities of it, without bars.
        word: said below it in the table, such as what else was found.
        details: whatever belongs into the JSON file; "operations_per_second" (a list, ours first)
            is also held against the machine's matrix products.
    """

    value: float
    unit: str = ""
    quantity: str = "share"
    beside: "tuple[Row, ...]" = ()
    word: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """One figure of the table.

    Args:
        name: chosen by it on the command line.
        group: one of ``figures.GROUPS``; also a group's name chooses.
        against: what it is compared with: "mmseg: resize + CrossEntropyLoss + accuracy".
        setup: builds the inputs, the same for both sides; it is not timed. Raises ``Skipped``
            where the figure cannot be had. A function of the setting and the number of repeats
            that measures by itself is given as ``reading`` instead.
        time_bar: at most this ratio of our time to theirs.
        memory_bar: at most this ratio of our peak memory to theirs.
        operations_bar: at most this ratio of our operations to theirs, if they are counted.
        value_bar: at most this, for a ``Reading``.
        repeats: timed calls of each side.
        bars_on: kinds of device whose figures are held against the bars.
    """

    name: str
    group: str
    against: str
    setup: Callable[[Setting], Sides] | None = None
    time_bar: float | None = None
    memory_bar: float | None = None
    repeats: int = 5
    reading: Callable[[Setting, int], Reading] | None = None
    value_bar: float | None = None
    operations_bar: float | None = None
    bars_on: tuple[str, ...] = ("cpu", "cuda")


class Skipped(Exception):
    """Why a figure cannot be had, and what to do about it."""


@dataclass(frozen=True)
class Row:
    """One quantity of a figure.

    ``theirs`` and ``ratio`` are None where there is nothing to compare, ``bar`` where there is
    none to hold it against. ``quartiles`` are of ours and of theirs, in ``unit``.
    """

    quantity: str
    ours: float
    unit: str
    theirs: float | None = None
    bar: float | None = None
    quartiles: tuple[list[float], list[float]] | None = None

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
    """A figure that was measured, or why it was skipped, or how its sides disagreed."""

    figure: Figure
    rows: tuple[Row, ...] = ()
    word: str = ""
    skipped: str = ""
    disagreement: str = ""
    details: dict[str, Any] = field(default_factory=dict)


SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def measure(
    figure: Figure,
    setting: Setting,
    repeats: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Measure one figure; bars are left out on other devices and with ``setting.quick``.

    Args:
        repeats: timed calls of each side; default the figure's own, one if quick.
        clock: seconds, for tests.
    """
    repeats = repeats or (1 if setting.quick else figure.repeats)
    try:
        if figure.reading is not None:
            result = _read(figure, figure.reading(setting, repeats))
        else:
            assert figure.setup is not None, f"{figure.name} has neither setup nor reading"
            result = _compare(figure, figure.setup(setting), setting.device, repeats, clock)
    except Skipped as why:
        return Result(figure, skipped=str(why))
    if setting.quick or setting.device.type not in figure.bars_on:
        return replace(result, rows=tuple(replace(row, bar=None) for row in result.rows))
    return result


def _read(figure: Figure, reading: Reading) -> Result:
    row = Row(reading.quantity, reading.value, reading.unit, bar=figure.value_bar)
    return Result(figure, (row, *reading.beside), reading.word, details=reading.details)


def _compare(
    figure: Figure,
    sides: Sides,
    device: torch.device,
    repeats: int,
    clock: Callable[[], float],
) -> Result:
    counted = (FlopCounterMode(display=False), FlopCounterMode(display=False))
    results = []
    for call, counter in zip((sides.ours, sides.theirs), counted, strict=True):
        with counter if sides.count else nullcontext():
            results.append(call())
    try:
        word = sides.agree(*results) if sides.agree else ""
    except AssertionError as error:
        why = str(error).partition("\n")[0] or "the results differ"
        return Result(figure, disagreement=why)
    del results
    factor = SECONDS[sides.unit] * sides.per
    ours, theirs = (
        [seconds / factor for seconds in times]
        for times in alternate([sides.ours, sides.theirs], repeats, device, clock)
    )
    spread = (quartiles(ours), quartiles(theirs))
    rows = [Row("time", median(ours), sides.unit, median(theirs), figure.time_bar, spread)]
    taken = [median(ours) * factor, median(theirs) * factor]
    details: dict[str, Any] = {"items_per_second": [sides.per / seconds for seconds in taken]}
    peaks = [peak_memory(call, device) for call in (sides.ours, sides.theirs)]
    if None not in peaks:
        mine, peer = (peak / MIB for peak in peaks if peak is not None)
        rows.append(Row("memory", mine, "MiB", peer, figure.memory_bar))
    if sides.count:
        operations = [counter.get_total_flops() for counter in counted]
        mine, peer = (count / 1e9 for count in operations)
        rows.append(Row("operations", mine, "GFLOP", peer, figure.operations_bar))
        details["operations_per_second"] = [
            count / seconds for count, seconds in zip(operations, taken, strict=True)
        ]
    return Result(figure, tuple(rows), word, details=details)


def alternate(
    calls: list[Callable[[], object]],
    repeats: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Seconds of each call, called in turn, ``repeats`` times each."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            synchronize(device)
            start = clock()
            result = call()
            synchronize(device)
            taken.append(clock() - start)
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

    On CUDA of what the allocator hands out. Elsewhere of the process's resident memory, so that
    numpy's and OpenCV's arrays count; only Linux tells, and None is returned if it does not.
    """
    gc.collect()
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if not _start_peak():
        return None
    before = _status("VmRSS")
    call()
    return max(_status("VmHWM") - before, 0)


def _start_peak() -> bool:
    """Give freed memory back, which would hide what is taken again, and forget the last peak."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        return False
    return sys.platform == "linux"


def _status(name: str) -> int:
    """Bytes of a line of /proc/self/status, which counts in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status: no {name}")
