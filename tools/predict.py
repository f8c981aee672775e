"""Predict the labels of images and videos, as PNGs or polygons.

Written are labels/NAME.png in the data set's own numbers and overlays/NAME.jpg to look at; of a
GeoTIFF labels/NAME.tif, of a video overlays/NAME.mp4. docs/prediction.md has the details.

fcn-plugin predict fcn8s_vgg16_shapes work_dirs/a photos --out predictions
fcn-plugin predict shapes.onnx street.jpg 'more/*.png' --out predictions
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

from common import (
    add_cfg_options,
    add_network,
    add_task,
    load_config,
    next_step,
    run,
    say_threads,
    show,
)
from parsing import ToolParser
from predicting import Predicting, waiting

EXPORTED = ".onnx"
UNITS = " KMGT"  # powers of 1000; with an i, as in GiB, of 1024


def parse_args() -> argparse.Namespace:
    parser = ToolParser(
        __doc__,
        forms=("CONFIG CHECKPOINT INPUT ... --out DIR", "MODEL.onnx INPUT ... --out DIR"),
    )
    network = parser.group("network")
    if exported := any(word.lower().endswith(EXPORTED) for word in sys.argv[1:]):
        network.add_argument("config", metavar="MODEL.onnx", help="file of export_onnx")
        parser.set_defaults(checkpoint=None)
    else:
        add_network(parser)
    add_task(parser)
    add_cfg_options(parser)
    network.add_argument("--tta", action="store_true", help="average several scales, and mirrored")
    add = parser.group("images").add_argument
    add("input", nargs="+", metavar="INPUT", help="images, folders of them, videos, or globs")
    add("--bands", nargs="+", type=int, metavar="N", help="bands that overlays show, e.g. 4 3 2")
    add = parser.group("what is written").add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="write labels/ and overlays/ here")
    add(
        "--labels-as",
        choices=("png", "labelme", "coco"),
        default="png",
        metavar="KIND",
        help="png (default), or to correct them in a labelling tool: labelme, coco",
    )
    add(
        "--tolerance",
        type=float,
        default=1.0,
        metavar="PIXELS",
        help="that those polygons may be off the labels; default 1.0, and 0 is exact",
    )
    add("--polygons", action="store_true", help="labels/NAME.geojson too: the classes' polygons")
    add(
        "--probabilities",
        action="store_true",
        help="probabilities/NAME.npy too: classes x height x width, float16",
    )
    add(
        "--confidence",
        action="store_true",
        help="confidence/NAME.png too: 255 times the probability of each label",
    )
    add("--out-frames", action="store_true", help="labels/NAME_000001.png, ... of videos too")
    add(
        "--video",
        choices=("mp4", "webm"),
        default="mp4",
        metavar="KIND",
        help="mp4 (default), or webm, which browsers show and which takes longer",
    )
    add("--no-overlays", action="store_true", help="labels only, which takes less time")
    add = parser.group("machine").add_argument
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...; default: a GPU if there is one")
    add(
        "--max-memory",
        type=number_of_bytes,
        metavar="SIZE",
        help="of this process or GPU, e.g. 2GB; larger images are predicted in windows",
    )
    add("--batch-size", type=int, default=1, metavar="N", help="images of one size in a batch")
    add(
        "--backend",
        choices=("onnxruntime", "openvino"),
        metavar="NAME",
        help="what runs MODEL.onnx: onnxruntime (default) or openvino",
    )
    args = parser.parse_args()
    if args.batch_size < 1:
        parser.error("--batch-size: at least 1")
    if args.tta and (args.probabilities or args.confidence or args.max_memory):
        parser.error(
            "--tta goes with none of --probabilities, --confidence and --max-memory; leave one out"
        )
    check_form(parser, args, exported)
    if not 0 <= args.tolerance < math.inf:
        parser.error("--tolerance: 0 or more pixels")
    return args


def check_form(parser: argparse.ArgumentParser, args: argparse.Namespace, exported: bool) -> None:
    """Refuse options that do not go with MODEL.onnx, or with CONFIG and CHECKPOINT."""
    if exported and not args.config.lower().endswith(EXPORTED):
        parser.error("MODEL.onnx comes first, in place of CONFIG and CHECKPOINT")
    of_config = ("tta", "task", "cfg_options", "bands", "polygons", "device")
    wrong = [name for name in of_config if getattr(args, name)] if exported else []
    if wrong:
        option = wrong[0].replace("_", "-")
        parser.error(f"--{option} goes with CONFIG and CHECKPOINT, not with MODEL.onnx")
    if args.backend and not exported:
        parser.error("--backend goes with MODEL.onnx, a file of export_onnx")


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
    say_threads()
    with_torch = args.checkpoint is not None
    cfg = load_config(args) if with_torch else import_bare()

    from fcn_plugin.errors import UserError
    from fcn_plugin.prediction.annotations import label_files
    from fcn_plugin.prediction.inputs import MARK, SUFFIXES, check_target, find_images, suffixes_of
    from fcn_plugin.prediction.totals import Totals
    from fcn_plugin.prediction.video import take_videos
    from fcn_plugin.system.progress import progress_bar

    check_target(args.out)
    if args.polygons:
        from fcn_plugin.data.bands import rasterio_for

        rasterio_for("--polygons")
    suffixes = suffixes_of(cfg.test_dataloader.dataset) if with_torch else SUFFIXES
    images = find_images(args.input, args.out, suffixes)
    videos = take_videos(images)
    if videos and (args.probabilities or (args.no_overlays and not args.out_frames)):
        raise UserError("videos have no --probabilities, and need overlays or --out-frames")
    if videos and args.out_frames and args.labels_as != "png":
        raise UserError(f"--labels-as {args.labels_as}: of images; a video's frames have no files")
    with progress_bar() as progress:
        predictor = trained(cfg, args, progress) if with_torch else exported(args, progress)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / MARK).touch()
        totals = Totals(predictor.classes.names)
        files = (args.labels_as, args.out, predictor.classes, args.tolerance)
        placed = with_place(images) if with_torch and args.labels_as == "png" else {}
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
        show(next_step(*following(args)))
    if totals.unreadable:
        rest = "the rest is predicted" if totals.images or totals.frames else "nothing is predicted"
        kind = "images and videos" if videos else "images"
        raise UserError(
            f"{len(totals.unreadable)} of {len(images) + len(videos)} {kind} could not be "
            f"predicted (see above); {rest}"
        )


def import_bare() -> None:
    """Let modules of fcn_plugin be imported without what the package registers.

    That needs PyTorch and mmseg, and an exported file needs neither.
    """
    if "fcn_plugin" not in sys.modules:
        spec = find_spec("fcn_plugin")
        if spec is None:
            raise ImportError(name="fcn_plugin")
        sys.modules["fcn_plugin"] = module_from_spec(spec)


def trained(cfg: Any, args: argparse.Namespace, progress: Any) -> Any:
    from fcn_plugin.prediction import Predictor

    options = (args.device, args.max_memory, args.tta, progress, args.task)
    predictor = Predictor(cfg, args.checkpoint, *options)
    if args.bands:
        predictor.read.show(args.bands)
    return predictor


def exported(args: argparse.Namespace, progress: Any) -> Any:
    from fcn_plugin.errors import UserError
    from fcn_plugin.prediction.exported import ExportedPredictor

    options = (args.backend or "onnxruntime", args.max_memory, progress)
    predictor = ExportedPredictor(args.config, *options)
    if (args.probabilities or args.confidence) and not predictor.scored:
        option = "--probabilities" if args.probabilities else "--confidence"
        raise UserError(f"{option}: {args.config} gives labels alone; export it with --scores")
    return predictor


def with_place(images: dict[Path, Path]) -> dict[Path, Path]:
    """Those of name -> file that are GeoTIFFs whose place on the map can be kept."""
    from fcn_plugin.prediction.scene import has_place

    return {name: file for name, file in images.items() if has_place(file)}


def following(args: argparse.Namespace) -> tuple[object, ...]:
    """The command to give next."""
    if args.labels_as == "labelme":
        return "prepare_data", "own", args.out / "labels", "--root", "data/corrected"
    if args.checkpoint is None:
        return "predict", args.config, *args.input, "--out", "to_correct", "--labels-as", "labelme"
    return "export_onnx", args.config, args.checkpoint, "network.onnx"


if __name__ == "__main__":
    run(main)
