"""Try mmseg's backbones with SkipFusionHead, and mmseg's heads on ConvolutionalizedVGG.

Each pair is built with 21 classes and random weights, in a process of its own, and run on images of
128 x 128 pixels: a prediction, the gradients of a training step, and the labels of its ONNX file
for this size by onnxruntime. GFLOP are of the convolutions and matrix products for one image of
512 x 512, two for a multiplication and an addition. Backbones of mmpretrain and timm are run where
these are installed.

python benchmarks/pairs.py --list
python benchmarks/pairs.py --write docs/mixing.md
"""

import argparse
import logging
import sys
import warnings
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from common import run
from parsing import ToolParser


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add = parser.group("pairs").add_argument
    add("names", nargs="*", metavar="NAME", help="pairs, as --list shows them; default all")
    add("--list", action="store_true", help="show the names and try nothing")
    quick = "narrow networks, 64 x 64 pixels: only shows that pairs run"
    add("--quick", action="store_true", help=quick)
    where = "put the tables there, between <!-- pairs: begin --> and <!-- pairs: end -->"
    add = parser.group("what is written").add_argument
    add("--write", type=Path, metavar="FILE", help=f"{where}; default: print them")
    jobs = "pairs at a time; default 2, up to 6 GB each"
    add = parser.group("machine").add_argument
    add("--jobs", type=int, default=2, metavar="N", help=jobs)
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error("--jobs: at least 1")
    if args.write and (args.names or args.quick):
        parser.error("--write takes the whole tables: leave out the names and --quick")
    return args


def main() -> None:
    args = parse_args()

    import torch

    from fcn_plugin.system.machine import available_cores
    from fcn_plugin.system.progress import progress_bar
    from pairing.checks import check
    from pairing.processes import each_alone
    from pairing.table import around_tables, as_markdown, choose, write

    pairs = choose(args.names)
    if args.list:
        print(*(pair.name for pair in pairs), sep="\n")
        return
    if args.write:
        around_tables(args.write)  # fails now rather than after minutes of work
    # Hides messages of mmseg while it builds.
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(max(available_cores() // args.jobs, 1))
    rows = {}
    with progress_bar() as progress:
        progress("Trying", 0, len(pairs))
        for pair, result in each_alone(partial(check, quick=args.quick), pairs, args.jobs):
            rows[pair.name] = pair.row(f"no: {result}") if isinstance(result, str) else result
            progress(f"Tried {pair.name}", len(rows), len(pairs))
    text = as_markdown(rows)
    if args.write:
        write(args.write, text)
    else:
        print(text)
    failed = sum(row.failed for row in rows.values())
    skipped = sum(row.skipped for row in rows.values())
    where = f", in {args.write}" if args.write else ""
    print(
        f"Done: {len(rows) - failed - skipped} of {len(rows)} pairs passed, "
        f"{failed} failed, {skipped} not run{where}"
    )
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
