"""Write a page about a run, about two, or about training data.

The best checkpoint (else the last) is scored on the test data of the config in the work dir; the
scores are kept there in evaluation/, so that a second report takes seconds. The page of other
images: fcn-plugin test CONFIG CHECKPOINT --report FILE. docs/report.md has the details.

fcn-plugin report work_dirs/a work_dirs/b --out comparison.html
fcn-plugin report --data fcn8s_vgg16_shapes
"""

import argparse
import sys
from pathlib import Path

from common import (
    add_cfg_options,
    interval_by,
    load_config,
    next_step,
    quiet_host,
    run,
    share_memory_with_workers,
    show,
)
from parsing import ToolParser

KEPT = "evaluation"  # folder of the scores in a work dir


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, forms=("WORK_DIR [WORK_DIR]", "--data CONFIG"))
    parser.group("runs").add_argument(
        "work_dirs",
        nargs="*",
        type=Path,
        metavar="WORK_DIR",
        help="of fcn-plugin train: one, or two to lay side by side",
    )
    parser.group("data").add_argument(
        "--data",
        dest="config",
        metavar="CONFIG",
        help="before training, instead of a work dir: what this config (a file, or a shipped one's "
        "name) trains on: classes, labelled pictures, faults, what the network sees",
    )
    add_cfg_options(parser, "data")
    parser.group("what is written").add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page; default report.html in the (first) work dir, report-with-B.html of two, "
        "with --data data.html in work_dirs/CONFIG",
    )
    # The page has intervals unless there is but one image; other tools are asked for them.
    parser.add_argument("--interval", action="store_true", help=argparse.SUPPRESS)
    parser.group("scores").add_argument(
        "--interval-by",
        choices=("image", "scene"),
        metavar="WHAT",
        help="of the 95 %% intervals: image (default), or scene: images alike in name up to the "
        "last _",
    )
    args = parser.parse_args()
    if args.config and args.work_dirs:
        parser.error("give a work dir, or --data CONFIG, not both")
    if args.cfg_options and not args.config:
        parser.error("--cfg-options belong to --data CONFIG; a work dir has its own config")
    if args.config and interval_by(args):
        parser.error("--interval belongs to scores, which --data has none of")
    if not args.config and len(args.work_dirs) not in (1, 2):
        parser.error("one work dir, or two to lay side by side; or --data CONFIG")
    return args


def main() -> None:
    args = parse_args()
    if args.config:
        report_data(args)
    else:
        report_runs(args)


def report_data(args: argparse.Namespace) -> None:
    cfg = load_config(args)

    from fcn_plugin.report.data_page import write_data_page_of
    from fcn_plugin.report.page import check_target
    from fcn_plugin.system.progress import progress_bar

    file = args.out or Path(cfg.work_dir) / "data.html"
    check_target(file)
    with progress_bar() as progress:
        facts = write_data_page_of(cfg, file, augmentation=True, progress=progress)
    for finding in facts.findings:
        show(f"warning: {finding.text} {finding.remedy}", file=sys.stderr)
    show(f"Done: {facts.summary}; the page is {file}")
    train = next_step("train", args.config).removeprefix("Next: ")
    show(f"Next: open {file} in a browser, then {train}")


def report_runs(args: argparse.Namespace) -> None:
    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.report.page import check_target, page
    from fcn_plugin.report.run import trained_run
    from fcn_plugin.system.files import replacing

    runs = [trained_run(folder) for folder in args.work_dirs]
    name = f"report-with-{runs[1].name}.html" if runs[1:] else "report.html"
    file = args.out or args.work_dirs[0] / name
    check_target(file)
    for folder, trained in zip(args.work_dirs, runs, strict=True):
        trained.add(evaluated(folder, trained), args.interval_by or "image")
    with replacing(file) as part:
        part.write_text(page(runs), encoding="utf-8")
    for trained in runs:
        for note in trained.notes:
            show(f"warning: {trained.name}: {note}", file=sys.stderr)
    show(f"Done: {'; '.join(map(summary, runs))}; the page is {file}")
    show(f"Next: open {file} in a browser")


def summary(trained) -> str:  # trained: fcn_plugin.report.run.Run
    if trained.evaluation is None:
        return f"{trained.name} without an evaluation"
    return f"{trained.name} mean IU {100 * trained.evaluation.scores['mean_iu']:.2f}"


def evaluated(work_dir: Path, trained):  # trained: Run -> Evaluation | None
    """The evaluation of the best checkpoint, from the work dir if it is there, else made now."""
    from fcn_plugin.checks.config import check_datasets
    from fcn_plugin.engine.resuming import find_checkpoint
    from fcn_plugin.errors import UserError
    from fcn_plugin.report.evaluation import load, sha256

    folder = work_dir / KEPT
    kept = load(folder)
    try:
        checkpoint = find_checkpoint(work_dir)
        if kept and kept.sha256 == sha256(checkpoint):
            return kept
        check_datasets(trained.cfg, ("test_dataloader",))
    except UserError as fault:
        what = f"The scores are from {kept.facts['date']}" if kept else "Nothing could be scored"
        trained.notes.append(f"{what}: {fault}.")
        return kept
    score(trained.cfg, checkpoint, folder)
    return load(folder)


def score(cfg, checkpoint: Path, folder: Path) -> None:  # cfg: mmengine.Config
    from mmengine.runner import Runner

    from fcn_plugin.checks.config import prepare_loaders
    from fcn_plugin.data.numbering import check_numbers, set_colours
    from fcn_plugin.engine.processes import prepare_cpu
    from fcn_plugin.report.hook import EvaluationHook
    from fcn_plugin.system.progress import progress_bar

    share_memory_with_workers()
    quiet_host()
    cfg = cfg.copy()
    cfg.load_from, cfg.resume, cfg.launcher = str(checkpoint), False, "none"
    cfg.work_dir, cfg.log_level = str(folder), "WARNING"
    check_numbers(cfg.test_dataloader.dataset)
    set_colours(cfg.test_dataloader)
    prepare_cpu(cfg)
    prepare_loaders(cfg, ("test_dataloader",))
    with progress_bar() as progress:
        runner = Runner.from_cfg(cfg)
        runner.register_hook(EvaluationHook(folder, progress))
        runner.test()


if __name__ == "__main__":
    run(main)
