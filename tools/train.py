"""Train a network.

fcn-plugin train fcn8s_vgg16_shapes --work-dir work_dirs/a --test
fcn-plugin train fcn8s_vgg16_voc --amp --resume
"""

import argparse
import os
import sys
from pathlib import Path

from common import AMP, add_run_options, load_config, next_step, run, show
from explaining import unknown_type
from parsing import ToolParser
from splits import all_scores, choose_scored, score_line

RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.group("network").add_argument(
        "config", metavar="CONFIG", help="config: a file, or the name of a shipped one"
    )
    add = parser.group("training").add_argument
    add(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue from CHECKPOINT, or from the latest in the work dir",
    )
    add("--amp", action="store_true", help=AMP)
    add(
        "--batch",
        choices=["auto"],
        metavar="auto",
        help="the largest batch up to the config's that fits into memory, by trial; iterations and "
        "learning rate in proportion",
    )
    parser.group("scores").add_argument(
        "--test",
        nargs="?",
        const="",
        metavar="SPLIT",
        help="then score the best checkpoint on a split; default: test if labelled, else val",
    )
    add_run_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)

    from mmengine.dist import barrier
    from mmengine.registry import OPTIMIZERS

    from fcn_plugin.checks.config import check_config, check_settings
    from fcn_plugin.engine.processes import prepare_cpu
    from fcn_plugin.engine.resuming import find_checkpoint, move_checkpoints
    from fcn_plugin.engine.runner import BriefRunner, TrainingRunner
    from fcn_plugin.errors import UserError
    from fcn_plugin.system.configs import type_name

    if args.batch and cfg.launcher != "none":
        raise UserError(
            "--batch auto tries a single process; for several set train_dataloader.batch_size of "
            "each, and optim_wrapper.optimizer.lr in proportion"
        )
    check_settings(cfg)
    wrapper = type_name(cfg.optim_wrapper) or "OptimWrapper"
    if args.amp and wrapper != "AmpOptimWrapper":
        if wrapper != "OptimWrapper":
            raise UserError(
                f"--amp works with optim_wrapper.type 'OptimWrapper', not with {wrapper!r}; set "
                "the precision in the config"
            )
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = "dynamic"
    # mmengine's own error for an unknown optimizer is only that None is not callable.
    optimizer = cfg.optim_wrapper.get("optimizer")
    if optimizer is not None and not isinstance(optimizer, dict):
        raise UserError(
            f"optim_wrapper.optimizer is {optimizer!r}, not a dict; set its keys one by one, such "
            "as optim_wrapper.optimizer.lr=0.01"
        )
    name = (optimizer or {}).get("type")
    if isinstance(name, str) and OPTIMIZERS.get(name) is None:
        raise UserError(unknown_type(name, "mmengine", "optimizer"))
    faults: list[str] = []
    checkpoint = to_resume(cfg, args.resume, faults)
    cfg.resume = checkpoint is not None
    if checkpoint:
        cfg.load_from = str(checkpoint)

    compiling = cfg.pop("compile", False)
    if compiling:
        settings = {} if compiling is True else dict(compiling)
        hooks = cfg.get("custom_hooks") or []
        cfg.custom_hooks = [*hooks, dict(type="CompileHook", **settings)]

    loaders = ["train_dataloader", "val_dataloader"]
    if args.test is not None:
        choose_scored(cfg, args.test, args.config)
        loaders.append("test_dataloader")
    check_config(cfg, tuple(loaders))
    prepare_cpu(cfg)
    lines = fit(cfg, checkpoint) if args.batch else []
    runner = TrainingRunner.from_cfg(cfg)
    for line in lines:
        runner.logger.info(line)
    for fault in faults:  # again, for the log file
        runner.logger.warning(fault)
    if runner.rank == 0:
        earlier = None if cfg.resume else move_checkpoints(Path(cfg.work_dir), cfg.get("load_from"))
        if earlier:
            runner.logger.warning(f"The checkpoints of an earlier run are now in {earlier}")
    if args.resume == "auto" and not cfg.resume:
        runner.logger.warning("--resume: no checkpoint in %s yet, starting anew", cfg.work_dir)
    runner.train()
    logger, work_dir, scores = runner.logger, runner.work_dir, ""
    if args.test is not None:
        barrier()  # the first process may still be writing a checkpoint
        cfg.load_from, cfg.resume = str(find_checkpoint(Path(work_dir))), False
        if cfg.get("visualizer"):
            cfg.visualizer.name = "test"  # mmengine wants names that are not in use
        del runner  # and its memory
        # As fcn-plugin test scores it: hooks that average weights must not go on from a training.
        tested = BriefRunner.from_cfg(cfg).test()
        logger.info("All scores:\n%s", all_scores(tested))
        scores = f"{score_line(tested)} ({cfg.load_from}); "
    logger.info("Done: %scheckpoints and logs are in %s", scores, work_dir)
    logger.info(next_step("report", cfg.work_dir))


def fit(cfg, checkpoint: Path | None) -> list[str]:  # cfg: mmengine.Config
    """Set the batch to one that fits into memory, or that of the run to resume; what was done."""
    from fcn_plugin.checks.batch import batch_of, fit_batch, set_batch
    from fcn_plugin.system.progress import progress_bar

    if checkpoint and (batch := batch_of(checkpoint)):
        return [set_batch(cfg, batch)] if batch < cfg.train_dataloader.batch_size else []
    with progress_bar() as progress:
        return fit_batch(cfg, progress)


def to_resume(cfg, asked: str | None, faults: list[str]) -> Path | None:  # cfg: mmengine.Config
    """The checkpoint to continue from; None for a new run. Skipped checkpoints go into ``faults``.

    A run resumes if ``--resume`` or the config says so, or if torchrun or Slurm has restarted it
    after losing a process or requeuing the job.
    """
    from fcn_plugin.engine.resuming import check_resumable, last_resumable

    wanted = asked or (cfg.get("resume") and (cfg.get("load_from") or "auto"))
    restarted = any(int(os.environ.get(name) or 0) > 0 for name in RESTARTS)
    if restarted or wanted == "auto":
        checkpoint = last_resumable(Path(cfg.work_dir), faults.append)
        for fault in faults:
            show(f"warning: {fault}", file=sys.stderr)
        if checkpoint or wanted in ("auto", None, False):
            return checkpoint
    if not wanted:
        return None
    check_resumable(Path(wanted))
    return Path(wanted)


if __name__ == "__main__":
    run(main)
