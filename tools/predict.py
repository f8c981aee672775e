"""Predict the labels of images, as label PNGs and as overlays.

fcn-plugin predict CONFIG CHECKPOINT street.jpg photos 'more/*.png' --out predictions
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import add_cfg_options, add_network, load_config, next_step, run, show

UNITS = " KMGT"  # powers of 1000; with an i, as in GiB, of 1024
WAITING = 4  # most images, in batches, that wait in memory for others of their size
LARGE = 2**24  # an image of more bytes is predicted at once, alone if need be


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="labels/NAME.png has the data set's own numbers and palette; overlays/NAME.jpg "
        "has at most 2000 pixels a side. A GeoTIFF gives a GeoTIFF with its place on the map, "
        "labels/NAME.tif. NAME includes the subfolders of an input folder. Images "
        "that cannot be predicted are named and skipped; the exit status is then 1.",
    )
    add_network(parser)
    parser.add_argument("input", nargs="+", help="images, folders of them, or globs")
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
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.batch_size < 1:
        parser.error("--batch-size: at least 1")
    if args.tta and (args.probabilities or args.max_memory):
        parser.error("--tta goes with neither --probabilities nor --max-memory; leave one out")
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
    from fcn_plugin.prediction.inputs import MARK, check_target, find_images, suffixes_of
    from fcn_plugin.prediction.scene import has_place
    from fcn_plugin.system.progress import progress_bar

    check_target(args.out)
    if args.polygons:
        rasterio_for("--polygons")
    images = find_images(args.input, args.out, suffixes_of(cfg.test_dataloader.dataset))
    with progress_bar() as progress:
        options = (args.device, args.max_memory, args.tta, progress)
        predictor = Predictor(cfg, args.checkpoint, *options)
        if args.bands:
            predictor.read.show(args.bands)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / MARK).touch()
        began = time.monotonic()
        totals = Totals(predictor.classes.names)
        placed = {name: file for name, file in images.items() if has_place(file)}
        for name, file in placed.items():
            predict_placed(name, file, predictor, args, totals)
            progress("Predicting", totals.images + len(totals.unreadable), len(images))
        plain = {name: file for name, file in images.items() if name not in placed}
        for batch in batches(plain, predictor.read, args.batch_size, totals):
            predict(batch, predictor, args, totals)
            batch.clear()  # frees memory before the next one is read
            progress("Predicting", totals.images + len(totals.unreadable), len(images))
    if totals.images:
        totals.tell(args, time.monotonic() - began)
    if totals.unreadable:
        others = "the others are predicted" if totals.images else "nothing is predicted"
        raise UserError(
            f"{len(totals.unreadable)} of {len(images)} images could not be predicted (see above); "
            f"{others}"
        )


def batches(images: dict[Path, Path], read: Any, size: int, totals: Totals) -> Iterator[list]:
    """Lists of at most ``size`` (name, picture) of one shape, roughly in the given order."""
    from fcn_plugin.errors import UserError

    waiting: dict[tuple, list] = {}
    for name, image in images.items():
        try:
            picture = read(image)
        except UserError as error:
            show(f"error: {error}", file=sys.stderr)
            totals.unreadable.append(image)
            continue
        shape, large = picture.shape, picture.image.size > LARGE
        waiting.setdefault(shape, []).append((name, picture))
        del picture
        if large or len(waiting[shape]) == size:
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) >= WAITING * size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def predict(batch: list, predictor: Any, args: argparse.Namespace, totals: Totals) -> None:
    """Predict a batch, and write the files that the options ask for."""
    from fcn_plugin.data.picture_files import save_picture
    from fcn_plugin.errors import UserError
    from fcn_plugin.prediction.polygons import write_polygons

    names = [name for name, _ in batch]
    wanted = [args.probabilities and args.out / "probabilities" / f"{name}.npy" for name in names]
    try:
        results = predictor.predict([picture for _, picture in batch], wanted)
    except UserError as error:
        if len(batch) > 1:  # find the image that causes the error
            for one in batch:
                predict([one], predictor, args, totals)
        else:
            show(f"error: {error}", file=sys.stderr)
            totals.unreadable += names
        return
    for (name, picture), result in zip(batch, results, strict=True):
        result.save_labels(args.out / "labels" / f"{name}.png")
        if args.polygons:
            polygons = args.out / "labels" / f"{name}.geojson"
            write_polygons(result.labels, result.classes, polygons)
        if not args.no_overlays:
            file = args.out / "overlays" / f"{name}.jpg"
            save_picture(result.overlay(), file, quality=90, subsampling=0)
        totals.add(result, () if args.tta else picture.factors)


def predict_placed(
    name: Path, file: Path, predictor: Any, args: argparse.Namespace, totals: Totals
) -> None:
    """Predict a GeoTIFF, and write the files that the options ask for."""
    from fcn_plugin.data.picture_files import save_picture
    from fcn_plugin.errors import UserError
    from fcn_plugin.prediction.geotiff import predict_geotiff
    from fcn_plugin.prediction.polygons import write_polygons

    labels = args.out / "labels" / f"{name}.tif"
    wanted = args.out / "probabilities" / f"{name}.npy" if args.probabilities else None
    try:
        result = predict_geotiff(predictor, file, labels, wanted)
    except UserError as error:
        show(f"error: {error}", file=sys.stderr)
        totals.unreadable.append(file)
        return
    if not args.no_overlays:
        overlay = args.out / "overlays" / f"{name}.jpg"
        save_picture(result.overlay(), overlay, quality=90, subsampling=0)
    if args.polygons:
        write_polygons(labels, result.classes, labels.with_suffix(".geojson"))
    totals.add(result, ())


class Totals:
    """Counts over all images, for the table and the last line."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.images = self.windowed = 0
        self.pixels = [0] * len(classes)
        self.found_in = [0] * len(classes)
        self.unreadable: list[Path] = []
        self.factors: list[float] = []

    def add(self, result: Any, factors: tuple[float, ...]) -> None:
        """Count a result; ``factors`` are those of the config's resizing, none with --tta."""
        self.images += 1
        self.windowed += result.windows > 1
        self.factors += factors
        for i, count in enumerate(result.counts().tolist()):
            self.pixels[i] += count
            self.found_in[i] += count > 0

    def tell(self, args: argparse.Namespace, seconds: float) -> None:
        """Print the table of predicted classes, and the last line."""
        from fcn_plugin.evaluation.tables import class_table

        present = [i for i, images in enumerate(self.found_in) if images]
        shares = [f"{100 * self.pixels[i] / sum(self.pixels):.2f} %" for i in present]
        columns = dict(images=[self.found_in[i] for i in present], pixels=shares)
        show(class_table([self.classes[i] for i in present], columns))
        factors = sorted(self.factors) or [1.0]
        sizes = list(dict.fromkeys(f"{factor:.3g}" for factor in (factors[0], factors[-1])))
        if sizes != ["1"]:
            print(
                f"The network saw them at {' to '.join(sizes)} of their size (the config's Resize)"
            )
        if self.windowed:
            print(f"{self.windowed} of them in windows, to fit into memory (--max-memory)")
        kinds = ["labels"] + ["overlays"] * (not args.no_overlays)
        kinds += ["probabilities"] * args.probabilities
        where = ", ".join(f"{kind} in {args.out / kind}" for kind in kinds)
        pace = self.images / seconds
        pace = f"{pace:.1f}" if pace >= 1 else f"{pace:.2g}"
        plural = "" if self.images == 1 else "s"
        show(f"Done: {self.images:,} image{plural}, {where}, {pace} images/s")
        show(next_step("export_onnx", args.config, args.checkpoint, "network.onnx"))


if __name__ == "__main__":
    run(main)
