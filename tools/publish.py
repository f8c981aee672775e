"""Push published weights to a hub of models, or pull them from there.

fcn-plugin publish push FOLDER OWNER/NAME [--private] [--replace]
fcn-plugin publish pull OWNER/NAME FOLDER
"""

import argparse
from pathlib import Path

from common import next_step, run, show


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="FOLDER holds what fcn-plugin convert_weights --publish RUN FOLDER/NAME.safetensors "
        "has written. Log in with hf auth login, or set HF_TOKEN; HF_ENDPOINT names another hub "
        "than huggingface.co. pip install 'fcn-plugin[hub]'",
    )
    ways = parser.add_subparsers(dest="way", required=True, metavar="{push,pull}")
    push = ways.add_parser("push", help="upload weights, config and model card")
    push.add_argument("folder", type=Path, metavar="FOLDER")
    push.add_argument("repo", type=repository, metavar="OWNER/NAME")
    push.add_argument("--private", action="store_true", help="not to a public repository")
    push.add_argument("--replace", action="store_true", help="delete other weights there")
    pull = ways.add_parser("pull", help="download them, and compare the weights' hash")
    pull.add_argument("repo", type=repository, metavar="OWNER/NAME")
    pull.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    return parser.parse_args()


def repository(text: str) -> str:
    owner, _, name = text.partition("/")
    if not owner or not name or "/" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not OWNER/NAME")
    return text


def main() -> None:
    args = parse_args()

    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.publish.folder import CONFIG
    from fcn_plugin.publish.hub import pull, push

    if args.way == "push":
        pushed = push(args.folder, args.repo, args.private, args.replace)
        for name in pushed.deleted:
            show(f"deleted there: {name}; the repository's history still has it")
        show(f"Done: {args.folder} is at {pushed.address}")
        show(next_step("publish", "pull", args.repo, "FOLDER"))
        return
    file = pull(args.repo, args.folder)
    show(f"Done: {file}, {file.stat().st_size / 1e6:.1f} MB, has the hash in its name")
    show(f"{args.folder / CONFIG} is Python, which is run when it is read: look at it first")
    show(next_step("predict", args.folder / CONFIG, file, "IMAGES", "--out", "predictions"))


if __name__ == "__main__":
    run(main)
