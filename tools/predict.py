"""Predict the labels of images and videos: as PNGs or polygons, and as overlays.

fcn-plugin predict CONFIG CHECKPOINT street.jpg photos 'more/*.png' --out predictions
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from common import add_cfg_options, add_network, add_task, load_config, next_step, run, show
from predicting import Predicting, waiting

UNITS = " KMGT"  # powers of 1000; with an i, as in GiB, of 1024


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="labels/NAME.png has the data set's own numbers and palette; overlays/NAME.jpg "
        "has at most 2000 pixels a side. A GeoTIFF gives a GeoTIFF with its place on the map, "
        "labels/NAME.tif; a video overlays/NAME.mp4, of its own size and rate. NAME includes the "
        "subfolders of an input folder. Images that cannot be predicted are named and skipped; "
        "the exit status is then 1.",
    )
    add_network(parser)
    parser.add_argument("input", nargs="+", help="images, folders of them, videos, or globs")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="write labels/ and overlays/ here"
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="write probabilities/NAME.npy too: classes x height x width, float16; "
        "numpy.load(FILE, mmap_mode='r') reads them",
    )
    parser.add_argument(
        "--confidence",
        action="store_true",
        help="write confidence/NAME.png too: 255 times the probability of each pixel's label",
    )
    parser.add_argument(
        "--labels-as",
        choices=("png", "labelme", "coco"),
        default="png",
        help="files to correct in a labelling tool instead of the PNGs: labels/NAME.json of "
        "labelme, or one labels/annotations.json of COCO, for CVAT and Label Studio",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1.0,
        metavar="PIXELS",
        help="that the polygons may be off the labels; default 1.0, and 0 is exact",
    )
    parser.add_argument(
        "--out-frames", action="store_true", help="write labels/NAME_000001.png, ... of videos too"
    )
    parser.add_argument(
        "--video",
        choices=("mp4", "webm"),
        default="mp4",
        help="format of overlaid videos; browsers show webm only, which takes longer to write",
    )
    parser.add_argument(
        "--no-overlays", action="store_true", help="labels only, which takes less time"
    )
    parser.add_argument(
        "--bands",
        nargs="+",
        type=int,
        metavar="N",
        help="bands that overlays show as red, green and blue, counted from 1, e.g. 4 3 2; or one",
    )
    parser.add_argument(
        "--polygons",
        action="store_true",
        help="write labels/NAME.geojson too: the polygons of the classes",
    )
    parser.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="images of one size in a batch"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: a GPU if there is one")
    parser.add_argument(
        "--max-memory",
        type=number_of_bytes,
        metavar="SIZE",
        help="memory that this process may use (on a GPU: GPU memory), e.g. 2GB; larger images are "
        "predicted in overlapping windows; default: most of the free memory",
    )
    parser.add_argument("--tta", action="store_true", help="average several scales, and mirrored")
    add_task(parser)
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.batch_size < 1:
        parser.error("--batch-size: at least 1")
    if args.tta and (args.probabilities or args.confidence or args.max_memory):
        parser.error(
            "--tta goes with none of --probabilities, --confidence and --max-memory; leave one out"
        )
    if not 0 <= args.tolerance < math.inf:
        parser.error("--tolerance: 0 or more pixels")
    return args


def number_of_bytes(text: str) -> int:
    """The bytes of a text like 2GB, 500M, 1.5GiB or 1000."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give e.g. 2GB")
    number, unit, binary = match.groups()
    power = UNITS.index(unit.upper() or " ")
    return int(float(number) * (1024 if binary else 1000) ** power)


def main() -> None:
    args = parse_args()
    cfg = load_config(args)

    from fcn_plugin.data.bands import rasterio_for
    from fcn_plugin.errors import UserError
    from fcn_plugin.prediction import Predictor
    from fcn_plugin.prediction.annotations import label_files
    from fcn_plugin.prediction.inputs import MARK, check_target, find_images, suffixes_of
    from fcn_plugin.prediction.scene import has_place
    from fcn_plugin.prediction.totals import Totals
    from fcn_plugin.prediction.video import take_videos
    from fcn_plugin.system.progress import progress_bar

    check_target(args.out)
    if args.polygons:
        rasterio_for("--polygons")
    images = find_images(args.input, args.out, suffixes_of(cfg.test_dataloader.dataset))
    videos = take_videos(images)
    if videos and (args.probabilities or (args.no_overlays and not args.out_frames)):
        raise UserError("videos have no --probabilities, and need overlays or --out-frames")
    if videos and args.out_frames and args.labels_as != "png":
        raise UserError(f"--labels-as {args.labels_as}: of images; a video's frames have no files")
    with progress_bar() as progress:
        options = (args.device, args.max_memory, args.tta, progress, args.task)
        predictor = Predictor(cfg, args.checkpoint, *options)
        if args.bands:
            predictor.read.show(args.bands)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / MARK).touch()
        totals = Totals(predictor.classes.names)
        files = (args.labels_as, args.out, predictor.classes, args.tolerance)
        as_tiffs = args.labels_as == "png"
        placed = {name: file for name, file in images.items() if as_tiffs and has_place(file)}
        plain = {name: file for name, file in images.items() if name not in placed}
        with label_files(*files) as write, predictor.pipeline(*waiting(args)) as pipeline:
            predicting = Predicting(predictor, args, totals, write, pipeline)
            for name, file in placed.items():
                predicting.placed(name, file)
                progress("Predicting", totals.images + len(totals.unreadable), len(images))
            for _ in predicting.images(plain):
                progress("Predicting", totals.images + len(totals.unreadable), len(images))
            for name, video in videos.items():
                predicting.frames(name, video)
    if totals.images or totals.frames:
        labels = bool(totals.images or args.out_frames)
        kinds = dict(
            labels=labels,
            overlays=not args.no_overlays,
            probabilities=args.probabilities,
            confidence=labels and args.confidence,
        )
        for line in totals.lines(args.out, [kind for kind, written in kinds.items() if written]):
            show(line)
        following = ("export_onnx", args.config, args.checkpoint, "network.onnx")
        corrected = ("prepare_data", "own", args.out / "labels", "--root", "data/corrected")
        show(next_step(*(corrected if args.labels_as == "labelme" else following)))
    if totals.unreadable:
        rest = "the rest is predicted" if totals.images or totals.frames else "nothing is predicted"
        kind = "images and videos" if videos else "images"
        raise UserError(
            f"{len(totals.unreadable)} of {len(images) + len(videos)} {kind} could not be "
            f"predicted (see above); {rest}"
        )


if __name__ == "__main__":
    run(main)
