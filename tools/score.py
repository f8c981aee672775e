"""Score a folder of label PNGs by known rules, or compare two.

voc: labels from 0, background counted, truth 255 not; absent classes are left out of the means.
mit (ADE20K): labels from 1, truth 0 not counted; absent classes count as 0. --config takes numbers
and rule of a config's test data set. docs/data.md has the options for other data.

fcn-plugin score --pred a --truth labels --protocol voc --measures all
fcn-plugin score --pred a --pred b --truth labels --config fcn8s_vgg16_shapes
"""

import argparse
import sys
from pathlib import Path

from common import (
    add_interval_options,
    add_measure_options,
    add_task,
    boundary_ratio,
    chosen_measures,
    interval_by,
    load_config,
    run,
    say_threads,
    show,
    write_json,
)
from parsing import ToolParser
from scored import (
    Side,
    as_json,
    changed_images,
    comparison_json,
    comparison_lines,
    lines,
    verdict,
)


def parse_args() -> argparse.Namespace:
    parser = ToolParser(
        __doc__,
        forms=(
            "--pred DIR --truth DIR --protocol RULE",
            "--pred DIR --truth DIR --config CONFIG",
        ),
    )
    add = parser.group("files").add_argument
    add(
        "--pred",
        type=Path,
        required=True,
        action="append",
        metavar="DIR",
        help="predictions, *.png, no subfolders; twice: is the second better?",
    )
    add("--truth", type=Path, required=True, metavar="DIR", help="labels of the same names")
    add(
        "--list",
        type=Path,
        metavar="FILE",
        help="names to score, without .png, one a line, as VOC's val.txt; default: all",
    )
    add("--json", type=Path, metavar="FILE", help="write the scores here, as unrounded fractions")
    group = parser.group("rule")
    rule = group.add_mutually_exclusive_group(required=True)
    rule.add_argument("--protocol", choices=("voc", "mit"), metavar="RULE", help="voc or mit")
    rule.add_argument(
        "--config", metavar="CONFIG", help="a config's: a file, or the name of a shipped one"
    )
    add_task(parser, "rule")
    add = group.add_argument
    add("--num-classes", type=int, metavar="N", help="default 21 (voc), 150 (mit)")
    add("--ignore", type=int, metavar="N", help="truth not counted; default 255 (voc), 0 (mit)")
    add("--first", type=int, metavar="N", help="first class; default 0 (voc), 1 (mit)")
    add_interval_options(parser)
    add_measure_options(parser, "boundary", "errors", default="none")
    parser.group("machine").add_argument(
        "--jobs", type=int, metavar="N", help="processes that count; default: one a core"
    )
    # Defaults of the other options that load_config reads.
    parser.set_defaults(cfg_options=None, work_dir=None, launcher="none", local_rank=0)
    args = parser.parse_args()
    if len(args.pred) > 2:
        parser.error("--pred: one folder, or two to compare")
    if args.jobs is not None and args.jobs < 1:
        parser.error("--jobs: at least 1")
    if args.config and {args.num_classes, args.ignore, args.first} != {None}:
        parser.error("--num-classes, --ignore and --first are the config's; leave them out")
    if args.boundary_ratio and "boundary" not in (chosen_measures(args) or ()):
        parser.error("--boundary-ratio belongs to --measures boundary; give that, too")
    if args.task and not args.config:
        parser.error("--task: of a --config; give that, too")
    return args


def main() -> None:
    args = parse_args()

    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.checks.ignored import unify_ignored
    from fcn_plugin.evaluation.comparison import changes_by_image, comparison
    from fcn_plugin.evaluation.folders import matched
    from fcn_plugin.evaluation.intervals import grouped
    from fcn_plugin.evaluation.measures import Measures, stacked
    from fcn_plugin.evaluation.protocols import protocol, protocol_of

    if args.config:
        cfg = load_config(args)
        unify_ignored(cfg)
        rule = protocol_of(cfg, args.task)
    else:
        say_threads()
        rule = protocol(args.protocol, args.num_classes, args.ignore, args.first)
    measures = Measures(chosen_measures(args) or (), *boundary_ratio(args).values())
    folders = [matched(args.truth, folder, args.list) for folder in args.pred]
    truths = [pair.truth for pair in folders[0]]
    paths, by = [*map(str, truths)], interval_by(args)
    if by or folders[1:]:
        grouped(paths, by or "image")  # refuses before the counting
    sides = [
        scored(rule, pairs, folder, measures, by, args)
        for folder, pairs in zip(args.pred, folders, strict=True)
    ]
    if len(sides) == 1:
        (side,) = sides
        texts, content = lines(rule, side), as_json(rule, side)
        last = (
            f"{side.tally.images:,} images, {int(side.matrix.sum()):,} pixels: {rule.mean} "
            f"{side.scores['mean_iu']:.4f}, pixel acc. {100 * side.scores['pixel_accuracy']:.2f} %"
        )
    else:
        counts = [stacked(side.tally.by_image) for side in sides]
        changes = comparison(*counts, paths, by or "image", rule.absent)
        images = changed_images(truths, changes_by_image(*counts))
        compared = rule, sides, changes, images
        texts, content = comparison_lines(*compared), comparison_json(*compared)
        last = verdict(rule, changes)
    for text in texts:
        show(text)
    if args.json:
        write_json(args.json, content)
    print(f"Done: {last}")
    if not args.json:
        print("Next: --json FILE keeps these scores, unrounded")
    elif not args.pred[1:]:
        print("Next: a second --pred DIR says whether other predictions are better")


def scored(rule, pairs, folder: Path, measures, by: str | None, args) -> Side:
    """Count a folder of predictions, with progress, and score it."""
    from fcn_plugin.errors import UserError
    from fcn_plugin.evaluation.folders import Tally, counted
    from fcn_plugin.evaluation.intervals import intervals
    from fcn_plugin.evaluation.measures import stacked, summary
    from fcn_plugin.evaluation.scores import class_counts
    from fcn_plugin.system.machine import available_cores
    from fcn_plugin.system.progress import progress_bar

    by_image = bool(by) or len(args.pred) > 1
    total, jobs = Tally(), args.jobs or available_cores()
    with progress_bar() as progress:
        for tally in counted(pairs, rule, jobs, measures, by_image):
            total += tally
            progress("Scoring", total.images, len(pairs))
    matrix = rule.matrix(total.counts)
    unclassed = int(matrix[:, len(rule.classes) :].sum())
    if not matrix.any():
        raise UserError(
            f"{args.truth}: every pixel is {' or '.join(map(str, rule.ignored))}, which is not "
            "scored; give the labels of these images, or another --ignore"
        )
    if unclassed:
        print(
            f"warning: {folder}: {unclassed:,} labelled pixels in {total.unclassed:,} of "
            f"{total.images:,} images are predicted as {rule.unclassed[0]}, which is no class; "
            "they count as wrong",
            file=sys.stderr,
        )
    result = summary({"regions": class_counts(matrix), **total.measured}, rule.absent)
    found = None
    if by:
        paths = [str(pair.truth) for pair in pairs]
        found = intervals(stacked(total.by_image), paths, by, rule.absent)
    return Side(folder, total, matrix, result, found)


if __name__ == "__main__":
    run(main)
