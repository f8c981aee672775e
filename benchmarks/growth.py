"""How time and peak memory grow with pixels, classes, images and more.

Exponents are slopes of least squares through the logarithms: over the whole range, and over its
upper half (of the logarithms), where more than 1.1 is called faster than linear. Each point has a
process of its own; the points of all curves are measured in random order, in as many rounds as
there are --repeats, so that a machine that slows down does not look like growth. Times are medians
of warm calls, memory is the peak of a first call beyond its start, in the main process, and at
least 1 MiB. A point that is on record is not measured again.

python benchmarks/growth.py score --up-to 10000 --json growth.json
python benchmarks/growth.py --json growth.json --plots plots
"""

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from common import run, write_json
from parsing import ToolParser

ALIKE = ("width", "quick", "cpu", "cores", "threads")  # what all points of a record share


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add = parser.group("curves").add_argument
    add("names", nargs="*", metavar="NAME", help="curves or groups of curves; default all")
    add("--list", action="store_true", help="show the curves and measure nothing")
    add("--up-to", type=float, metavar="X", help="leave out the points above X")
    add("--repeats", type=int, default=3, metavar="N", help="rounds; default 3")
    width = "channels of the network's first stage; default 8, of VGG16 64"
    add("--width", type=int, default=8, metavar="N", help=width)
    seed = "of the order of the points; default 0"
    add("--seed", type=int, default=0, metavar="N", help=seed)
    quick = "three points of each curve, two channels: only shows that they run"
    add("--quick", action="store_true", help=quick)
    add = parser.group("what is written").add_argument
    add("--json", type=Path, metavar="FILE", help="keep each point there, and go on from it")
    add("--plots", type=Path, metavar="DIR", help="draw each group into DIR, as SVG")
    add("--table", action="store_true", help="measure nothing: table and plots of --json")
    args = parser.parse_args()
    if min(args.width, args.repeats) < 1:
        parser.error("--width and --repeats: at least 1")
    if args.table and not (args.json and args.json.is_file()):
        parser.error("--table: give --json FILE, with points on record")
    if args.quick:
        args.width, args.repeats = 2, 1
    return args


def main() -> None:
    args = parse_args()
    from figures.growth import choose
    from figures.growth.curve import CPU, Setting, measured
    from figures.growth.results import QUANTITIES, law_of, plot, section
    from figures.machine import describe
    from figures.table import progress

    curves = choose(args.names)
    if args.list:
        print(
            *(f"{c.group:<12}{c.name:<22}{c.points[0]} to {c.points[-1]} {c.unit}" for c in curves),
            sep="\n",
        )
        return
    machine = describe(CPU)
    setting = Setting(args.width, args.quick)
    record = opened(args, machine)
    print(_heading(record["machine"]), flush=True)
    points = [(curve, at) for curve in curves for at in curve.chosen(setting, args.up_to)]
    on_record = record["points"]
    left = [] if args.table else to_measure(points, on_record, args)
    for count, (curve, at) in enumerate(left, start=1):
        point = on_record.setdefault(curve.name, {}).setdefault(str(at), {})
        if "failed" in point:  # in an earlier round
            continue
        with progress(f"{count} of {len(left)}: {curve.name}, {at} {curve.unit}".rstrip()):
            result = measured(curve, at, setting)
        if isinstance(result, str):
            point["failed"] = result
        else:
            for key, value in zip(QUANTITIES, result, strict=True):
                point.setdefault(key, []).append(value)
        if args.json:  # after each point, so that an interrupt loses only one
            write_json(args.json, record)
    shown = [curve for curve in curves if curve.name in on_record]
    print(*(section(curve, record) for curve in shown), sep="\n")
    groups = dict.fromkeys(curve.group for curve in shown) if args.plots else ()
    for group in groups:
        members = [curve for curve in shown if curve.group == group]
        plot(group, members, record, args.plots / f"{group}.svg")
    faster = [
        f"{curve.name} ({QUANTITIES[key][0]})"
        for curve in shown
        for key in QUANTITIES
        if (fit := law_of(curve, record, key)) and fit.is_faster_than_linear
    ]
    if args.quick:
        print("\n--quick: the sizes are tiny, and the exponents mean nothing")
    print(f"\nFaster than linear: {', '.join(faster) or 'none'}")
    print(f"Done: {len(shown)} curves, {sum(len(on_record[c.name]) for c in shown)} points")
    print(_next(args))


def to_measure(points: list[Any], on_record: dict[str, Any], args: argparse.Namespace) -> list[Any]:
    """The measurements that are missing, round by round, each in an order of its own."""
    chance, left = random.Random(args.seed), []
    for done in range(args.repeats):
        missing = []
        for curve, at in points:
            point = on_record.get(curve.name, {}).get(str(at), {})
            if "failed" not in point and len(point.get("seconds", ())) <= done:
                missing.append((curve, at))
        left += chance.sample(missing, len(missing))
    return left


def opened(args: argparse.Namespace, machine: dict[str, Any]) -> dict[str, Any]:
    """The record so far, or a new one.

    Raises:
        UserError: its points are of another machine or of other options.
    """
    from fcn_plugin.errors import UserError

    now = dict(machine=machine, options=dict(width=args.width, quick=args.quick), points={})
    if not (args.json and args.json.is_file()):
        return now
    record = json.loads(args.json.read_text())
    for name in () if args.table else ALIKE:
        before, after = ({**r["machine"], **r["options"]}[name] for r in (record, now))
        if before != after:
            raise UserError(
                f"{args.json}: its points are of {name} {before}, not {after}; set it back, or "
                "give another --json"
            )
    return record


def _heading(machine: dict[str, Any]) -> str:
    load = f", load {machine['load']} before" if "load" in machine else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads{load}\n"
        f"Python {machine['python']}, torch {machine['torch']}\n"
    )


def _next(args: argparse.Namespace) -> str:
    if args.plots:
        return f"Next: look at {args.plots}/*.svg"
    if args.json:
        return f"Next: python benchmarks/growth.py --json {args.json} --table --plots DIR"
    return "Next: --json FILE keeps these points, and --plots DIR draws them"


if __name__ == "__main__":
    run(main)
