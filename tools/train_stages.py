"""Train networks one after another, each from the best snapshot of the one before.

python tools/train_stages.py    # the published FCN-32s, then 16s, then 8s
python tools/train_stages.py configs/fcn{32s,16s,8s}_vgg16_pascal-context-heavy.py

Each stage is tools/train.py in a process of its own, in the folder WORK_DIR/CONFIG. The same
command goes on after an interruption, wherever that was: WORK_DIR/stages.json tells what is done,
and WORK_DIR/CONFIG/settings.json with which settings a stage was begun.
"""

import argparse
import signal
import sys
from pathlib import Path

from common import add_cfg_options, run

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PUBLISHED = [CONFIGS / f"fcn{net}_vgg16_voc2011-heavy.py" for net in ("32s", "16s", "8s")]
LOCK_PATIENCE = 15  # seconds; the data loaders of a killed run take five to notice


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train networks one after another, each from the best snapshot of the one "
        "before. The same command goes on after an interruption."
    )
    parser.add_argument(
        "configs",
        nargs="*",
        type=Path,
        metavar="CONFIG",
        default=PUBLISHED,
        help="configs in their order; default: "
        + ", ".join(f"configs/{path.name}" for path in PUBLISHED),
    )
    parser.add_argument(
        "--amp", action="store_true", help="mixed precision: float16 on a GPU, bfloat16 on the CPU"
    )
    add_cfg_options(parser)  # of every config
    parser.add_argument(
        "--work-dir",
        type=Path,
        help="folder of the chain, with one folder for each stage; default "
        "work_dirs/LAST_CONFIG-stages",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from stages import read_stages, train_stages

    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.system.locks import only_one_at_work

    folder = args.work_dir or Path(f"work_dirs/{args.configs[-1].stem}-stages")
    stages = read_stages(args, folder)
    # As if by Ctrl-C: the stage is to end as well.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with only_one_at_work(folder, LOCK_PATIENCE):
        train_stages(stages, folder, args)


if __name__ == "__main__":
    run(main)
