"""Run a tool of MMSegmentation's own, such as browse_dataset.

docs/mmseg_tools.md says which of them work.

fcn-plugin mmseg_tool print_config configs/fcn8s_vgg16_shapes.py
fcn-plugin mmseg_tool browse_dataset configs/fcn8s_vgg16_shapes.py --not-show
"""

import argparse
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from common import run, show
from parsing import ToolParser

DOUBTS = {
    "confusion_matrix": "it counts in 8 bits: right for at most 16 classes, and with OpenMMLab not "
    "where the label files have class 0 for void; fcn-plugin report has a matrix for all"
}


def scripts() -> dict[str, Path]:
    """mmseg's scripts by name, found without importing it."""
    spec = find_spec("mmseg")
    if spec is None or spec.origin is None:
        return {}
    # Of two browse_dataset.py the last counts: that in analysis_tools/, not that in misc/.
    files = sorted(Path(spec.origin).with_name(".mim").glob("tools/**/*.py"), reverse=True)
    return {file.stem: file for file in files}


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__, forms=("NAME",))
    group = parser.group("tool")
    group.add_argument("name", metavar="NAME", help=f"one of {', '.join(sorted(scripts()))}")
    group.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="OPTIONS", help="NAME --help lists them"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    # mmseg's analysis tools import mmseg before they read a config that would import fcn_plugin.
    import fcn_plugin  # noqa: F401
    from fcn_plugin.errors import UserError, did_you_mean

    if args.name not in scripts():
        hint = did_you_mean(args.name, scripts(), "fcn-plugin mmseg_tool --help lists them")
        raise UserError(f"{args.name}: mmseg has no such tool; {hint}")
    if args.name in DOUBTS:
        show(f"warning: {args.name}: {DOUBTS[args.name]}", file=sys.stderr)
    script = str(scripts()[args.name])
    sys.argv = [script, *args.options]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    run(main)
