"""Train networks in turn, each from the best of the one before.

Without configs: the published FCN-32s, then 16s, then 8s of VOC. Each stage is trained in a process
and a folder of its own, DIR/CONFIG. After an interruption, the same command continues:
DIR/stages.json records the finished stages, DIR/CONFIG/settings.json the settings of each.

fcn-plugin train_stages
fcn-plugin train_stages fcn{32s,16s,8s}_vgg16_pascal-context-heavy --amp
"""

import argparse
import signal
import sys
from pathlib import Path

from common import AMP, add_cfg_options, run
from parsing import ToolParser

PUBLISHED = [Path(f"fcn{net}_vgg16_voc2011-heavy") for net in ("32s", "16s", "8s")]
LOCK_PATIENCE = 15  # seconds to wait; workers of a killed run need 5 to notice and end


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.group("networks").add_argument(
        "configs",
        nargs="*",
        type=Path,
        metavar="CONFIG",
        default=PUBLISHED,
        help="in training order, each a file or the name of a shipped one; default: "
        + ", ".join(map(str, PUBLISHED)),
    )
    parser.group("training").add_argument("--amp", action="store_true", help=AMP)
    pretrained = "of the first stage's backbone, in place of its config's: a file or an address"
    parser.group("training").add_argument("--pretrained", metavar="WEIGHTS", help=pretrained)
    add_cfg_options(parser, "run")  # for every config
    parser.group("run").add_argument(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="folder of the chain, with one of each stage; default work_dirs/LAST_CONFIG-stages",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from stages import read_stages, train_stages

    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.system.locks import only_one_at_work

    folder = args.work_dir or Path(f"work_dirs/{args.configs[-1].stem}-stages")
    stages = read_stages(args, folder)
    # Like Ctrl-C, so that the stage's process ends, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with only_one_at_work(folder, LOCK_PATIENCE):
        train_stages(stages, folder, args)


if __name__ == "__main__":
    run(main)
