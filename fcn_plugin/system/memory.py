"""Measure memory, and check whether a picture fits into it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from math import ceil
from mmap import PAGESIZE
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.errors import UserError

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Guesses for systems without /proc: free memory, and what Python with mmseg uses.
UNKNOWN_FREE, UNKNOWN_USED = 4 * 2**30, 2**30

# Peak bytes per pixel of a picture: while it is decoded (4 in Pillow, 3 as BGR, more if it is
# turned), or later as BGR, as the network's input, its labels and their copies.
PIXEL = 10
SMALL = 2**22  # pixels; smaller pictures are not checked


def resident() -> int:
    """Bytes of memory that this process uses."""
    try:
        return int((PROC / "self/statm").read_text().split()[1]) * PAGESIZE
    except OSError:
        return UNKNOWN_USED


def peak_resident() -> int:
    """The most bytes that this process has used so far; 0 if unknown."""
    return _bytes_in(PROC / "self/status", "VmHWM") or 0


def free_memory() -> int:
    """Bytes that this process may still allocate, by the machine and by its cgroups' limits."""
    frees = [*_cgroups_free(), _bytes_in(PROC / "meminfo", "MemAvailable")]
    return min((free for free in frees if free is not None), default=UNKNOWN_FREE)


def _bytes_in(file: Path, name: str) -> int | None:
    """The bytes in a line such as "VmHWM:  12 kB"; None if there is none."""
    with suppress(OSError, StopIteration):
        lines = file.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    return None


def _cgroups_free() -> Iterator[int]:
    """Free bytes of each cgroup (version 2) of this process that has a limit."""
    with suppress(OSError, StopIteration):
        lines = (PROC / "self/cgroup").read_text().splitlines()
        path = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        for name in (path, *map(str, Path(path).parents)):
            # Without a limit the file is missing or contains "max".
            with suppress(OSError, ValueError):
                group = CGROUPS / name
                most, used = (
                    int((group / file).read_text()) for file in ("memory.max", "memory.current")
                )
                lines = (group / "memory.stat").read_text().splitlines()
                droppable = int(dict(line.split() for line in lines).get("inactive_file", 0))
                yield max(most - used + droppable, 0)


class Memory(NamedTuple):
    """Bytes of this process: used now, still free, and the most used so far."""

    used: int
    free: int
    peak: int = 0

    @classmethod
    def of_process(cls) -> "Memory":
        return cls(resident(), free_memory(), peak_resident())

    def left(self, limit: int | None) -> int:
        """Bytes that may still be allocated if the process may use ``limit`` in all."""
        return self.free if limit is None else min(limit - self.used, self.free)

    def refuse(
        self, name: str, need: int, limit: int | None, or_else: str = "cut the picture into parts"
    ) -> None:
        """Raise ``UserError`` if ``name`` needs more bytes than are left.

        The message gives a limit that is enough, and an alternative.
        """
        if need <= self.left(limit):
            return
        if limit is None or self.used + need <= limit:
            raise UserError(
                f"{name} needs about {need / 1e9:.1f} GB of memory, {self.free / 1e9:.1f} GB are "
                f"free; free that much, or {or_else}"
            )
        # The next run will reach this run's peak again; 5 % more, because runs differ a little.
        enough = 1.05 * max(self.used + need, self.peak)
        raise UserError(
            f"{name} needs about {(self.used + need) / 1e9:.1f} GB of memory in all, "
            f"{limit / 1e9:.1f} GB are allowed; give --max-memory {ceil(enough / 1e8)}00MB "
            f"(max_memory), or {or_else}"
        )


def check_picture(
    path: str | Path,
    size: tuple[int, int],
    limit: int | None = None,
    more: Callable[[], int] = lambda: 0,
) -> None:
    """Raise an error, before a picture is decoded, if memory is too small for it.

    Args:
        size: width and height, from the file's header.
        limit: bytes that this process may use in all; default: what is free.
        more: gives bytes that are needed in addition, e.g. by the network.

    Raises:
        UserError: there is not enough memory; the message says how much is.
    """
    width, height = size
    if width * height > SMALL:
        name = f"{path}: a picture of {width}x{height} pixels"
        Memory.of_process().refuse(name, PIXEL * width * height + more(), limit)
