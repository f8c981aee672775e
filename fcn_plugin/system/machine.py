"""The machine's processor, and the cores that this process may use."""

import os
import platform
from pathlib import Path


def processor_name() -> str:
    """The processor's name; on Linux from /proc, which ``platform`` does not read."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """The number of cores that this process may use; in a container maybe not all."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        return os.cpu_count() or 1
