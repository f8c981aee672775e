"""The machine's processor, and the cores that this process may use.

Cores are limited by the process's affinity (as by ``taskset``, ``docker --cpuset-cpus`` or Slurm),
by the quotas of its control groups (as by ``docker --cpus``), and by Slurm's --cpus-per-task.
"""

import os
import platform
from collections.abc import Callable, Collection, Iterator
from math import ceil, inf
from pathlib import Path

# The control groups of this process, and where their files are: see cgroups(7).
GROUPS, GROUP_FILES = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
TOPOLOGY = Path("/sys/devices/system/cpu")


def processor_name() -> str:
    """The processor's name; on Linux from /proc, which ``platform`` does not read."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """The number of cores that this process may use, each hyperthread as one.

    A quota of 1.5 cores makes two: one thread or process would leave a third of it unused.
    """
    return ceil(min(_limits(len).values()))


def threads_of(processes: int) -> tuple[int, str]:
    """Threads that compute in each of the ``processes`` of this machine, and the reason.

    One for each core, since hyperthreads of a core compute no faster than one. The reason is '' if
    a single process may use all cores of the machine.
    """
    limits = _limits(_physical)
    total, limit = limits[""], min(limits, key=limits.__getitem__)
    threads = max(ceil(limits[limit]) // processes, 1)
    if limit:
        return threads, f"{limit} {limits[limit]:g} of {total:g} cores"
    return threads, f"this machine has {total:g} cores" if processes > 1 else ""


def _limits(count: Callable[[Collection[int]], int]) -> dict[str, float]:
    """Cores of the machine, by ``count`` of its processors' numbers, and of what limits them."""
    processors = range(os.cpu_count() or 1)
    # Only Linux has affinity.
    bound = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else processors
    return {
        "": count(processors),
        "the process is bound to": count(bound),
        "a quota allows": _quota(),
        "Slurm gives a task": int(os.environ.get("SLURM_CPUS_PER_TASK") or count(processors)),
    }


def _physical(processors: Collection[int]) -> int:
    """Cores that the processors belong to; each is one of its own where the system says nothing."""
    siblings = (TOPOLOGY / f"cpu{n}/topology/thread_siblings_list" for n in processors)
    return len({_text(file) or str(file) for file in siblings})


def _quota() -> float:
    """Cores' time that the process may take; infinite without a quota."""
    return min(_quotas(), default=inf)


def _quotas() -> Iterator[float]:
    """Quotas of the process's control groups and all above them, of version 2 and 1."""
    for line in _text(GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be the host's, and only the first folder be there.
        folder = GROUP_FILES / "cpu" if controllers else GROUP_FILES
        for part in path.split("/"):  # "" first
            folder /= part
            words = _text(folder / "cpu.max").split()
            words = words or [_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
            if words[0].strip().isdigit():  # neither "max" nor "-1" nor missing
                yield int(words[0]) / int(words[1])


def _text(file: Path) -> str:
    """What a file of the system says; '' where there is none or it may not be read."""
    try:
        return file.read_text()
    except OSError:
        return ""
