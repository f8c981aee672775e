"""Check an installation, and say how to mend what is wrong.

It looks at packages, GPU, threads, disk and shared memory, and trains a tiny network on drawn
pictures in a temporary folder. The exit status is 0 if there is no fault.

fcn-plugin doctor
fcn-plugin doctor --quick --json doctor.json
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import checkup
from checkup import Finding
from common import run
from explaining import explain
from parsing import ToolParser

STYLES = {"ok": "green", "note": "yellow", "fault": "red"}
NEXT = "fcn-plugin prepare_data shapes, then fcn-plugin train fcn8s_vgg16_shapes"
TRIAL = Path(__file__).with_name("trial.py")
SEE_ALL = f"mkdir trial; {sys.executable} {TRIAL} trial"
PATIENCE = 600  # seconds for the training, which takes some ten


def training() -> Finding:
    """Train in a process of its own, since the system may kill it."""
    # A short name, since workers have sockets below it, whose paths may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        # Workers that end with their parent leave folders in TMPDIR.
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": folder}
        done = subprocess.run(
            [sys.executable, str(TRIAL), folder],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    if done.returncode < 0:
        killer = signal.Signals(-done.returncode).name
        return Finding("fault", f"killed by {killer}", "free memory and run it again")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        if explained := [line for line in lines if line.startswith("error: ")]:
            fault, _, remedy = explained[-1].removeprefix("error: ").partition(" Remedy: ")
            return Finding("fault", fault, remedy)
        return Finding("fault", lines[-1], f"see the whole error: {SEE_ALL}")
    result = json.loads(done.stdout.splitlines()[-1])
    first, *_, last = losses = result["losses"]
    found = (
        f"{len(losses)} iterations on {result['device']}, {result['seconds']:.3f} s each, "
        f"loss {first:.2f} to {last:.2f}"
    )
    if not last < first:
        remedy = "compare with the CPU: CUDA_VISIBLE_DEVICES= fcn-plugin doctor"
        return Finding("fault", f"{found}; it does not fall", remedy)
    return Finding("ok", f"{found}; checkpoint written and read, a picture predicted")


# Check -> its function, and the remedy where the function raises an error.
CHECKS: dict[str, tuple[Callable[[], Finding | None], str]] = {
    "Python": (checkup.python, ""),
    "fcn_plugin": (checkup.plugin, ""),
    "packages": (checkup.host, ""),
    "torch": (checkup.torch_build, "pip install --force-reinstall 'torch>=2.10'"),
    "GPU": (checkup.gpu, "update the GPU's driver"),
    "threads": (checkup.threads, ""),
    "numpy": (checkup.numpy, "pip install --force-reinstall 'numpy>=2,<3'"),
    "OpenCV": (
        checkup.opencv,
        "pip install --force-reinstall --no-deps opencv-python-headless",
    ),
    "mmcv operators": (checkup.operators, "compile mmcv for this torch, or take mmcv-lite instead"),
    "Pillow": (checkup.pillow, "pip install --force-reinstall Pillow"),
    "onnxruntime": (checkup.onnx, ""),
    "disk": (checkup.disk, ""),
    "shared memory": (checkup.shared_memory, ""),
    "configs": (checkup.configs, ""),
    "training": (training, f"see how far it comes: {SEE_ALL}"),
}
WIDTH = max(map(len, CHECKS))


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.group("checks").add_argument("--quick", action="store_true", help="do not train")
    parser.group("what is written").add_argument(
        "--json", type=Path, metavar="FILE", help="write the findings there, too"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if find_spec("rich") is None:
        raise ImportError("fcn_plugin requires rich, which is not installed; pip install rich")

    from rich.console import Console
    from rich.text import Text

    screen, progress = Console(highlight=False, emoji=False), Console(stderr=True)
    findings: dict[str, Finding] = {}
    for name, (check, remedy) in CHECKS.items():
        if args.quick and check is training:
            continue
        with progress.status(f"{name} ..."):
            finding = examined(check, remedy)
        if finding is None:
            continue
        findings[name] = finding
        verdict = Text(f"{finding.verdict:<7}", STYLES[finding.verdict])
        screen.print(Text(f"{name:<{WIDTH}}  ") + verdict + finding.found, soft_wrap=True)
        if finding.remedy:
            screen.print(" " * (WIDTH + 8), finding.remedy, markup=False, soft_wrap=True)
    faults = [finding for finding in findings.values() if finding.verdict == "fault"]
    step = (faults[0].remedy or faults[0].found) if faults else NEXT
    screen.print(f"Next: {step}", markup=False, soft_wrap=True)
    if args.json:
        content = {name: finding._asdict() for name, finding in findings.items()}
        args.json.write_text(json.dumps({"checks": content, "next": step}, indent=2) + "\n")
    sys.exit(1 if faults else 0)


def examined(check: Callable[[], Finding | None], remedy: str) -> Finding | None:
    """What a check finds; an error that it raises is a fault."""
    try:
        return check()
    except Exception as error:
        first, *_ = str(error).splitlines() or [""]
        return Finding("fault", explain(error) or f"{type(error).__name__}: {first}", remedy)


if __name__ == "__main__":
    run(main)
