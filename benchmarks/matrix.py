"""Install the wheel beside each family of mmseg, Python and PyTorch; check it and run the tests.

A row is EXTRA:PYTHON:TORCH; TORCH "any" takes what pip chooses. Each has a virtual environment of
its own below the folder, made anew. Reported are the seconds from an empty environment to a doctor
without faults, and what this clone's quick tests say with the installed versions. Interpreters are
taken from the PATH as pythonX.Y. PyTorch's CUDA builds need 6 GB for each row.

python benchmarks/matrix.py onedl:3.13:any --no-tests
python benchmarks/matrix.py openmmlab:3.10:2.10.0 --write matrix.md
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from parsing import ToolParser

REPOSITORY = Path(__file__).parents[1]
SHOWN = ("torch", "numpy", "pillow", "opencv-python", "mmsegmentation", "onedl-mmsegmentation")
COLUMNS = ("family", "Python", *SHOWN[:4], "mmsegmentation", "s to doctor", "quick tests")
# As the Makefile: waiting threads sleep, two processes.
WAITING = dict(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0", PYTHONPATH=str(REPOSITORY))
TESTS = ("-m", "pytest", "-n", "2", "--dist", "loadfile", "-q", "-p", "no:cacheprovider")


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add = parser.group("rows").add_argument
    add("rows", nargs="+", metavar="ROW", help="EXTRA:PYTHON:TORCH")
    add("--no-tests", action="store_true", help="only install and check")
    add("--tests", nargs="*", default=[], metavar="TEST", help="only these, for pytest")
    add = parser.group("what is written").add_argument
    folder = "for environments; default matrix"
    add("--folder", type=Path, default=Path("matrix"), metavar="DIR", help=folder)
    add("--write", type=Path, metavar="FILE", help="add the rows to this table")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    wheel = built(args.folder.resolve())
    failed = False
    lines = []
    for row in args.rows:
        try:
            cells, passed = tried(row, wheel, args)
        except subprocess.CalledProcessError as error:
            cells, passed = (
                [*row.split(":"), f"failed: {error.cmd}, status {error.returncode}"],
                False,
            )
        failed |= not passed
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if args.write:
        head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        old = args.write.read_text().splitlines() if args.write.exists() else head
        args.write.write_text("\n".join([*old, *lines]) + "\n")
        print(f"Done: {args.write}")
    sys.exit(failed)


def built(folder: Path) -> Path:
    """The wheel of this clone."""
    target = folder / "wheel"
    shutil.rmtree(target, ignore_errors=True)
    make = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", target, REPOSITORY)
    subprocess.run(make, check=True)
    (wheel,) = target.glob("*.whl")
    return wheel


def tried(row: str, wheel: Path, args: argparse.Namespace) -> tuple[list[str], bool]:
    """The cells of one row, and whether all went well."""
    family, version, torch = row.split(":")
    home = args.folder.resolve() / row.replace(":", "-")
    torch_pin = ["torch"] if torch == "any" else [f"torch=={torch}"]
    start = time.monotonic()
    subprocess.run((f"python{version}", "-m", "venv", "--clear", home), check=True)
    python = home / "bin/python"
    install(python, f"{wheel}[{family}]", *torch_pin)
    healthy = subprocess.run([home / "bin/fcn-plugin", "doctor"], cwd=home).returncode == 0
    seconds = time.monotonic() - start
    found = versions(python)
    engine = next(found[name] for name in SHOWN[4:] if name in found)
    cells = [family, version, *(found.get(name, "-") for name in SHOWN[:4]), engine]
    cells.append(f"{seconds:.0f}" if healthy else "faults")
    if args.no_tests:
        return [*cells, "not run"], healthy
    install(python, f"{wheel}[{family},export,docs,test]", *torch_pin)
    log = home / "tests.txt"
    with log.open("w") as output:
        done = subprocess.run(
            [python, *TESTS, *args.tests],
            cwd=REPOSITORY,
            env=os.environ | WAITING,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    ends = re.findall(r"^=*\s*((?:\d+ \w+,? ?)+in [^=]+?)\s*=*$", log.read_text(), re.MULTILINE)
    return [*cells, ends[-1] if ends else f"no result, see {log}"], healthy and not done.returncode


def install(python: Path, *requirements: str) -> None:
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements]
    subprocess.run([*map(str, command)], check=True)
    loads = subprocess.run([python, "-c", "import cv2"], capture_output=True).returncode == 0
    if not loads:  # without libGL, as in the Makefile
        extra = ("--force-reinstall", "--no-deps", "opencv-python-headless")
        subprocess.run([*map(str, command[:6]), *extra], check=True)


def versions(python: Path) -> dict[str, str]:
    listed = subprocess.run(
        (python, "-m", "pip", "list", "--format=freeze"), capture_output=True, text=True, check=True
    )
    pairs = (line.partition("==") for line in listed.stdout.splitlines())
    return {name.lower(): version for name, _, version in pairs}


if __name__ == "__main__":
    main()
