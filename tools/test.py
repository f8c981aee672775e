"""Score a checkpoint, or predict images for a leaderboard.

fcn-plugin test fcn8s_vgg16_shapes work_dirs/a --measures all --interval
fcn-plugin test fcn8s_vgg16_voc voc.pth --split test --submission results.tgz
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from common import (
    add_interval_options,
    add_measure_options,
    add_network,
    add_run_options,
    boundary_ratio,
    chosen_measures,
    interval_by,
    load_config,
    next_step,
    run,
)
from parsing import ToolParser
from splits import all_scores, choose_split, has_labels, score_line


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add_network(parser)
    add = parser.group("network").add_argument
    add("--tta", action="store_true", help="average several scales, and mirrored")
    add = parser.group("images").add_argument
    add("--split", metavar="NAME", help="a name in the config's table splits: val or test")
    add = parser.group("what is written").add_argument
    add(
        "--out",
        metavar="DIR",
        help="predictions as label PNGs; those of a further task in DIR/TASK",
    )
    add("--show-dir", metavar="DIR", help="pictures: input, truth, prediction")
    add("--show-interval", type=int, default=1, metavar="N", help="a picture of every N images")
    add("--report", metavar="FILE", help="a page (HTML) of scores, classes and images")
    add(
        "--submission",
        metavar="FILE",
        help="the archive for VOC's (.tgz) or ADE20K's server (.zip); other data: label PNGs in a "
        ".zip",
    )
    add(
        "--comp",
        type=int,
        choices=[5, 6],
        metavar="N",
        help="VOC's competition: 5 trained on VOC only, 6 (default) on more",
    )
    add_interval_options(parser)
    add_measure_options(parser, "boundary", "confidence", "errors", default="the config's")
    add_run_options(parser)
    args = parser.parse_args()
    if args.tta and "confidence" in (chosen_measures(args) or ()):
        parser.error("--tta keeps no scores to be sure by; give --measures boundary errors")
    if args.comp and not args.submission:
        parser.error("--comp belongs to a --submission; give that, too")
    return args


def main() -> None:
    args = parse_args()
    cfg = load_config(args)

    from fcn_plugin.checks.config import check_config, check_settings
    from fcn_plugin.data.numbering import check_numbers
    from fcn_plugin.engine.processes import prepare_cpu
    from fcn_plugin.engine.resuming import find_checkpoint
    from fcn_plugin.engine.runner import BriefRunner
    from fcn_plugin.evaluation.submission import spool_of
    from fcn_plugin.models.tta import check_tta, with_tta
    from fcn_plugin.system.configs import set_pipeline

    check_settings(cfg)
    cfg.load_from = str(find_checkpoint(args.checkpoint))
    if args.split:
        choose_split(cfg, args.split, args.config)
    if args.tta:
        check_tta(cfg)
        set_pipeline(cfg.test_dataloader.dataset, cfg.tta_pipeline)
        cfg.model = with_tta(cfg.tta_model, cfg.model)
    choose_evaluators(cfg, args)
    if args.out or args.submission or args.show_dir or args.report:
        check_numbers(cfg.test_dataloader.dataset)
    if args.show_dir:
        pictures = dict(type="PicturesHook", out_dir=args.show_dir, interval=args.show_interval)
        cfg.custom_hooks = [*cfg.get("custom_hooks", []), pictures]
    if args.report:
        report = dict(
            type="ReportHook",
            file=args.report,
            interval=interval_by(args) or "image",
            measures=chosen_measures(args),
            **boundary_ratio(args),
        )
        cfg.custom_hooks = [*cfg.get("custom_hooks", []), report]

    check_config(cfg, ("test_dataloader",))
    prepare_cpu(cfg)
    runner = BriefRunner.from_cfg(cfg)
    try:
        scores = runner.test()
    finally:
        for file in filter(None, (args.submission, args.report)):  # of a run that failed
            shutil.rmtree(spool_of(Path(file)), ignore_errors=True)
    if scores:
        runner.logger.info("All scores:\n%s", all_scores(scores))
    results = [
        score_line(scores),
        args.out and f"predictions are in {args.out}",
        args.submission and f"submission is {args.submission}",
        args.report and f"report is {args.report}",
    ]
    runner.logger.info("Done: %s", "; ".join(filter(None, results)) or "nothing was to be scored")
    images = ("predict", args.config, args.checkpoint, "IMAGES", "--out", "predictions")
    runner.logger.info(next_step(*images))


def choose_evaluators(cfg, args: argparse.Namespace) -> None:  # cfg: mmengine.Config
    """Set the evaluators: scores if there are labels, PNGs for --out, an archive."""
    from fcn_plugin.errors import UserError
    from fcn_plugin.system.configs import one_or_many, type_name

    if args.out and Path(args.out).is_file():
        raise UserError(f"{args.out}: is a file; give --out a folder")
    evaluators = one_or_many(cfg.test_evaluator)
    if not has_labels(cfg.test_dataloader.dataset):
        if option := "--report" if args.report else "--interval" if interval_by(args) else "":
            raise UserError(
                f"{option}: the test images of {args.config} have no labels to score against; "
                "leave it out, or score others: --split"
            )
        if not (args.submission or args.out):
            raise UserError(
                f"{args.config}: its test images have no labels to score against; give "
                "--submission FILE or --out DIR for the predictions"
            )
        evaluators = []
    # Our metric writes the PNGs: mmseg's IoUMetric ignores label_map.
    theirs = [each for each in evaluators if type_name(each) == "IoUMetric"]
    folders = [each.pop("output_dir", None) for each in theirs]
    evaluators = [each for each in evaluators if each not in theirs or not each.get("format_only")]
    ours = [each for each in evaluators if type_name(each) == "ConfusionMatrixMetric"]
    tasks = (cfg.model.get("module") or cfg.model).get("task_heads") or ()
    for folder in filter(None, [args.out] if args.out else folders):
        for task in (None, *tasks):
            writer = next((each for each in ours if each.get("task") == task), None)
            if writer is None:
                writer = dict(type="ConfusionMatrixMetric", format_only=True, task=task)
                evaluators.append(writer)
            writer["output_dir"] = str(Path(folder, task or ""))
    by, measures = interval_by(args), chosen_measures(args)
    settings: dict[str, object] = boundary_ratio(args)
    settings |= {"measures": measures} if measures is not None else {}
    settings |= {"interval": by} if by else {}
    if settings:
        ours = [each for each in ours if not each.get("format_only")]
        # The page measures by itself.
        if not ours and (by or (measures and not args.report)):
            raise UserError(
                f"--{'interval' if by else 'measures'}: nothing in test_evaluator of {args.config} "
                "knows it; set it to dict(type='ConfusionMatrixMetric')"
            )
        for each in ours:
            each.update(settings)
    if args.submission:
        refuse_submission(cfg.test_dataloader.dataset, args)
        evaluators.append(dict(type="SubmissionMetric", file=args.submission, comp=args.comp))
    cfg.test_evaluator = evaluators


def refuse_submission(dataset: dict, args: argparse.Namespace) -> None:
    """Refuse a bad --submission now; the metric would do so only after the model is built."""
    from mmseg.registry import DATASETS

    from fcn_plugin.evaluation.leaderboards import choose_comp, leaderboard_of
    from fcn_plugin.system.configs import class_of, innermost

    dataset = innermost(dataset)[0]
    registered = getattr(class_of(dataset, DATASETS), "METAINFO", {}).get("classes")
    classes = (dataset.get("metainfo") or {}).get("classes") or registered
    if isinstance(classes, list | tuple):
        choose_comp(leaderboard_of(classes, own=not registered), Path(args.submission), args.comp)


if __name__ == "__main__":
    run(main)
