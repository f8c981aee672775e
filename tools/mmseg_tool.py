"""Run a tool of MMSegmentation's own, such as browse_dataset.

fcn_plugin is loaded first, since most of them import mmseg before they read a config.

fcn-plugin mmseg_tool NAME [options of that tool]
"""

import argparse
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from common import run, show

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f"mmseg has {', '.join(sorted(scripts()))}; docs/mmseg_tools.md: which of them work",
    )
    parser.add_argument("name", metavar="NAME", help="the tool's file without .py")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="NAME --help lists them")
    args = parser.parse_args()

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
