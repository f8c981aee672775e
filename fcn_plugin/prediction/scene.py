"""A GeoTIFF as the image that a config's loader would give, read in windows."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from tifffile import TiffPage
from torch import Tensor

from fcn_plugin.data.bands import LoadBands, as_loaded, no_data, opened_tiff, rasterio_for
from fcn_plugin.data.picture_files import damage_named
from fcn_plugin.errors import UserError
from fcn_plugin.prediction.predictor import Predictor
from fcn_plugin.prediction.reading import Picture

SUFFIXES = (".tif", ".tiff")
# TIFF tags of a place: pixel scale, tie points, transformation, GeoTIFF's keys.
PLACE = (33550, 33922, 34264, 34735)
RGB = ["red", "green", "blue"]
PROBE = 65, 97  # pixels, height and width of what shows whether a pipeline changes pixels


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A picture opened by rasterio; errors of the file are one line that names it."""
    rasterio = rasterio_for(file)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
        with damage_named(file, "image", None):
            source = rasterio.open(file)
        with source:
            yield source


def has_place(file: Path) -> bool:
    """Whether a picture is a TIFF with a place on the map that can be kept.

    Without rasterio it cannot, and a warning says so of a GeoTIFF.
    """
    if file.suffix.lower() not in SUFFIXES:
        return False
    try:
        rasterio_for(f"{file}: a GeoTIFF, whose place on the map its labels can keep,")
    except UserError as error:
        if _is_geotiff(file):
            print_log(str(error), "current", logging.WARNING)
        return False
    try:
        with opened(file) as source:
            return bool(source.crs or source.gcps[0] or not source.transform.is_identity)
    except UserError:  # whatever loads it next names it
        return False


def _is_geotiff(file: Path) -> bool:
    try:
        with opened_tiff(file) as tiff:
            page = tiff.pages[0]
            return isinstance(page, TiffPage) and any(tag in page.tags for tag in PLACE)
    except Exception:  # tifffile does not document what it raises on arbitrary bytes
        return False


class Scene:
    """A GeoTIFF as the network's input [bands, H, W], of which only windows are in memory.

    Args:
        source: the file, opened by rasterio.
        predictor: whose config has the loader: ``LoadBands``, or one for photos.

    Attributes:
        shape: (bands, H, W).
        whole: the window that is the whole picture.
        complete: whether all pixels are known to have data.

    Raises:
        UserError: the file has other bands or another dtype than the loader gives.
    """

    def __init__(self, source: Any, file: Path, predictor: Predictor) -> None:
        self.source, self.file, self.predictor = source, file, predictor
        loader = predictor.read.loader
        self.loader = loader if isinstance(loader, LoadBands) else None
        self.shape = (self.loader.bands if self.loader else 3, source.height, source.width)
        self.whole = slice(0, source.height), slice(0, source.width)
        mask, masked = source.mask_flag_enums[0], source.nodata is not None
        whole_numbers = np.dtype(source.dtypes[0]).kind != "f"
        self.complete = (
            whole_numbers and not masked
            if self.loader
            else "all_valid" in [flag.name for flag in mask]
        )
        if self.loader:
            self.loader.check(self._read((slice(0, 1), slice(0, 1)), None), file)

    def rows(self, number: int) -> Iterator[slice]:
        """All rows, ``number`` at a time."""
        height = self.shape[1]
        return (slice(top, min(top + number, height)) for top in range(0, height, number))

    def read(self, rows: slice, cols: slice, size: tuple[int, int] | None = None) -> np.ndarray:
        """A window [h, w, bands] as the loader gives it, reduced to ``size`` (H, W) if given."""
        pixels = self._read((rows, cols), size)
        if self.loader:
            pixels[no_data(pixels, self.source.nodata)] = self.loader.fill
            return pixels
        return np.ascontiguousarray(pixels[..., ::-1])  # BGR

    def empty(self, rows: slice, cols: slice) -> np.ndarray:
        """Which pixels of a window have no data, bool [h, w]."""
        if self.loader:
            return no_data(self._read((rows, cols), None), self.source.nodata)
        with damage_named(self.file, "image", None):
            return self.source.dataset_mask(window=(_range(rows), _range(cols))) == 0

    def _read(self, window: tuple[slice, slice], size: tuple[int, int] | None) -> np.ndarray:
        bands = list(range(1, self.source.count + 1))
        bands = bands if self.loader else bands[:3]
        shape = (len(bands), *size) if size else None
        with damage_named(self.file, "image", None):
            stored = self.source.read(bands, window=tuple(map(_range, window)), out_shape=shape)
        return as_loaded(stored.transpose(1, 2, 0), self.file)

    def __getitem__(self, window: tuple[slice, slice, slice]) -> Tensor:
        pixels = self.read(*window[1:])
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def picture(self) -> Picture | None:
        """The picture for ``Predictor.in_windows``.

        None if it has to be loaded whole: because of test-time augmentation, a test pipeline that
        changes pixels (tried on a small image), or a format that only the loader understands.
        """
        source, predictor = self.source, self.predictor
        colours = [colour.name for colour in source.colorinterp[:3]]
        photo = predictor.read.is_usual and source.dtypes[0] == "uint8" and colours == RGB
        if predictor.tta or not (self.loader or photo):
            return None
        small = np.random.default_rng(0).integers(0, 255, (*PROBE, self.shape[0]))
        small = small.astype(self.loader.dtype if self.loader else np.uint8)
        tried = predictor.read(small)
        if not np.array_equal(tried.inputs[0].numpy(), small.transpose(2, 0, 1)):
            return None
        (sample,) = tried.samples
        sample.set_metainfo(dict(img_path=str(self.file)))
        whole: Any = self
        return Picture(np.empty((*self.shape[1:], 0), np.uint8), (whole,), (sample,))


def _range(part: slice) -> tuple[int, int]:
    return part.start, part.stop
