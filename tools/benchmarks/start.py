"""How soon the tools answer."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.framework import Figure, Reading, Setting, quartiles

TRAIN = Path(__file__).parents[1] / "train.py"


def start(setting: Setting, repeats: int) -> Reading:
    """Seconds of ``tools/train.py --help``, from the command to its end."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        subprocess.run([sys.executable, TRAIN, "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return Reading(median(times), "s", "time", details=dict(quartiles=quartiles(times)))


FIGURES = [
    Figure("train.py --help", "tools", "seconds to its end", reading=start, value_bar=2.0),
]
