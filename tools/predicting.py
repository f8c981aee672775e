"""What predict.py does with each input: read it, predict it, and write what the options ask for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from common import show

WAITING = 4  # most images, in batches, that wait in memory for others of their size
LARGE = 2**24  # an image of more bytes is predicted at once, alone if need be
WRITERS = 4  # most threads that write


class Predicting:
    """Predicts inputs one by one, counts them in ``totals``, and names those that fail.

    Args:
        write: as from ``label_files``.
        pipeline: of the predictor.
    """

    def __init__(
        self,
        predictor: Any,
        args: argparse.Namespace,
        totals: Any,
        write: Callable[[Path, Path, Any], None],
        pipeline: Any,
    ) -> None:
        self.predictor, self.args, self.totals = predictor, args, totals
        self.write, self.pipeline = write, pipeline

    def images(self, images: dict[Path, Path]) -> Iterator[None]:
        """Predict images, and after each batch yield."""
        for batch in self.batches(self.pipeline.read(images.items(), self.predictor.read)):
            self.batch(batch)
            batch.clear()  # frees memory before the next one is read
            yield

    def batches(self, read: Iterable[tuple[Path, Path, Any]]) -> Iterator[list]:
        """Lists of (name, file, picture) of one shape, at most a batch, roughly in their order."""
        waiting: dict[tuple, list] = {}
        size = self.args.batch_size
        for name, file, picture in read:
            if isinstance(picture, Exception):
                self.fail(file, picture)
                continue
            shape, large = picture.shape, picture.image.size > LARGE
            waiting.setdefault(shape, []).append((name, file, picture))
            del picture
            if large or len(waiting[shape]) == size:
                yield waiting.pop(shape)
            elif sum(map(len, waiting.values())) >= WAITING * size:
                yield waiting.pop(next(iter(waiting)))
        yield from waiting.values()

    def batch(self, batch: list) -> None:
        """Predict a batch, and write the files that the options ask for."""
        from fcn_plugin.errors import UserError

        args = self.args
        arrays = [
            args.probabilities and args.out / f"probabilities/{name}.npy" for name, *_ in batch
        ]
        pictures = [picture for *_, picture in batch]
        try:
            results = self.predictor.predict(pictures, arrays, args.confidence)
        except UserError as error:
            if len(batch) > 1:  # find the image that causes the error
                for one in batch:
                    self.batch([one])
            else:
                self.fail(batch[0][1], error)
            return
        for (name, file, picture), result in zip(batch, results, strict=True):
            job = partial(self.files, name, file, result)
            self.pipeline.write(job, result.labels.size)
            self.totals.add(result, () if args.tta else picture.factors)

    def files(self, name: Path, file: Path, result: Any) -> None:
        """Write the files of an image."""
        self.write(name, file, result)
        self.views(name, result, result.labels)

    def views(self, name: Path, result: Any, labels: Any) -> None:
        """Write the overlay and the polygons of a picture, if the options ask for them."""
        from fcn_plugin.data.picture_files import save_picture

        if self.args.polygons:
            from fcn_plugin.prediction.polygons import write_polygons

            target = self.args.out / "labels" / f"{name}.geojson"
            write_polygons(labels, result.classes, target)
        if not self.args.no_overlays:
            overlay = self.args.out / "overlays" / f"{name}.jpg"
            save_picture(result.overlay(), overlay, quality=90, subsampling=0)

    def placed(self, name: Path, file: Path) -> None:
        """Predict a GeoTIFF, and write the files that the options ask for."""
        from fcn_plugin.errors import UserError
        from fcn_plugin.prediction.geotiff import predict_geotiff

        args = self.args
        labels = args.out / "labels" / f"{name}.tif"
        probabilities = args.out / f"probabilities/{name}.npy" if args.probabilities else None
        confidence = args.out / f"confidence/{name}.tif" if args.confidence else None
        try:
            result = predict_geotiff(self.predictor, file, labels, probabilities, confidence)
        except UserError as error:
            self.fail(file, error)
            return
        self.views(name, result, labels)
        self.totals.add(result, ())

    def frames(self, name: Path, file: Path) -> None:
        """Predict a video, and write the files that the options ask for."""
        from fcn_plugin.errors import UserError
        from fcn_plugin.prediction.video import predict_video

        args = self.args
        target = None if args.no_overlays else args.out / "overlays" / f"{name}.{args.video}"
        options = (target, args.batch_size, args.out_frames and args.confidence)
        try:
            frames = predict_video(file, self.predictor, *options)
            for number, (picture, result) in enumerate(frames, 1):
                if args.out_frames:
                    job = partial(self.write, Path(f"{name}_{number:06}"), file, result)
                    self.pipeline.write(job, result.labels.size)
                self.totals.add(result, () if args.tta else picture.factors, frame=True)
        except UserError as error:
            self.fail(file, error)

    def fail(self, file: Path, error: Exception) -> None:
        """Say why an image, a video or its end is not predicted; raise what no user can correct."""
        from fcn_plugin.errors import UserError

        if not isinstance(error, UserError):
            raise error
        show(f"error: {error}", file=sys.stderr)
        self.totals.unreadable.append(file)


def waiting(args: argparse.Namespace) -> tuple[int, int]:
    """The number of pictures that may wait, and of threads that write, for ``pipeline``."""
    from fcn_plugin.system.machine import available_cores

    # In COCO's one file, annotations have the order of the pictures.
    writers = 1 if args.labels_as == "coco" else min(available_cores(), WRITERS)
    return max(WAITING, 2 * args.batch_size), writers
