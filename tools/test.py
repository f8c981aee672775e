"""Score a checkpoint: tools/test.py CONFIG CHECKPOINT [--show-dir DIR]"""

import argparse
from pathlib import Path

from common import add_run_options, load_config, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Score a segmentor on its test data set.")
    parser.add_argument("config", help="config file it was trained with")
    parser.add_argument(
        "checkpoint", help="checkpoint file, or a work dir (its best checkpoint, else its last)"
    )
    parser.add_argument("--out", metavar="DIR", help="write predictions as label PNGs here")
    parser.add_argument(
        "--show-dir", metavar="DIR", help="write pictures here: input, truth, prediction"
    )
    parser.add_argument(
        "--show-interval", type=int, default=1, metavar="N", help="one picture of every N images"
    )
    parser.add_argument("--tta", action="store_true", help="several scales and mirrored")
    add_run_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)

    from mmengine.runner import Runner

    from fcn_plugin.config import type_name
    from fcn_plugin.engine.cpu import prepare_cpu
    from fcn_plugin.engine.data_check import check_datasets
    from fcn_plugin.errors import UserError
    from fcn_plugin.weights.loading import check_checkpoint

    checkpoint = find_checkpoint(Path(args.checkpoint))
    check_checkpoint(checkpoint)
    cfg.load_from = str(checkpoint)
    if args.tta:
        if "tta_pipeline" not in cfg or "tta_model" not in cfg:
            raise UserError(f"--tta: {args.config} has no tta_pipeline and tta_model; add them")
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(cfg.tta_model, module=cfg.model)
    if args.out:
        evaluators = cfg.test_evaluator
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            if type_name(evaluator) in ("ConfusionMatrixMetric", "IoUMetric"):
                evaluator.output_dir = args.out
    if args.show_dir:
        pictures = dict(type="PicturesHook", out_dir=args.show_dir, interval=args.show_interval)
        cfg.custom_hooks = [*cfg.get("custom_hooks", []), pictures]

    check_datasets(cfg, ("test_dataloader",))
    prepare_cpu(cfg)
    runner = Runner.from_cfg(cfg)
    scores = runner.test()
    found = "  ".join(f"{name} {score:.2f}" for name, score in scores.items())
    runner.logger.info("Done: %s", found or "no labels to score against")


def find_checkpoint(path: Path) -> Path:
    """``path`` itself, or the best, else the last checkpoint of a work dir."""
    from fcn_plugin.errors import UserError

    if path.is_file():
        return path
    if path.is_dir():
        best = sorted(path.glob("best_*.pth"), key=lambda file: file.stat().st_mtime)
        if best:
            return best[-1]
        last = path / "last_checkpoint"
        if last.is_file():
            return Path(last.read_text().strip())
    raise UserError(f"{path}: no checkpoint there; train one first with tools/train.py")


if __name__ == "__main__":
    run(main)
