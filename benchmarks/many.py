"""Many pictures: fcn-plugin predict against mmseg's MMSegInferencer on the same network.

"mmseg, EncoderDecoder" is the same network in mmseg's own segmentor, which keeps scores of the
size of each picture until the last one is predicted. Each run is a process of its own, as a user
starts it: with imports, the loading of the network, the reading of JPEGs of 500 x 375 and the
writing of labels and overlays. The sides alternate. Nothing else should run beside it. It takes
seven minutes on two quiet cores.

python benchmarks/many.py narrow --pictures 20 --repeats 3
python benchmarks/many.py full --sides predict mmseg onnxruntime openvino
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from common import run, write_json
from parsing import ToolParser

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "fcn8s_vgg16_voc.py"
# A quarter of the width takes about a twelfth of the time, and all else weighs more. Of full width
# one side takes as long as all others together.
WIDTHS = {"narrow": 16, "full": 64}
SIDES_OF_FULL = ["predict"]
SIZE, DISTINCT = (375, 500), 8
MIB = 2**20
# Runs the tool, and tells the seconds that the network took.
OURS = """
import runpy, sys, time
sys.path.insert(0, sys.argv.pop(1))
import common  # sets OpenMP's variables before torch is imported
sys.argv = ["predict.py", *sys.argv[1:]]
import predict
taken = 0.0

def timed(owner, name):
    whole = getattr(owner, name)
    def call(*args, **kwargs):
        global taken
        start = time.perf_counter()
        try:
            return whole(*args, **kwargs)
        finally:
            taken += time.perf_counter() - start
    setattr(owner, name, call)

if sys.argv[1].endswith(".onnx"):
    predict.import_bare()
    from fcn_plugin.prediction.exported import ExportedPredictor
    timed(ExportedPredictor, "_run")
else:
    import fcn_plugin
    from fcn_plugin.prediction.predictor import Predictor
    timed(Predictor, "_run")
predict.main()
print("network", taken)
"""
THEIRS = """
import sys
from pathlib import Path
import fcn_plugin
from mmseg.apis import MMSegInferencer
config, checkpoint, pictures, out = sys.argv[1:]
inferencer = MMSegInferencer(config, checkpoint, device="cpu")
inferencer(sorted(map(str, Path(pictures).iterdir())), out_dir=out)
"""
LABELS_ALONE = """
import sys
from pathlib import Path
import fcn_plugin
import numpy as np
from mmseg.apis import MMSegInferencer
from PIL import Image
config, checkpoint, pictures, out = sys.argv[1:]
inferencer = MMSegInferencer(config, checkpoint, device="cpu")
files = sorted(Path(pictures).iterdir())
Path(out).mkdir()
for file, labels in zip(files, inferencer(list(map(str, files)), show=False)["predictions"]):
    Image.fromarray(labels.astype(np.uint8)).save(Path(out, f"{file.stem}.png"))
"""


# Waits for a command; a process of its own, since a child's peak is at least its parent's memory.
WAIT = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print("\\ntaken", time.perf_counter() - start, usage.ru_maxrss * 1024, flush=True)
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Taken(NamedTuple):
    """Of a run: seconds, peak bytes of the process, and seconds in the network (0 if unknown)."""

    seconds: float
    peak: int
    network: float


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add = parser.group("runs").add_argument
    parts = "width of VGG16: narrow (a quarter) or full; default both"
    add("parts", nargs="*", metavar="PART", help=parts)
    add("--pictures", type=int, default=200, metavar="N", help="pictures of a run; default 200")
    add("--repeats", type=int, default=1, metavar="N", help="runs of each side; default 1")
    chosen = "measure these alone; default: of narrow all, of full predict"
    add("--sides", nargs="+", metavar="NAME", help=chosen)
    add = parser.group("what is written").add_argument
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    args = parser.parse_args()
    args.parts = args.parts or list(WIDTHS)
    if wrong := set(args.parts) - set(WIDTHS):
        parser.error(f"{wrong.pop()!r}: give {' or '.join(WIDTHS)}")
    if min(args.pictures, args.repeats) < 1:
        parser.error("--pictures and --repeats: at least 1")
    return args


def main() -> None:
    args = parse_args()
    import torch

    from figures.machine import describe

    machine = describe(torch.device("cpu"))
    load = machine.get("load", "unknown")
    print(
        f"{machine['cpu']}, {machine['cores']} cores, load {load} before\n"
        f"Python {machine['python']}, torch {machine['torch']}\n"
        f"{args.pictures} pictures of {SIZE[1]} x {SIZE[0]}; medians"
    )
    report = dict(machine=machine, pictures=args.pictures, parts={})
    with tempfile.TemporaryDirectory(prefix="many") as name:
        folder = Path(name)
        write_pictures(folder / "pictures", args.pictures)
        for part in args.parts:
            network = folder / part
            prepare(network, WIDTHS[part])
            commands = sides(network, folder / "pictures")
            wanted = args.sides or (SIDES_OF_FULL if part == "full" else list(commands))
            if unknown := set(wanted) - set(commands):
                sys.exit(f"error: --sides {unknown.pop()!r}: give of {', '.join(commands)}")
            commands = {name: commands[name] for name in wanted}
            taken = measure(commands, network / "out", args.repeats)
            width = f"{WIDTHS[part]} to {8 * WIDTHS[part]} channels"
            print(f"\n{part}: FCN-8s on VGG16 of {width}, {args.repeats} runs of each")
            print("\n".join(table(taken, args.pictures)), flush=True)
            report["parts"][part] = {
                side: [run._asdict() for run in runs] for side, runs in taken.items()
            }
            shutil.rmtree(network)
    if args.json:
        write_json(args.json, report)
    else:
        print("\nNext: --json FILE keeps these figures")


def write_pictures(folder: Path, count: int) -> None:
    """JPEGs like photos: smooth colours with noise; few distinct ones, repeated."""
    import cv2
    import numpy as np

    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(count):
        file = folder / f"{number:05}.jpg"
        if number >= DISTINCT:
            shutil.copy(folder / f"{number % DISTINCT:05}.jpg", file)
            continue
        colours = chance.integers(0, 256, (9, 12, 3)).astype(np.float32)
        smooth = cv2.resize(colours, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        pixels = smooth + chance.normal(0, 8, (*SIZE, 3))
        cv2.imwrite(str(file), pixels.clip(0, 255).astype(np.uint8))


def prepare(folder: Path, width: int) -> None:
    """A config, a checkpoint of random weights and an exported file, in a process of their own."""
    folder.mkdir()
    levels, fc = (4 * width, 8 * width, 64 * width), 64 * width
    (folder / "network.py").write_text(
        f'_base_ = "{CONFIG}"\n'
        f"model = dict(backbone=dict(base_channels={width}, fc_channels={fc}, init_cfg=None), "
        f"decode_head=dict(in_channels={levels}))\n"
    )
    # Without our segmentor, which keeps the scores of the stride of the head.
    (folder / "encoder_decoder.py").write_text(
        '_base_ = "network.py"\nmodel = dict(type="EncoderDecoder")\n'
    )
    code = (
        "import sys, torch, fcn_plugin; from mmengine.config import Config; "
        "from mmengine.registry import init_default_scope; from mmseg.registry import MODELS; "
        "init_default_scope('mmseg'); torch.manual_seed(0); "
        "model = MODELS.build(Config.fromfile('network.py').model); "
        "[torch.nn.init.kaiming_normal_(p) for p in model.parameters() if p.dim() > 1]; "
        "torch.save(dict(meta={}, state_dict=model.state_dict()), 'network.pth')"
    )
    quiet = dict(cwd=folder, check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", code], **quiet)
    export = [ROOT / "tools/export_onnx.py", "network.py", "network.pth", "network.onnx"]
    subprocess.run([sys.executable, *export], **quiet)


def sides(folder: Path, pictures: Path) -> dict[str, list[str]]:
    """Name -> command without the folder for what it writes."""
    trained = [folder / "network.py", folder / "network.pth"]
    exported = folder / "network.onnx"
    of_mmseg = [folder / "encoder_decoder.py", *trained[1:]]
    tool, cpu = ["-c", OURS, ROOT / "tools"], ("--device", "cpu")
    commands = {
        "predict": [*tool, *trained, pictures, *cpu, "--out"],
        "mmseg": ["-c", THEIRS, *trained, pictures],
        "predict, labels alone": [
            *tool,
            *trained,
            pictures,
            "--device",
            "cpu",
            "--no-overlays",
            "--out",
        ],
        "mmseg, EncoderDecoder": ["-c", THEIRS, *of_mmseg, pictures],
        "mmseg, labels alone": ["-c", LABELS_ALONE, *trained, pictures],
        "onnxruntime": [*tool, exported, pictures, "--out"],
    }
    try:
        import openvino  # noqa: F401  # only to see whether it is installed

        commands["openvino"] = [*tool, exported, pictures, "--backend", "openvino", "--out"]
    except ImportError:
        print("openvino is not installed and left out")
    return {name: list(map(str, words)) for name, words in commands.items()}


def measure(commands: dict[str, list[str]], out: Path, repeats: int) -> dict[str, list[Taken]]:
    taken: dict[str, list[Taken]] = {name: [] for name in commands}
    for number in range(repeats):
        for name, words in commands.items():
            print(f"measuring {name}, {number + 1} of {repeats}", file=sys.stderr, flush=True)
            taken[name].append(once(words, out))
            print(f"  {taken[name][-1].seconds:.0f} s", file=sys.stderr, flush=True)
            shutil.rmtree(out)
    return taken


def once(words: list[str], out: Path) -> Taken:
    """Run a command to its end."""
    command = [sys.executable, "-c", WAIT, sys.executable, *words, str(out)]
    how = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    run = subprocess.run(command, **how)
    if run.returncode:
        sys.exit(f"error: {run.stdout[-2000:]}")
    told = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines() if line.strip()}
    seconds, peak = told["taken"]
    (network,) = told.get("network", ["0"])
    return Taken(float(seconds), int(peak), float(network))


def table(taken: dict[str, list[Taken]], pictures: int) -> list[str]:
    """A line of each side; ratios are to mmseg's of the same work."""
    lines = [f"  {'':<22}{'s':>8}{'ratio':>7}{'ms each':>9}{'MiB':>8}{'ratio':>7}{'network':>9}"]
    for name, runs in taken.items():
        theirs = taken.get("mmseg, labels alone" if "alone" in name else "mmseg", runs)
        seconds, peak = (median(run[i] for run in runs) for i in range(2))
        times, peaks = (median(run[i] for run in theirs) for i in range(2))
        share = median(run.network / run.seconds for run in runs)
        lines.append(
            f"  {name:<22}{seconds:>8.1f}{seconds / times:>7.2f}{1000 * seconds / pictures:>9.0f}"
            f"{peak / MIB:>8,.0f}{peak / peaks:>7.2f}" + (f"{100 * share:>7.0f} %" if share else "")
        )
    return lines


if __name__ == "__main__":
    run(main)
