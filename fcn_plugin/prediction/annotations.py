"""Write predicted labels as PNGs, or as the polygons that labelling tools open for correction.

Polygons with all their points (tolerance 0) give a label back exactly: labelme's drawn by Pillow,
as labelme and ``fcn_plugin.prepare.own`` do, COCO's by pycocotools. With a tolerance of 1 pixel
1.2 % and 1.0 % of the pixels change, 2.1 % and 1.7 % at worst, and 0.8 % and 0.3 % are in no
polygon: measured on every sixth of CamVid's labels, of 360 x 480 pixels.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fcn_plugin.data.label_arrays import save_labels
from fcn_plugin.data.numbering import BACKGROUND, LABELME_BACKGROUND, LEFT_OUT
from fcn_plugin.prediction.classes import Classes
from fcn_plugin.prediction.outlines import Region, joined, regions, simplified
from fcn_plugin.prediction.result import Prediction
from fcn_plugin.system.files import replacing

LABELME_VERSION = "5.5.0"  # of the files' format
LABELME_CLASSES = "classes.txt"

# Takes the name of a picture, its file, and what is predicted for it.
Write = Callable[[Path, Path, Prediction], None]


@contextmanager
def _pngs(folder: Path, classes: Classes, tolerance: float) -> Iterator[Write]:
    yield lambda name, picture, result: result.save_labels(folder / f"{name}.png")


@contextmanager
def _labelme(folder: Path, classes: Classes, tolerance: float) -> Iterator[Write]:
    """NAME.json for each picture, and the names of the classes, in their order."""
    lines = [LEFT_OUT] * (BACKGROUND not in classes.names) + [*classes.names]
    with replacing(folder / LABELME_CLASSES) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def write(name: Path, picture: Path, result: Prediction) -> None:
        file = folder / f"{name}.json"
        height, width = result.labels.shape
        document = dict(
            version=LABELME_VERSION,
            flags={},
            shapes=labelme_shapes(result.labels, classes.by_number, tolerance),
            imagePath=_path_from(file.parent, picture),
            imageData=None,
            imageHeight=height,
            imageWidth=width,
        )
        with replacing(file) as part:
            part.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")

    yield write


@contextmanager
def _coco(folder: Path, classes: Classes, tolerance: float) -> Iterator[Write]:
    """One file for all pictures; it appears when the block ends without error."""
    ids = {number: id for id, number in enumerate(classes.numbers, start=1)}
    names, annotation_ids = classes.by_number, count(1)
    images: list[dict[str, Any]] = []
    with (
        replacing(folder / "annotations.json") as part,
        part.open("w", encoding="utf-8") as file,
    ):
        file.write('{"annotations": [')

        def write(name: Path, picture: Path, result: Prediction) -> None:
            height, width = result.labels.shape
            image = dict(id=len(images) + 1, width=width, height=height)
            images.append(image | dict(file_name=f"{name.as_posix()}{picture.suffix}"))
            for region in regions(result.labels, corners=True):
                if names[region.number] == BACKGROUND:
                    continue
                annotation = dict(
                    id=next(annotation_ids),
                    image_id=image["id"],
                    category_id=ids[region.number],
                    segmentation=[coco_polygon(region, tolerance)],
                    area=region.pixels,
                    bbox=list(region.box),
                    iscrowd=0,
                )
                file.write(",\n" if annotation["id"] > 1 else "\n")
                file.write(json.dumps(annotation))

        yield write
        categories = [dict(id=ids[number], name=name) for number, name in names.items()]
        file.write(f'],\n"images": {json.dumps(images)},\n"categories": {json.dumps(categories)}}}')


KINDS: dict[str, Callable[[Path, Classes, float], AbstractContextManager[Write]]] = {
    "png": _pngs,
    "labelme": _labelme,
    "coco": _coco,
}


@contextmanager
def label_files(kind: str, out: Path, classes: Classes, tolerance: float) -> Iterator[Write]:
    """Gives a function that writes labels, and confidence if there is one, below ``out``.

    Args:
        kind: of the files in ``labels``, one of ``KINDS``.
        tolerance: pixels that an outline may be off its region.
    """
    with KINDS[kind](out / "labels", classes, tolerance) as write_labels:

        def write(name: Path, picture: Path, result: Prediction) -> None:
            write_labels(name, picture, result)
            if result.confidence is not None:
                save_labels(result.confidence, out / "confidence" / f"{name}.png")

        yield write


def labelme_shapes(
    labels: np.ndarray, names: dict[int, str], tolerance: float
) -> list[dict[str, Any]]:
    """labelme's polygons for a label [H, W]: later ones are drawn over earlier ones.

    A hole is what is drawn over it. The class ``background`` has no polygons but in holes, there
    named ``_background_``. Without such a class the first shape, ``__ignore__``, is the whole
    picture, for what is between polygons.

    Args:
        names: of each number that occurs.
    """
    height, width = labels.shape
    parts = regions(labels, corners=False)
    covered = np.zeros((height, width), np.uint8)
    for region in parts:
        if names[region.number] != BACKGROUND:
            cv2.drawContours(covered, [region.rings[0]], 0, 1, cv2.FILLED)
    shapes = []
    if BACKGROUND not in names.values():
        corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])
        shapes.append(_labelme_shape(LEFT_OUT, corners))
    for region in parts:
        (x, y), name = region.rings[0][0], names[region.number]
        if name == BACKGROUND and not covered[y, x]:
            continue
        name = LABELME_BACKGROUND if name == BACKGROUND else name
        shapes.append(_labelme_shape(name, simplified(region.rings[0], tolerance)))
    return shapes


def _labelme_shape(name: str, ring: np.ndarray) -> dict[str, Any]:
    # labelme refuses polygons of fewer points.
    ring = np.concatenate([ring, ring[-1:].repeat(max(3 - len(ring), 0), 0)])
    # On labelme's screen the centre of pixel x is at x + 0.5; Pillow, which draws, drops the half.
    points = (ring + 0.5).tolist()
    return dict(
        label=name, points=points, group_id=None, description="", shape_type="polygon", flags={}
    )


def coco_polygon(region: Region, tolerance: float) -> list[int]:
    """x and y of each point in turn, along the sides of pixels; bridges lead to the holes."""
    return joined([simplified(ring, tolerance) for ring in region.rings]).ravel().tolist()


def _path_from(folder: Path, picture: Path) -> str:
    """The path of a file, relative to ``folder`` where that is possible."""
    folder, picture = folder.resolve(), picture.resolve()
    if folder.anchor != picture.anchor:  # another drive of Windows
        return picture.as_posix()
    return Path(os.path.relpath(picture, folder)).as_posix()
