"""Push published weights to a hub of models, or pull them.

FOLDER holds what fcn-plugin convert_weights --publish has written. Log in with hf auth login, or
set HF_TOKEN; HF_ENDPOINT names another hub than huggingface.co. This needs the extra [hub] of
fcn_plugin. docs/weights.md has the details.

fcn-plugin publish push published/shapes OWNER/NAME --private
fcn-plugin publish pull OWNER/NAME pulled
"""

import argparse
from pathlib import Path

from common import next_step, run, show
from parsing import ToolParser

PUSH = """Upload published weights, their config and model card to a hub of models.

fcn-plugin publish push published/shapes OWNER/NAME
fcn-plugin publish push published/shapes OWNER/NAME --private --replace
"""
PULL = """Download published weights from a hub of models, and compare their hash.

fcn-plugin publish pull OWNER/NAME pulled
fcn-plugin publish pull OWNER/NAME ~/networks/NAME
"""


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    ways = parser.add_subparsers(dest="way", required=True, metavar="WAY", title="ways")
    push = ways.add_parser("push", help="upload weights, config and model card", text=PUSH)
    folder = push.group("what is pushed").add_argument
    folder("folder", type=Path, metavar="FOLDER", help="of convert_weights --publish")
    hub = push.group("hub")
    hub.add_argument("repo", type=repository, metavar="OWNER/NAME", help="repository, may be new")
    hub.add_argument("--private", action="store_true", help="not to a public repository")
    hub.add_argument("--replace", action="store_true", help="delete other weights there")
    pull = ways.add_parser("pull", help="download them, and compare their hash", text=PULL)
    hub, written = pull.group("hub"), pull.group("what is written")
    hub.add_argument("repo", type=repository, metavar="OWNER/NAME", help="repository")
    written.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
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
