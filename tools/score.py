"""Score a folder of label PNGs by known rules, without a model.

fcn-plugin score --pred DIR --truth DIR --protocol voc
fcn-plugin score --pred DIR --truth DIR --config CONFIG
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from common import add_interval_options, add_task, interval_by, load_config, run, show, write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="voc: labels from 0, background counted, truth 255 not counted, classes that "
        "neither occur nor are predicted left out of the means; for PASCAL-Context with "
        "--num-classes 60, without its background with --num-classes 59 --first 1 --ignore 0, for "
        "CamVid with --num-classes 11 --ignore 11. "
        "mit (ADE20K): labels from 1, truth 0 not counted, means over all classes, absent ones as "
        "0. --config scores files in the numbers of any config's test data set, such as those of "
        "fcn-plugin test --out, as that does, classes that the config leaves out included.",
    )
    parser.add_argument(
        "--pred", type=Path, required=True, metavar="DIR", help="predictions, *.png, no subfolders"
    )
    parser.add_argument(
        "--truth", type=Path, required=True, metavar="DIR", help="labels of the same names"
    )
    rule = parser.add_mutually_exclusive_group(required=True)
    rule.add_argument("--protocol", choices=("voc", "mit"), help="rule, see below")
    rule.add_argument(
        "--config", metavar="FILE", help="classes, their numbers and the rule are this config's"
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="ids to score (names without .png, one a line), such as VOC's val.txt; default: all",
    )
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="number of classes; default 21 (voc), 150 (mit)",
    )
    parser.add_argument(
        "--ignore",
        type=int,
        metavar="INDEX",
        help="truth that is not counted; default 255 (voc), 0 (mit)",
    )
    parser.add_argument(
        "--first", type=int, metavar="N", help="label of the first class; default 0 (voc), 1 (mit)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the scores here, as unrounded fractions"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="processes that count; default: as many as there are cores",
    )
    add_interval_options(parser)
    add_task(parser)
    # Defaults of the other options that load_config reads.
    parser.set_defaults(cfg_options=None, work_dir=None, launcher="none", local_rank=0)
    args = parser.parse_args()
    if args.jobs is not None and args.jobs < 1:
        parser.error("--jobs: at least 1")
    if args.config and {args.num_classes, args.ignore, args.first} != {None}:
        parser.error("--num-classes, --ignore and --first are the config's; leave them out")
    if args.task and not args.config:
        parser.error("--task: of a --config; give that, too")
    return args


def main() -> None:
    args = parse_args()

    import numpy as np

    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.checks.ignored import unify_ignored
    from fcn_plugin.errors import UserError
    from fcn_plugin.evaluation.folders import Tally, counted, matched
    from fcn_plugin.evaluation.intervals import grouped, intervals
    from fcn_plugin.evaluation.protocols import protocol, protocol_of
    from fcn_plugin.evaluation.scores import scores
    from fcn_plugin.evaluation.tables import in_brackets, score_table
    from fcn_plugin.system.machine import available_cores
    from fcn_plugin.system.progress import progress_bar

    if args.config:
        cfg = load_config(args)
        unify_ignored(cfg)
        rule = protocol_of(cfg, args.task)
    else:
        rule = protocol(args.protocol, args.num_classes, args.ignore, args.first)
    pairs = matched(args.truth, args.pred, args.list)
    by, paths = interval_by(args), [str(pair.truth) for pair in pairs]
    if by:
        grouped(paths, by)  # refuses before the counting
    tallies = counted(pairs, rule, args.jobs or available_cores(), bool(by))
    total = Tally()
    with progress_bar() as progress:
        for tally in tallies:
            total += tally
            progress("Scoring", total.images, len(pairs))

    matrix = rule.matrix(total.counts)
    pixels, unclassed = int(matrix.sum()), int(matrix[:, len(rule.classes) :].sum())
    if not pixels:
        raise UserError(
            f"{args.truth}: every pixel is {' or '.join(map(str, rule.ignored))}, which is not "
            "scored; give the labels of these images, or another --ignore"
        )
    if unclassed:
        print(
            f"warning: {unclassed:,} labelled pixels in {total.unclassed:,} of {total.images:,} "
            f"images are predicted as {rule.unclassed[0]}, which is no class; they count as wrong",
            file=sys.stderr,
        )
    result = scores(matrix, rule.absent)
    found = intervals(np.stack(total.by_image), paths, by, rule.absent) if by else None
    show(score_table(rule.classes, result, matrix, found))
    for name, title in titles(rule).items():
        fraction = getattr(result, name)
        interval = f" {in_brackets(found.scores[name])}" if found else ""
        print(f"{title:<12} {fraction:.4f}  ({100 * fraction:.2f} %{interval})")
    if args.json:
        write_json(args.json, as_json(rule, result, matrix, total.images, found))
    print(
        f"Done: {total.images:,} images, {pixels:,} pixels: {rule.mean} {result.mean_iu:.4f}, "
        f"pixel acc. {100 * result.pixel_accuracy:.2f} %"
    )
    if not args.json:
        print("Next: --json FILE keeps these scores, unrounded")


def titles(rule) -> dict[str, str]:
    """Name in ``Scores`` of each score that the rule gives, and its title on the terminal."""
    names = {
        "pixel_accuracy": "pixel acc.",
        "mean_accuracy": "mean acc.",
        "mean_iu": rule.mean,
        "frequency_weighted_iu": "f.w. IU",
    }
    return names | ({"final": "final score"} if rule.final else {})


def as_json(rule, result, matrix, images: int, found) -> dict[str, Any]:
    """The scores for the JSON file; a score without any pixels is None.

    ``found`` are the intervals, or None.
    """
    from fcn_plugin.evaluation.intervals import HIGH, LEVEL, LOW, SEED

    def share(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    def with_bounds(name: str, value: float, interval) -> dict[str, float | None]:
        ends = dict(zip((LOW, HIGH), interval or (), strict=False))
        return {name: share(value), **{name + end: share(bound) for end, bound in ends.items()}}

    content = {
        "protocol": rule.name,
        "num_classes": len(rule.classes),
        "ignore": rule.ignored[0] if len(rule.ignored) == 1 else list(rule.ignored),
        "images": images,
        "pixels": int(matrix.sum()),
        "pixels_predicted_as_no_class": int(matrix[:, len(rule.classes) :].sum()),
    }
    if found:
        drawn = dict(percent=LEVEL, by=found.by, drawn=found.drawn)
        content["interval"] = dict(drawn, resamples=found.resamples, seed=SEED)
    for name in titles(rule):
        key = "final_score" if name == "final" else name
        content |= with_bounds(key, getattr(result, name), found and found.scores[name])
    rows = zip(
        *(rule.labels, rule.classes, result.class_iu, result.class_accuracy, matrix),
        found.class_iu if found else [None] * len(rule.classes),
        strict=True,
    )
    content["classes"] = [
        dict(label=label, name=name)
        | with_bounds("iu", iu, interval)
        | dict(accuracy=share(accuracy), pixels=int(row.sum()))
        for label, name, iu, accuracy, row, interval in rows
    ]
    return content


if __name__ == "__main__":
    run(main)
