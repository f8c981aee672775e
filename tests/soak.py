"""Train and score for an hour, and watch memory, open files, threads and processes.

python tests/soak.py --minutes 60 --csv soak.csv

A run of tools/train.py on drawn shapes, scored and saved every few seconds. Its processes are
looked at every five seconds, in Linux's /proc. The first fifth of the time is for warming up; over
the rest memory may grow by 2 %, and the other three by nothing. Exit status 1 if more.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.prepare.shapes import write_shapes

REPOSITORY = Path(__file__).resolve().parents[1]
PAUSE = 5.0  # seconds between two looks
WARM_UP = 0.2  # of the time
GROWTH = 0.02  # of the memory
SETTINGS = (
    "train_cfg.max_iters=1000000",
    "train_cfg.val_interval=100",
    "default_hooks.checkpoint.interval=50",
    "default_hooks.logger.interval=10",
    "train_dataloader.num_workers=2",
)


class Look(NamedTuple):
    """At all processes of the run together."""

    seconds: float
    memory: float  # MiB of their own; what they share with each other is counted once
    files: int
    threads: int
    processes: int


def look(session: int, since: float) -> Look | None:
    """None while a process begins or ends."""
    try:
        members = [
            stat.parent
            for stat in Path("/proc").glob("[0-9]*/stat")
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session
        ]
        # Without libraries, of which each process on the machine that uses them counts a part.
        kinds = ("Pss_Anon:", "Pss_Shmem:")
        memory = sum(number(p / "smaps_rollup", kind) for p in members for kind in kinds) / 1024
        threads = sum(number(p / "status", "Threads:") for p in members)
        files = sum(len(os.listdir(p / "fd")) for p in members)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Look(time.monotonic() - since, memory, files, threads, len(members))


def number(file: Path, name: str) -> int:
    line = next(line for line in file.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def soak(minutes: float, folder: Path) -> list[Look]:
    """Train in ``folder`` for so long; what was seen meanwhile."""
    write_shapes(folder / "data" / "shapes", train=400, val=50, size=64)
    train = [REPOSITORY / "tools/train.py", REPOSITORY / "configs/fcn8s_vgg16_shapes.py"]
    command = [sys.executable, *train, "--cfg-options", *SETTINGS]
    with (folder / "train.log").open("w") as log:
        run = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    looks: list[Look] = []
    while "Iter(train)" not in (folder / "train.log").read_text() and run.poll() is None:
        time.sleep(PAUSE)
    since = time.monotonic()
    try:
        while (left := since + 60 * minutes - time.monotonic()) > 0:
            time.sleep(min(PAUSE, left))
            if run.poll() is not None:
                sys.exit(f"error: the training ended with {run.returncode}; see {log.name}")
            if found := look(run.pid, since):
                looks.append(found)
                print(f"{found.seconds / 60:5.1f} of {minutes:g} min: {found}", file=sys.stderr)
    finally:
        run.terminate()
        run.wait(60)
    return looks


def verdict(looks: list[Look]) -> tuple[list[str], bool]:
    """A line for each quantity, and whether all stayed flat after warming up."""
    steady = looks[int(len(looks) * WARM_UP) :]
    half = len(steady) // 2
    lines, flat = [], True
    for name, allowed in (("memory", GROWTH), ("files", 0), ("threads", 0), ("processes", 0)):
        seen = [getattr(found, name) for found in steady]
        early, late = statistics.median(seen[:half]), statistics.median(seen[half:])
        kept = late <= early * (1 + allowed)
        flat &= kept
        lines.append(
            f"{name:10} {early:8.1f} in the first half, {late:8.1f} in the second, at most "
            f"{max(seen):8.1f}  {'flat' if kept else 'GROWS'}"
        )
    return lines, flat


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--csv", type=Path, help="write what was seen here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        looks = soak(args.minutes, folder)
        log = (folder / "train.log").read_text()
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows([Look._fields, *looks])
    lines, flat = verdict(looks)
    done = [f"{log.count(words)} x {words}" for words in ("Saving checkpoint", "Iter(val)")]
    print(f"{len(looks)} looks;", ", ".join(done), *lines, sep="\n")
    sys.exit(not flat)


if __name__ == "__main__":
    main()
