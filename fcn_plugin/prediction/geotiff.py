"""Predict GeoTIFFs into GeoTIFFs with their place on the map, whatever their size.

The picture is read, predicted and written in windows: in memory there are at most one window of
it and one row of blocks of the labels, which meanwhile lie in a temporary file.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from PIL import Image

from fcn_plugin.data.bands import rasterio_for
from fcn_plugin.data.display import Shown
from fcn_plugin.data.label_arrays import pixel_counts
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.drawing import LARGEST, overlay
from fcn_plugin.prediction.classes import Classes
from fcn_plugin.prediction.predictor import Predictor
from fcn_plugin.prediction.result import INDICES, Prediction
from fcn_plugin.prediction.scene import Scene, opened
from fcn_plugin.system.files import allocate, replacing

NO_DATA, WIDE_NO_DATA = 255, 65535  # label of pixels without data, in 8 and in 16 bits
BLACK, OPAQUE = (0, 0, 0), 255
BLOCK = 256  # pixels, side of a block of the written file
MOST = 2**24  # pixels of a window
CACHE = 64  # MB of files that GDAL keeps in memory


@dataclass
class PlacedPrediction:
    """The labels of a GeoTIFF, which are in a file.

    Attributes:
        image, labels: H x W x 3, uint8, RGB, and H x W; to look at, and reduced if they are large.
        no_data: label of the pixels without data.
        pixels: number of pixels of each class in the file, in the order of ``classes``.
        windows: number of windows the picture was predicted in; 1 if it was predicted whole.
    """

    image: np.ndarray
    note: str
    labels: np.ndarray
    classes: Classes
    no_data: int
    pixels: np.ndarray
    windows: int

    def counts(self) -> np.ndarray:
        """Number of pixels of each class, in the order of ``classes``."""
        return self.pixels

    def overlay(self) -> Image.Image:
        """The picture tinted in the class colours but for background, with a legend."""
        names = self.classes.by_number | {self.no_data: "no data"}
        colours = _palette(self.classes, self.no_data)
        return overlay(self.image, self.labels, names, colours, self.note)


def _palette(classes: Classes, no_data: int) -> list[Sequence[int]]:
    """The colour of each label from 0 to ``no_data``."""
    colours = classes.numbering.palette(classes.palette)
    return [*colours, *[BLACK] * (no_data + 1 - len(colours))]


def predict_geotiff(
    predictor: Predictor,
    file: Path,
    target: Path,
    probabilities: Path | None = None,
    confidence: Path | None = None,
) -> PlacedPrediction:
    """Write the labels of a GeoTIFF as a GeoTIFF of the same CRS and transform.

    Its values are the data set's own numbers, its colours the classes', and its tag ``classes``
    has their names as JSON. Pixels without data (of ``LoadBands`` see ``data.bands.no_data``, of
    photos those that alpha or a nodata value hides) get the file's nodata value: 255, or 65535 if a
    class has a number above 254.

    If the test pipeline changes pixels before the network sees them, and with test-time
    augmentation, the whole picture is in memory.

    Args:
        target: the file to write, whole or not at all.
        probabilities: a .npy file for the probabilities, see ``Predictor``.
        confidence: a GeoTIFF for the confidence, see ``Prediction``.

    Raises:
        UserError: the picture cannot be read, or is not like those the network takes.
    """
    rasterio = rasterio_for(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE))
        source = stack.enter_context(opened(file))
        scene = Scene(source, file, predictor)
        if picture := scene.picture():
            dtype = np.uint16 if max(predictor.classes.numbers) >= INDICES else np.uint8
            space = target.parent, scene.shape[1:]
            labels = stack.enter_context(_on_disk(*space, dtype))
            result = Prediction(labels, np.empty((0, 0, 3), np.uint8), predictor.classes)
            if confidence:
                result.confidence = stack.enter_context(_on_disk(*space, np.uint8))
            if probabilities:
                stack.enter_context(result.probabilities_in(probabilities))
            predictor.in_windows(picture, result, MOST)
            result.numbered()
        else:
            result = predictor(file, probabilities or False, bool(confidence))
        no_data = NO_DATA if max(predictor.classes.numbers) < NO_DATA else WIDE_NO_DATA
        with replacing(target) as part:
            pixels = _write_labels(part, scene, result, no_data)
            with rasterio.open(part) as written:
                scale = min(LARGEST / max(written.shape), 1) if picture else 1
                size = max(round(written.height * scale), 1), max(round(written.width * scale), 1)
                labels = written.read(1, out_shape=size)
        if confidence and result.confidence is not None:
            with replacing(confidence) as part, _new(part, scene, np.uint8) as written:
                for rows in scene.rows(BLOCK):
                    _put(written, result.confidence[rows], rows)
        shown = Shown(result.image, result.note)
        if picture:
            shown = predictor.shown(scene.read(*scene.whole, size))
        classes, windows = predictor.classes, result.windows
    return PlacedPrediction(*shown, labels, classes, no_data, pixels, windows)


@contextmanager
def _on_disk(folder: Path, size: tuple[int, int], dtype: type) -> Iterator[np.ndarray]:
    """An array in a temporary file."""
    with NamedTemporaryFile(dir=folder, suffix=".part") as file:
        array = np.memmap(file, dtype, "w+", shape=size)
        allocate(Path(file.name))
        yield array


def _write_labels(part: Path, scene: Scene, result: Prediction, no_data: int) -> np.ndarray:
    """Write the labels, block row by block row; return the number of pixels of each class."""
    classes, dtype = result.classes, np.uint8 if no_data < INDICES else np.uint16
    counts = np.zeros(no_data + 1, np.int64)
    with _new(part, scene, dtype, nodata=no_data) as written:
        written.update_tags(classes=json.dumps(classes.by_number, ensure_ascii=False))
        if dtype == np.uint8:
            colours = enumerate(_palette(classes, no_data))
            written.write_colormap(1, {i: (*colour, OPAQUE) for i, colour in colours})
        for rows in scene.rows(BLOCK):
            labels = result.labels[rows].astype(dtype)
            if not scene.complete:
                labels[scene.empty(rows, scene.whole[1])] = no_data
            counts += pixel_counts(labels, no_data + 1)
            _put(written, labels, rows)
    return counts[list(classes.numbers)]


@contextmanager
def _new(part: Path, scene: Scene, dtype: type, **form: Any) -> Iterator[Any]:
    """A file to write of one band, as large as the scene and in its place."""
    rasterio, source = rasterio_for(part), scene.source
    form |= dict(height=source.height, width=source.width, count=1, dtype=dtype)
    form |= dict(crs=source.crs, transform=source.transform)
    layout = dict(tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate")
    try:
        with rasterio.open(part, "w", driver="GTiff", BIGTIFF="IF_SAFER", **form, **layout) as file:
            if source.gcps[0]:
                file.gcps = source.gcps
            yield file
    except rasterio.errors.RasterioIOError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{part}: cannot be written ({reason}); make room there") from error


def _put(written: Any, values: np.ndarray, rows: slice) -> None:
    written.write(values, 1, window=((rows.start, rows.stop), (0, values.shape[1])))
