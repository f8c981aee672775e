"""Score a folder of label PNGs by known rules, without a model.

fcn-plugin score --pred DIR --truth DIR --protocol voc
fcn-plugin score --pred DIR --truth DIR --config CONFIG
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from common import load_config, run, show, write_json


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
    # Defaults of the other options that load_config reads.
    parser.set_defaults(cfg_options=None, work_dir=None, launcher="none", local_rank=0)
    args = parser.parse_args()
    if args.jobs is not None and args.jobs < 1:
        parser.error("--jobs: at least 1")
    if args.config and {args.num_classes, args.ignore, args.first} != {None}:
        parser.error("--num-classes, --ignore and --first are the config's; leave them out")
    return args


def main() -> None:
    args = parse_args()

    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.checks.ignored import unify_ignored
    from fcn_plugin.errors import UserError
    from fcn_plugin.evaluation.folders import Tally, counted, matched
    from fcn_plugin.evaluation.protocols import protocol, protocol_of
    from fcn_plugin.evaluation.scores import scores
    from fcn_plugin.evaluation.tables import score_table
    from fcn_plugin.system.machine import available_cores
    from fcn_plugin.system.progress import progress_bar

    if args.config:
        cfg = load_config(args)
        unify_ignored(cfg)
        rule = protocol_of(cfg)
    else:
        rule = protocol(args.protocol, args.num_classes, args.ignore, args.first)
    pairs = matched(args.truth, args.pred, args.list)
    tallies = counted(pairs, rule, args.jobs or available_cores())
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
    show(score_table(rule.classes, result, matrix))
    fractions = {
        "pixel acc.": result.pixel_accuracy,
        "mean acc.": result.mean_accuracy,
        rule.mean: result.mean_iu,
        "f.w. IU": result.frequency_weighted_iu,
    }
    if rule.final:
        fractions["final score"] = result.final
    for name, fraction in fractions.items():
        print(f"{name:<12} {fraction:.4f}  ({100 * fraction:.2f} %)")
    if args.json:
        write_json(args.json, as_json(rule, result, matrix, total.images))
    print(
        f"Done: {total.images:,} images, {pixels:,} pixels: {rule.mean} {result.mean_iu:.4f}, "
        f"pixel acc. {100 * result.pixel_accuracy:.2f} %"
    )
    if not args.json:
        print("Next: --json FILE keeps these scores, unrounded")


def as_json(rule, result, matrix, images: int) -> dict[str, Any]:
    """The scores for the JSON file; a score without any pixels is None."""

    def share(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    return {
        "protocol": rule.name,
        "num_classes": len(rule.classes),
        "ignore": rule.ignored[0] if len(rule.ignored) == 1 else list(rule.ignored),
        "images": images,
        "pixels": int(matrix.sum()),
        "pixels_predicted_as_no_class": int(matrix[:, len(rule.classes) :].sum()),
        "pixel_accuracy": result.pixel_accuracy,
        "mean_accuracy": result.mean_accuracy,
        "mean_iu": result.mean_iu,
        "frequency_weighted_iu": result.frequency_weighted_iu,
        **({"final_score": result.final} if rule.final else {}),
        "classes": [
            dict(label=label, name=name, iu=share(iu), accuracy=share(acc), pixels=int(row.sum()))
            for label, name, iu, acc, row in zip(
                *(rule.labels, rule.classes, result.class_iu, result.class_accuracy, matrix),
                strict=True,
            )
        ],
    }


if __name__ == "__main__":
    run(main)
