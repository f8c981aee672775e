"""How much memory there is, and whether a picture fits into it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from math import ceil
from mmap import PAGESIZE
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.errors import UserError

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Where the system does not tell: free memory, and what Python with mmseg takes.
UNKNOWN_FREE, UNKNOWN_USED = 4 * 2**30, 2**30

# Bytes a pixel that a picture takes at its most: while it is decoded (4 in Pillow, 3 as BGR, more
# of those that are turned), or later as BGR, as the network's input, its labels and their copies.
PIXEL = 10
SMALL = 2**22  # pixels up to which there is memory, and nobody asks


def resident() -> int:
    """Bytes of memory that this process has."""
    try:
        return int((PROC / "self/statm").read_text().split()[1]) * PAGESIZE
    except OSError:
        return UNKNOWN_USED


def peak_resident() -> int:
    """The most bytes that this process has had; 0 where the system does not tell."""
    return _bytes_in(PROC / "self/status", "VmHWM") or 0


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, and of its cgroups' limits."""
    frees = [*_cgroups_free(), _bytes_in(PROC / "meminfo", "MemAvailable")]
    return min((free for free in frees if free is not None), default=UNKNOWN_FREE)


def _bytes_in(file: Path, name: str) -> int | None:
    """The value of a line such as "VmHWM:  12 kB"."""
    with suppress(OSError, StopIteration):
        lines = file.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    return None


def _cgroups_free() -> Iterator[int]:
    """Of each cgroup (version 2) that this process is in and that has a limit."""
    with suppress(OSError, StopIteration):
        lines = (PROC / "self/cgroup").read_text().splitlines()
        path = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        for name in (path, *map(str, Path(path).parents)):
            # A group without a limit has no such file, or "max" in it.
            with suppress(OSError, ValueError):
                group = CGROUPS / name
                most, used = (
                    int((group / file).read_text()) for file in ("memory.max", "memory.current")
                )
                lines = (group / "memory.stat").read_text().splitlines()
                droppable = int(dict(line.split() for line in lines).get("inactive_file", 0))
                yield max(most - used + droppable, 0)


class Memory(NamedTuple):
    """Bytes of this process: that it has, that it may still take, and the most it has had."""

    used: int
    free: int
    peak: int = 0

    @classmethod
    def of_process(cls) -> "Memory":
        return cls(resident(), free_memory(), peak_resident())

    def left(self, limit: int | None) -> int:
        """Bytes to take, where the process may have ``limit``."""
        return self.free if limit is None else min(limit - self.used, self.free)

    def refuse(
        self, name: str, need: int, limit: int | None, or_else: str = "cut the picture into parts"
    ) -> None:
        """A UserError where ``name`` needs more bytes than are left.

        The message names the limit that would do, and what may be done instead.
        """
        if need <= self.left(limit):
            return
        if limit is None or self.used + need <= limit:
            raise UserError(
                f"{name} needs about {need / 1e9:.1f} GB of memory, {self.free / 1e9:.1f} GB are "
                f"free; free that much, or {or_else}"
            )
        # What has been needed before will be needed again; and no two runs are quite alike.
        would_do = 1.05 * max(self.used + need, self.peak)
        raise UserError(
            f"{name} needs about {(self.used + need) / 1e9:.1f} GB of memory in all, "
            f"{limit / 1e9:.1f} GB are allowed; give --max-memory {ceil(would_do / 1e8)}00MB "
            f"(max_memory), or {or_else}"
        )


def check_picture(
    path: str | Path,
    size: tuple[int, int],
    limit: int | None = None,
    more: Callable[[], int] = lambda: 0,
) -> None:
    """Refuse a picture that there is no memory for, before it is decoded.

    Args:
        size: width and height, from the file's header.
        limit: bytes that this process may have; default: what is free.
        more: bytes that are needed besides, e.g. by the network.

    Raises:
        UserError: it takes more; the message names the memory that would do.
    """
    width, height = size
    if width * height > SMALL:
        name = f"{path}: a picture of {width}x{height} pixels"
        Memory.of_process().refuse(name, PIXEL * width * height + more(), limit)
