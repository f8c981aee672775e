"""Figures of how a process gets its memory from Linux: in which pages, and whether it keeps it.

Linux fills memory with zeros before a process gets it. A tensor of more than 32 MB is new memory
each time, unless glibc is told to keep what is freed. Each run is a process of its own, because
torch and glibc read these settings once. Both sides predict or train the same; the labels, or the
losses of the last step, must be equal.
"""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median

from figures.framework import MIB, Figure, Result, Row, Setting, quartiles

BENCHMARKS = Path(__file__).parents[1]
# Prints the seconds of each call but the first, the peak memory in bytes, and a digest.
CALLS = """
import hashlib, json, logging, resource, sys, time, warnings
sys.path += sys.argv[1:3]
warnings.filterwarnings("ignore")
import torch
from figures.growth.curve import Setting
from figures.growth.networks import call
logging.disable(logging.WARNING)
width, trains, pixels, calls = map(float, sys.argv[3:])
torch.manual_seed(0)  # for the weights
one = call("pixels", bool(trains), pixels, Setting(int(width)))
seconds = []
for _ in range(int(calls) + 1):
    torch.manual_seed(0)
    start = time.perf_counter()
    result = one()
    seconds.append(time.perf_counter() - start)
values = result.values() if trains else [result[0].pred_sem_seg.data]
digest = hashlib.sha256(repr([value.tolist() for value in values]).encode()).hexdigest()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([seconds[1:], peak, digest]))
"""
# Environment of ours and of theirs.
PAGES = ({"THP_MEM_ALLOC_ENABLE": "1"}, {"THP_MEM_ALLOC_ENABLE": "0"})
KEPT = ({"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}, {})
WIDTHS, QUICK = {"narrow": 8, "full": 64}, 2


def pages(
    environments: tuple[dict[str, str], dict[str, str]],
    trains: bool,
    width: str,
    pixels: float,
    calls: int,
    setting: Setting,
    repeats: int,
) -> Result:
    """Seconds of a call and peak memory of the process; the two sides alternate."""
    channels, pixels = (QUICK, 0.1) if setting.quick else (WIDTHS[width], pixels)
    paths = [BENCHMARKS, BENCHMARKS.parent / "tools"]
    values = [channels, int(trains), pixels, calls]
    command = [sys.executable, "-c", CALLS, *map(str, [*paths, *values])]
    sides: list[list] = [[], []]
    for _ in range(repeats):
        for side, variables in zip(sides, environments, strict=True):
            environment = os.environ | variables
            shown = subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True
            ).stdout
            side.append(json.loads(shown.splitlines()[-1]))
    if len({digest for side in sides for *_, digest in side}) > 1:
        return Result(disagreement="the results differ")
    times = [[second for seconds, *_ in side for second in seconds] for side in sides]
    ours, theirs = map(median, times)
    spread = tuple(map(quartiles, times))
    peaks = [median(peak for _, peak, _ in side) / MIB for side in sides]
    rows = (Row("time", ours, "s", theirs, spread), Row("memory", peaks[0], "MiB", peaks[1]))
    return Result(rows, "the same results")


WORK = {
    "predict 10 Mpx, an eighth wide": (False, "narrow", 10, 2),
    "predict 1 Mpx": (False, "full", 1, 2),
    "step 512 x 512": (True, "full", 512 * 512 / 1e6, 2),
}
FIGURES = [
    Figure(f"{way}: {name}", "pages", against, reading=partial(pages, both, *work), repeats=3)
    for way, against, both in (
        ("large pages", "pages of 4 KiB", PAGES),
        ("kept", "memory given back", KEPT),
    )
    for name, work in WORK.items()
]
