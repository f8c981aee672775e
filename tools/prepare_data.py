"""Prepare a data set under data/, where the configs look for it.

fcn-plugin prepare_data DATA_SET --help lists the options of each; docs/data.md has their sizes and
sources.

fcn-plugin prepare_data shapes
fcn-plugin prepare_data own ~/labelled --root data/mine
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from common import next_step, run, show
from parsing import ToolParser

DEFAULT = "; default %(default)s"


def add_root(parser: ToolParser, default: str, what: str = "folder to make") -> None:
    """Add --root, where the data set is written."""
    parser.group("what is written").add_argument(
        "--root", type=Path, metavar="DIR", default=Path(default), help=f"{what}{DEFAULT}"
    )


def shapes_options(parser: ToolParser) -> None:
    add_root(parser, "data/shapes")
    add = parser.group("what is written").add_argument
    add("--train", type=int, default=4000, metavar="N", help=f"training images{DEFAULT}")
    add("--val", type=int, default=500, metavar="N", help=f"validation images{DEFAULT}")
    add("--seed", type=int, metavar="N", default=0, help=f"another seed, other pictures{DEFAULT}")


def shapes(args: argparse.Namespace) -> str:
    from fcn_plugin.prepare.drawing import CLASSES, SIZE
    from fcn_plugin.prepare.shapes import write_shapes
    from fcn_plugin.system.progress import progress_bar

    with progress_bar() as progress:
        write_shapes(args.root, args.train, args.val, seed=args.seed, progress=progress)
    return (
        f"{args.root}: {args.train} train and {args.val} val images, {SIZE}x{SIZE}, "
        f"{len(CLASSES)} classes"
    )


def published_options(parser: ToolParser, test: str = "") -> None:
    """Add the options of a published data set; ``test`` is the help of --test, if it has that."""
    group = parser.group("source")
    source = group.add_mutually_exclusive_group() if test else group
    source.add_argument(
        "--archive",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="archives that you already have; default: download them to ROOT/downloads",
    )
    parser.set_defaults(test=False)
    if test:
        source.add_argument("--test", action="store_true", help=test)
    add_root(parser, "data", "folder of all data sets")
    add = parser.group("checks").add_argument
    add(
        "--subset",
        action="store_true",
        help="accept a part of the data set, without the published counts and hashes",
    )
    add(
        "--check",
        action="store_true",
        help="prepare nothing: check every image and label under ROOT, list all faults",
    )


def published(args: argparse.Namespace) -> str:
    from fcn_plugin.errors import UserError
    from fcn_plugin.prepare.job import Preparation
    from fcn_plugin.prepare.published import fetch, only_one_preparation, prepare
    from fcn_plugin.system.progress import progress_bar

    if args.check and args.archive:
        raise UserError("--check looks at what is there and unpacks nothing; leave --archive out")
    if args.check:
        return check(args)
    job = Preparation(args.root, args.command, args.subset, note=note)
    with only_one_preparation(args.root):
        archives = args.archive or fetch(job, args.test)
        with progress_bar() as progress:
            return "\n".join(prepare(job._replace(progress=progress), archives))


def note(text: str) -> None:
    show(text, file=sys.stderr)


def check(args: argparse.Namespace) -> str:
    from fcn_plugin.data.catalogue import DATA_SETS
    from fcn_plugin.errors import UserError
    from fcn_plugin.prepare.tree_check import check
    from fcn_plugin.system.progress import progress_bar

    with progress_bar() as progress:
        counts, faults = check(args.root, args.command, args.subset, progress)
    for fault in faults:
        note(fault)
    folder = args.root / DATA_SETS[args.command].folder
    if faults:
        raise UserError(
            f"{folder}: faults, listed above: {len(faults):,}; delete what is damaged and run this "
            "without --check, or give --subset if only a part of the data set is meant"
        )
    images = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    return f"{folder}: {images} images, no faults"


def own_options(parser: ToolParser) -> None:
    add = parser.group("source").add_argument
    add(
        "source",
        type=Path,
        metavar="SOURCE",
        help="folder, or zip, with labels of labelme, COCO, YOLO, CVAT, Roboflow, Supervisely, "
        "Label Studio or Cityscapes, or label PNGs. Its split is kept: folders or lists (.txt) "
        "called train, val and test. Test images need no labels",
    )
    add("--images", type=Path, metavar="DIR", help="pictures, if SOURCE has only their labels")
    add = parser.group("classes").add_argument
    add(
        "--classes",
        type=Path,
        metavar="FILE",
        help="their names, one a line, in the order of the labels' values, or each with its value "
        "or colour; __ignore__: left out; default: what SOURCE says",
    )
    add(
        "--map",
        nargs="+",
        default=[],
        metavar="OLD=NEW",
        help="rename classes; those with one new name become one. NEW background or __ignore__ "
        "drops a class; OLD * is all others",
    )
    add(
        "--void",
        type=int,
        nargs="+",
        default=[],
        metavar="VALUE",
        help="label values of pixels to leave out, besides 255",
    )
    add(
        "--class-weight",
        choices=["auto"],
        metavar="auto",
        help="more weight in the loss to rare classes; default: all weigh the same",
    )
    add_root(parser, "data/mine")
    add = parser.group("what is written").add_argument
    add(
        "--val",
        type=float,
        default=0.2,
        metavar="SHARE",
        help=f"training images to score on, if SOURCE has no val{DEFAULT}",
    )
    add(
        "--seed",
        type=int,
        metavar="N",
        default=0,
        help=f"another seed, other images to score on{DEFAULT}",
    )
    add(
        "--scale",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="resize all images for the network, in training and prediction; with 0.5 it sees "
        f"twice as far{DEFAULT}",
    )


def own(args: argparse.Namespace) -> str:
    from fcn_plugin.errors import UserError
    from fcn_plugin.prepare.own.dataset import prepare_own
    from fcn_plugin.prepare.own.source import Job
    from fcn_plugin.report.data_page import write_data_page_of
    from fcn_plugin.system.progress import progress_bar

    renamed = dict(pair.rpartition("=")[::2] for pair in args.map)
    if "" in {*renamed, *renamed.values()} or len(renamed) < len(args.map):
        raise UserError(f"--map {' '.join(args.map)}: give OLD=NEW once for each class OLD")
    with progress_bar() as progress:
        job = Job(
            args.source,
            args.root,
            classes_file=args.classes,
            val=args.val,
            seed=args.seed,
            scale=args.scale,
            note=note,
            progress=progress,
            images=args.images,
            void=tuple(args.void),
            renamed=renamed,
            class_weight=args.class_weight == "auto",
        )
        lines = prepare_own(job)
        page = args.root / "data.html"
        if not page.exists():
            facts = write_data_page_of(args.root / "dataset.py", page, progress=progress)
            for finding in facts.findings:
                note(f"{args.root}: {finding.text} {finding.remedy}")
    number = next(number for number, line in enumerate(lines) if line.startswith("Next"))
    return "\n".join([*lines[:number], f"Look at it first: {page}", *lines[number:]])


# Name -> summary, function that adds the options, function that runs and returns the last line.
COMMANDS = {
    "shapes": ("drawn shapes in VOC's layout, no download", shapes_options, shapes),
    "voc2012": (
        "PASCAL VOC 2012: 1,464 train and 1,449 val images (2 GB); with sbd also trainaug, 10,582",
        partial(published_options, test="say how to get the 1,456 test images"),
        published,
    ),
    "voc2011": (
        "PASCAL VOC 2011: 1,112 train and 1,111 val images (1.7 GB); with sbd also seg11valid, 736",
        published_options,
        published,
    ),
    "pascal-context": (
        "PASCAL-Context, 59 classes and background: 4,998 train and 5,105 val images (1.4 GB)",
        published_options,
        published,
    ),
    "sbd": (
        "SBD, more labels for VOC: 8,498 train and 2,857 val images (1.4 GB)",
        published_options,
        published,
    ),
    "ade20k": (
        "ADE20K scene parsing: 20,210 train and 2,000 val images (0.9 GB)",
        partial(published_options, test="download the 3,352 test images as well (0.2 GB)"),
        published,
    ),
    "nyud": (
        "NYUDv2 with depth and HHA, 40 classes: 795 trainval and 654 test images",
        published_options,
        published,
    ),
    "camvid": (
        "CamVid in SegNet's split: 367 train, 101 val, 233 test frames (0.2 GB)",
        published_options,
        published,
    ),
    "siftflow": (
        "SIFT Flow, semantic and geometric labels: 2,486 trainval and 200 test images",
        published_options,
        published,
    ),
    "own": ("pictures of your own, however they were labelled", own_options, own),
}

# Name -> what follows it in the examples; of the others nothing, and --check.
EXAMPLES = {
    "shapes": ("", " --root data/few --train 400 --val 50"),
    "sbd": ("", " --archive ~/benchmark.tgz"),
    "own": (" ~/labelled --root data/mine", " coco.zip --map bus=vehicle truck=vehicle --val 0.1"),
}


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="DATA_SET", title="data sets"
    )
    for name, (summary, add_options, _) in COMMANDS.items():
        tries = EXAMPLES.get(name, ("", " --check"))
        examples = [f"fcn-plugin prepare_data {name}{words}" for words in tries]
        text = "\n".join([f"{summary[0].upper()}{summary[1:]}.", "", *examples])
        add_options(commands.add_parser(name, help=summary, text=text))
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    show(COMMANDS[args.command][2](args))
    if args.command != "own":  # which names its own configs
        show(next_step("configs", args.command))


if __name__ == "__main__":
    run(main)
