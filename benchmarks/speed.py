"""Measure every figure of docs/speed.md, as a ratio to mmseg.

Both sides get the same inputs and alternate in the same run. Without names all figures are
measured, which takes an hour on a CPU.

python benchmarks/speed.py loss labels --device cuda
python benchmarks/speed.py network --peer ../pytorch-fcn --json network.json
"""

import argparse
import json
import logging
import os
import sys
import warnings
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from common import run
from parsing import ToolParser

# Hides messages of torch's profiler.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add = parser.group("figures").add_argument
    add("names", nargs="*", metavar="NAME", help="figures or groups of figures; default all")
    add("--list", action="store_true", help="show the figures and measure nothing")
    repeats = "timed calls; default the figure's"
    add("--repeats", type=_positive, metavar="N", help=repeats)
    peer = "a clone of github.com/wkentaro/pytorch-fcn, to be measured too"
    add("--peer", type=Path, metavar="DIR", help=peer)
    quick = "tiny sizes, one repeat: shows that figures run, not how fast"
    add("--quick", action="store_true", help=quick)
    add = parser.group("what is written").add_argument
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    add = parser.group("machine").add_argument
    add("--device", metavar="NAME", help="cpu or cuda; default cuda if there is a GPU")
    dtype = "float32 or bfloat16; default bfloat16 on a GPU, float32 on the CPU"
    add("--dtype", choices=["float32", "bfloat16"], metavar="TYPE", help=dtype)
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main() -> None:
    args = parse_args()
    import torch

    from fcn_plugin.errors import UserError
    from fcn_plugin.system.files import replacing
    from figures import choose
    from figures.framework import Setting, measure
    from figures.machine import describe, matrix_rates
    from figures.table import heading, progress, section, to_json

    figures = choose(args.names)
    if args.list:
        print(*(f"{f.group:<12}{f.name:<36}{f.against}" for f in figures), sep="\n")
        return
    name = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: not on this machine; give --device cpu") from error
    if args.json and not args.json.parent.is_dir():
        raise UserError(f"--json {args.json}: no such folder; make it first")
    if args.peer and not (args.peer / "torchfcn" / "models").is_dir():
        raise UserError(
            f"--peer {args.peer}: no torchfcn/models in it; give the folder that "
            "git clone https://github.com/wkentaro/pytorch-fcn made"
        )
    dtype = args.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    setting = Setting(device, getattr(torch, dtype), args.quick, args.peer)

    # Hides messages of mmseg and torch while they build and run.
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    machine = describe(device)
    with progress("matrix products"):
        machine["matrix_products"] = matrix_rates(device, dtype, args.quick)
    print(heading(machine, dtype))
    measured = []
    for number, figure in enumerate(figures, start=1):
        with progress(f"{number} of {len(figures)}: {figure.name}"):
            result = measure(figure, setting, args.repeats)
        measured.append((figure, result))
        print(section(figure, result, machine["matrix_products"][dtype]), flush=True)
        if args.json:  # after each figure, so that an interrupt loses only one
            report = to_json(measured, machine, vars(args) | dict(device=name, dtype=dtype))
            with replacing(args.json) as part:
                part.write_text(json.dumps(report, indent=2) + "\n")
    if args.quick:
        print("\n--quick: the sizes are tiny, and the figures mean nothing")
    if not args.json:
        print("\nNext: --json FILE keeps these figures")
    if any(result.disagreement for _, result in measured):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
