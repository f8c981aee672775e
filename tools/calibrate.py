"""Make a network as sure as it is right, by a temperature.

All scores are divided by one number, the temperature, which is fitted to images that the network
was not trained on. The labels stay as they are. The division is inside the weights of the score
layers: test, predict and export_onnx take the new checkpoint as any other. Pixels are drawn from
all images, 16.8 million scores in all; one process is enough. docs/scores.md has the details.

fcn-plugin calibrate fcn8s_vgg16_shapes work_dirs/a --out calibrated.pth
fcn-plugin calibrate fcn8s_vgg16_voc voc.pth --split val --out calibrated.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import add_cfg_options, add_network, add_task, load_config, next_step, run, show
from parsing import ToolParser
from splits import choose_split, has_labels


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add_network(parser)
    add_task(parser)
    add_cfg_options(parser)
    parser.group("images").add_argument(
        "--split",
        metavar="NAME",
        help="a name in the config's table splits; default: the images of val_dataloader",
    )
    parser.group("what is written").add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="checkpoint to write"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)

    from fcn_plugin.checks.config import check_config, check_settings
    from fcn_plugin.engine.processes import prepare_cpu
    from fcn_plugin.engine.resuming import find_checkpoint
    from fcn_plugin.evaluation.temperature import HIGHEST, LOWEST
    from fcn_plugin.prediction.calibrating import calibrate
    from fcn_plugin.system.progress import progress_bar

    check_settings(cfg)
    choose_images(cfg, args)
    checkpoint = find_checkpoint(args.checkpoint)
    check_config(cfg, ("test_dataloader",))
    prepare_cpu(cfg)
    with progress_bar() as progress:
        fitted = calibrate(cfg, checkpoint, args.out, args.task, progress)
    print(f"{'':<8}{'says':>9}{'is right':>10}{'error':>9}{'NLL':>9}")
    for name, figures in (("before", fitted.before), ("after", fitted.after)):
        says, right, error = (f"{100 * value:.2f} %" for value in figures[:3])
        print(f"{name:<8}{says:>9}{right:>10}{error:>9}{figures.nll:>9.4f}")
    if fitted.temperature in (LOWEST, HIGHEST):
        show(
            f"The temperature is at its bound ({LOWEST:g} to {HIGHEST:g}): the network is right at "
            "all pixels, or its scores say nothing of their labels"
        )
    total = f", {fitted.total:.4f} with earlier ones" if fitted.total != fitted.temperature else ""
    show(
        f"Done: {args.out}: scores divided by {fitted.temperature:.4f}{total}; fitted to "
        f"{fitted.pixels:,} pixels of {fitted.images:,} images"
    )
    show(next_step("test", args.config, args.out))


def choose_images(cfg, args: argparse.Namespace) -> None:  # cfg: mmengine.Config
    """Set the test data set to the images to fit with."""
    from fcn_plugin.errors import UserError

    if not args.split and cfg.get("val_dataloader") is not None:
        cfg.test_dataloader, cfg.test_cfg = cfg.val_dataloader, cfg.get("test_cfg") or {}
    elif not args.split:
        raise UserError(f"{args.config}: no val_dataloader; add one, or give --split NAME")
    elif cfg.get("test_dataloader") is None:
        raise UserError(f"--split: {args.config} has no test_dataloader; add one, or leave it out")
    else:
        choose_split(cfg, args.split, args.config)
    if not has_labels(cfg.test_dataloader.dataset):
        raise UserError(
            f"{args.config}: the images of {args.split or 'val_dataloader'} have no labels to fit "
            "a temperature to; choose others: --split"
        )


if __name__ == "__main__":
    run(main)
