"""Train and score for an hour, and watch memory, open files, threads and processes.

python tests/soak.py --minutes 60

A run of tools/train.py on drawn shapes, scored and saved every few seconds. Its processes are
looked at every five seconds, in Linux's /proc. The first fifth of the time is for warming up; over
the rest memory may grow by 2 %, and the other three by nothing. Exit status 1 if more.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from fcn_plugin.prepare.shapes import write_shapes

REPOSITORY = Path(__file__).resolve().parents[1]
TRAIN = [REPOSITORY / "tools/train.py", REPOSITORY / "configs/fcn8s_vgg16_shapes.py"]
PAUSE = 5.0  # seconds between two looks
WARM_UP = 0.2  # of the time
# What is looked at, and by how much it may grow.
GROWTH = {"MiB of memory": 0.02, "files": 0, "threads": 0, "processes": 0}
SETTINGS = (
    "train_cfg.max_iters=1000000",
    "train_cfg.val_interval=100",
    "default_hooks.checkpoint.interval=50",
    "default_hooks.logger.interval=10",
    "train_dataloader.num_workers=2",
)


def look(session: int) -> tuple[float, ...] | None:
    """The quantities of GROWTH, of all processes together; None while one begins or ends.

    Memory is their own; what they share with each other is counted once.
    """
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
    return memory, files, threads, len(members)


def number(file: Path, name: str) -> int:
    line = next(line for line in file.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def soak(minutes: float, folder: Path) -> list[tuple[float, ...]]:
    """Train in ``folder`` for so long; what was seen meanwhile."""
    write_shapes(folder / "data" / "shapes", train=400, val=50, size=64)
    log, looks = folder / "train.log", []
    command = [sys.executable, *TRAIN, "--cfg-options", *SETTINGS]
    with log.open("w") as file:
        run = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=file, start_new_session=True
        )
    try:
        end = None
        while end is None or time.monotonic() < end:
            time.sleep(PAUSE)
            if run.poll() is not None:
                sys.exit(f"error: the training ended:\n{log.read_text()[-2000:]}")
            if end is None and "Iter(train)" in log.read_text():
                end = time.monotonic() + 60 * minutes
            if end is not None and (seen := look(run.pid)):
                looks.append(seen)
    finally:
        run.terminate()
        run.wait(60)
    return looks


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        looks = soak(minutes, Path(folder))
        log = (Path(folder) / "train.log").read_text()
    for words in ("Saving checkpoint", "Iter(val)"):
        print(f"{log.count(words)} x {words}")
    steady, flat = looks[int(len(looks) * WARM_UP) :], True
    half = len(steady) // 2
    for (name, allowed), seen in zip(GROWTH.items(), zip(*steady, strict=True), strict=True):
        early, late = median(seen[:half]), median(seen[half:])
        flat &= late <= early * (1 + allowed)
        print(
            f"{name}: {early:.1f} in the first half, {late:.1f} in the second, at most {max(seen)}"
        )
    print("flat" if flat else "GROWS")
    sys.exit(not flat)


if __name__ == "__main__":
    main()
