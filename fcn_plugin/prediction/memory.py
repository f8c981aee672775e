"""How much memory there is, and how much a prediction takes."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from math import log2
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Of the memory that there is. What is freed is not all given back, and others want some too.
SHARE = 0.7
# Where the system does not tell: free memory, and what Python with the host takes.
UNKNOWN_FREE, UNKNOWN_USED = 4 * 2**30, 2**30

# Kernels have memory of their own beside the tensors (copies in other layouts, sums in parts), and
# an allocator keeps some of what was freed: a process grew by up to 2.1 times the tensors, and once
# by the largest weight besides.
HIDDEN = 2.25
# Sides of the squares that are measured first.
MEASURED = 128
PROPORTIONAL = 4.1  # times the memory for 4 times the pixels

# A cgroup's files: limit, usage, and in memory.stat what of the usage can be dropped.
CGROUP_2 = ("memory.max", "memory.current", "inactive_file")
CGROUP_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def budget(device: torch.device, limit: int | None) -> int:
    """Bytes that a prediction may take on ``device``: of ``limit`` for the whole process, or of
    what is free."""
    if device.type == "cuda":
        free, used = torch.cuda.mem_get_info(device)[0], torch.cuda.memory_allocated(device)
        free += torch.cuda.memory_reserved(device) - used
    else:
        free, used = free_memory(), resident()
    return int(SHARE * (free if limit is None else min(limit - used, free)))


def resident() -> int:
    """Bytes of memory that this process has."""
    try:
        pages = int((PROC / "self/statm").read_text().split()[1])
        return pages * PAGESIZE
    except OSError:
        return UNKNOWN_USED


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, and of its cgroups' limits."""
    frees = list(_cgroups_free())
    with suppress(OSError, StopIteration):
        lines = (PROC / "meminfo").read_text().splitlines()
        frees.append(next(int(line.split()[1]) * 1024 for line in lines if "MemAvail" in line))
    return min(frees, default=UNKNOWN_FREE)


def _cgroups_free() -> Iterator[int]:
    """Of each cgroup that this process is in and that has a limit."""
    with suppress(OSError):
        for line in (PROC / "self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            root, files = (CGROUPS / "memory", CGROUP_1) if kinds else (CGROUPS, CGROUP_2)
            own = root / path.lstrip("/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(root):
                    yield from _free_of(folder, *files)


def _free_of(folder: Path, limit: str, usage: str, droppable: str) -> Iterator[int]:
    # A group without a limit has no such file, or "max" in it.
    with suppress(OSError, ValueError):
        most, used = (int((folder / name).read_text()) for name in (limit, usage))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        yield max(most - used + int(stat.get(droppable, 0)), 0)


class TensorBytes(TorchDispatchMode):
    """While it is entered, counts the bytes of the tensors that are made and not yet dropped.

    On any device; ``peak`` is the most there were at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._made: dict[StorageWeakRef, int] = {}
        self._given: set[StorageWeakRef] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # A view of a weight is not made.
        self._given |= {ref for ref, _ in _storages((args, kwargs)) if ref not in self._made}
        result = func(*args, **kwargs)
        self._made |= {ref: n for ref, n in _storages(result) if ref not in self._given}
        self._made = {ref: n for ref, n in self._made.items() if not ref.expired()}
        self._given = {ref for ref in self._given if not ref.expired()}
        self.peak = max(self.peak, sum(self._made.values()))
        return result


def _storages(values: Any) -> Iterator[tuple[StorageWeakRef, int]]:
    for value in tree_leaves(values):
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            yield StorageWeakRef(storage), storage.nbytes()


def side_within(peak: Callable[[int], int], most: int) -> int:
    """The side of the largest square whose prediction takes at most so many bytes.

    ``peak`` measures the bytes of a square. Of most networks they grow with the pixels, and two
    measurements tell all; where they grow faster, as some attention does, larger squares are
    measured, up to half the side that is returned.
    """
    side = MEASURED
    while True:
        growth = peak(2 * side) / peak(side)
        side *= 2
        if growth <= PROPORTIONAL or peak(side) * growth > most:
            power = max(log2(growth), 2)
            return int(side * (max(most, 0) / peak(side)) ** (1 / power))
