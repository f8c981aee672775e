"""Put a data set under data/, where the configs look for it.

python tools/prepare_data.py shapes
"""

import argparse
from functools import partial
from pathlib import Path

from common import progress_bar, run

# fcn_plugin imports torch and the host, seconds that --help need not take: so it is imported where
# a command runs.


def shapes_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("data/shapes"), help="folder to make")
    parser.add_argument("--train", type=int, default=4000, metavar="N", help="training images")
    parser.add_argument("--val", type=int, default=500, metavar="N", help="validation images")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other pictures")


def shapes(args: argparse.Namespace) -> str:
    from fcn_plugin.data.drawing import CLASSES, SIZE
    from fcn_plugin.data.shapes import write_shapes

    with progress_bar() as progress:
        drawn = partial(progress, "Drawing shapes")
        write_shapes(args.root, args.train, args.val, seed=args.seed, progress=drawn)
    return (
        f"{args.root}: {args.train} train and {args.val} val images, {SIZE}x{SIZE}, "
        f"{len(CLASSES)} classes"
    )


# name -> what it prepares, its options, the function that does it and returns the last line
COMMANDS = {
    "shapes": ("drawn shapes in VOC's layout, no download", shapes_options, shapes),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="DATA_SET")
    for name, (summary, add_options, _) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=parser.formatter_class,
        )
        add_options(command)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(COMMANDS[args.command][2](args))


if __name__ == "__main__":
    run(main)
