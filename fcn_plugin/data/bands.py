"""Load TIFFs of any number of bands, of 8 or 16 bits or floating-point numbers.

The bands stay in the file's order; nothing is reduced to 8 bits and no channels are swapped.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS
from PIL import UnidentifiedImageError
from tifffile import TiffFile, TiffPage

from fcn_plugin.data.file_kinds import TIFF_STARTS, kind_of
from fcn_plugin.data.picture_files import CheckSize, content_of, damage_named, open_picture
from fcn_plugin.errors import UserError
from fcn_plugin.system.memory import Memory, check_picture

# dtype of a file -> dtype it is loaded in, which holds the same numbers.
DTYPES = {
    "uint8": np.uint8,
    "uint16": np.uint16,
    "int8": np.float32,
    "int16": np.float32,
    "float32": np.float32,
}
GDAL_NODATA = 42113  # TIFF tag: the number of pixels without data, as text
SEPARATED = 5  # TIFF's photometric interpretation of CMYK
ALPHA = (1, 2)  # kinds of TIFF's extra samples that are transparency
COLOURS = 3
COPIES = 2  # of all pixels, while the bands are put in order
SMALL = 2**26  # bytes; pictures of fewer are not compared with the free memory


@contextmanager
def opened_tiff(file: str | Path | BytesIO) -> Iterator[TiffFile]:
    """A TIFF opened by tifffile, without its warnings of tags that it does not know."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with TiffFile(file) as tiff:
            yield tiff
    finally:
        logger.setLevel(level)


def rasterio_for(what: object) -> ModuleType:
    """The package rasterio.

    Raises:
        UserError: it is not installed; the message begins with ``what`` needs it.
    """
    try:
        return import_module("rasterio")
    except ImportError as error:
        raise UserError(
            f"{what}: needs the package rasterio; run pip install 'fcn-plugin[geo]'"
        ) from error


def read_bands(
    path: str | Path, backend_args: dict | None = None, check_size: CheckSize = check_picture
) -> tuple[np.ndarray, np.ndarray]:
    """All bands of a TIFF, and which pixels have no data.

    Bands may lie pixel by pixel, one plane after the other, or one to a page. Compressions that
    tifffile lacks, such as LZW, are read by rasterio.

    Args:
        backend_args: where files are read from, as in mmseg's loaders.
        check_size: called with path and (width, height) before the picture is decoded.

    Returns:
        Pixels [H, W, bands], uint8, uint16 or float32; and a mask [H, W], bool, see ``no_data``.

    Raises:
        UserError: the file is missing, damaged, no TIFF, or has numbers of another dtype.
    """
    content = content_of(path, "image", backend_args)
    with damage_named(path, "image", content):
        if content and not content.startswith(TIFF_STARTS):
            name = kind.name if (kind := kind_of(content)) else "not a TIFF"
            raise UserError(f"{path}: {name}, and LoadBands reads TIFFs; save it as a TIFF")
        with opened_tiff(BytesIO(content)) as tiff:
            page, series = tiff.pages[0], tiff.series[0]
            assert isinstance(page, TiffPage)
            check_size(path, (page.imagewidth, page.imagelength))
            if series.nbytes > SMALL:
                name = f"{path}: {page.imagewidth}x{page.imagelength} pixels of all bands"
                Memory.of_process().refuse(name, COPIES * series.nbytes, None)
            try:
                stored = series.asarray(squeeze=False)
                axes = series.get_axes(squeeze=False)
            except (ValueError, ImportError) as error:
                if isinstance(error, ValueError) and "imagecodecs" not in str(error):
                    raise
                stored, axes = _by_rasterio(content, path, page), "SYX"
            nodata = page.tags.valueof(GDAL_NODATA)
    pixels = np.moveaxis(stored, (axes.index("Y"), axes.index("X")), (0, 1))
    if sum(length > 1 for length in pixels.shape[2:]) > 1:
        raise UserError(
            f"{path}: {len(series.pages)} pages of several bands each; save them as a TIFF each"
        )
    pixels = as_loaded(pixels.reshape(*pixels.shape[:2], -1), path)
    return pixels, no_data(pixels, _number(nodata))


def _by_rasterio(content: bytes, path: str | Path, page: TiffPage) -> np.ndarray:
    compression = getattr(page.compression, "name", page.compression)
    rasterio = rasterio_for(f"{path}: a TIFF compressed by {compression}")
    with rasterio.MemoryFile(content) as file, file.open() as dataset:
        return dataset.read()


def _number(nodata: object) -> float | None:
    try:
        return None if nodata is None else float(str(nodata).strip("\0 "))
    except ValueError:
        return None


def as_loaded(pixels: np.ndarray, path: str | Path) -> np.ndarray:
    """``pixels`` contiguous and in a dtype that networks are given: uint8, uint16 or float32.

    Raises:
        UserError: the dtype is none of ``DTYPES``.
    """
    dtype = DTYPES.get(pixels.dtype.name)
    if dtype is None:
        raise UserError(
            f"{path}: bands of {pixels.dtype.name}; save them as one of {', '.join(DTYPES)}"
        )
    return np.ascontiguousarray(pixels, dtype)


def no_data(pixels: np.ndarray, nodata: float | None) -> np.ndarray:
    """Mask [H, W] of the pixels of [H, W, bands] without data.

    These have NaN or inf in any band, or the number ``nodata`` in all of them.
    """
    is_float = pixels.dtype.kind == "f"
    mask = ~np.isfinite(pixels).all(-1) if is_float else np.zeros(pixels.shape[:2], bool)
    if nodata is None or not np.isfinite(nodata):
        return mask
    with np.errstate(over="ignore"):
        value = np.asarray(nodata).astype(pixels.dtype)
    if is_float or value == nodata:
        mask |= (pixels == value).all(-1)
    return mask


def is_multiband(path: str | Path) -> bool:
    """Whether a file is a TIFF that ``LoadBands`` reads and an 8-bit picture would not hold.

    That is a TIFF of 16 bits or of floating-point numbers, or of other than one (grey) or three
    (colour) bands. Transparency is no band: the file calls it so, and it is 0 or 255 everywhere,
    for GDAL calls the fourth of four bands so, whatever it is. Damaged files are False: whatever
    loads them names them.

    Raises:
        UserError: its transparency does not fit into free memory.
    """
    try:
        with opened_tiff(path) as tiff:
            page, pages = tiff.pages[0], len(tiff.series[0].pages)
            assert isinstance(page, TiffPage) and page.dtype is not None
            wide = page.dtype.name in DTYPES and page.dtype != np.uint8
            transparent = sum(kind in ALPHA for kind in page.extrasamples)
            cmyk = page.photometric == SEPARATED
            bands = page.samplesperpixel - transparent - cmyk
            size = page.imagewidth, page.imagelength
        multiband = wide or (bands == 1 and pages > 1) or bands not in (1, COLOURS)
        if transparent and not multiband:
            check_picture(path, size)
            # By Pillow, as photos are: rasterio, which reads as many compressions, may be missing.
            with open_picture(path) as image:
                multiband = not np.isin(np.asarray(image)[..., -1], (0, 255)).all()
    except UserError:
        raise
    except UnidentifiedImageError:  # Pillow reads no such combination of bands as a photo
        return True
    except Exception:  # tifffile does not document what it raises on arbitrary bytes
        return False
    return multiband


@TRANSFORMS.register_module()
class LoadBands(BaseTransform):
    """Load the TIFF ``img_path`` with all its bands.

    Adds ``img`` [H, W, bands], ``img_shape`` and ``ori_shape`` (H, W), ``display_bands``, and, if
    there are pixels without data (``no_data``), their mask ``nodata`` [H, W], by which
    ``LoadCheckedLabel`` makes them void.

    Args:
        bands: number of bands of every picture.
        dtype: of every picture: 'uint8', 'uint16', or 'float32', which 16-bit numbers with a sign
            become.
        fill: what pixels without data are set to, one number or one for each band; the means of
            the bands are neutral.
        display_bands: the bands that become red, green and blue where a picture is shown, counted
            from 1; or a single one, shown in grey. Default: the first three, of one or two the
            first.
        backend_args: where files are read from, as in mmseg's loaders.

    Raises:
        UserError: a setting is out of range; or a file is missing, damaged, or has other bands.
    """

    check_size: CheckSize = staticmethod(check_picture)

    def __init__(
        self,
        bands: int,
        dtype: str = "uint16",
        fill: float | Sequence[float] = 0,
        display_bands: Sequence[int] | None = None,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__()
        if type(bands) is not int or bands < 1:
            raise UserError(f"LoadBands: bands={bands!r}; give the number of bands, 1 or more")
        allowed = sorted({np.dtype(loaded).name for loaded in DTYPES.values()})
        if dtype not in allowed:
            raise UserError(f"LoadBands: dtype={dtype!r}; give one of {', '.join(allowed)}")
        if not isinstance(fill, int | float) and len(fill) != bands:
            raise UserError(f"LoadBands: fill has {len(fill)} numbers for {bands} bands")
        self.bands, self.dtype, self.backend_args = bands, dtype, backend_args
        self.fill = np.asarray(fill, np.float64).astype(dtype)
        first = range(1, (COLOURS if bands >= COLOURS else 1) + 1)
        self.display_bands = checked_display(display_bands or first, bands, "display_bands")

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the keys named above to ``results``."""
        path = results["img_path"]
        pixels, empty = read_bands(path, self.backend_args, self.check_size)
        self.check(pixels, path)
        if empty.any():
            pixels[empty] = self.fill
            results["nodata"] = empty
        results["img"] = pixels
        results["img_shape"] = results["ori_shape"] = pixels.shape[:2]
        results["display_bands"] = self.display_bands
        return results

    def check(self, pixels: np.ndarray, path: str | Path) -> None:
        """Raise ``UserError`` unless pixels [h, w, bands] are of the config's bands and dtype."""
        bands, dtype = pixels.shape[-1], pixels.dtype.name
        if (bands, dtype) != (self.bands, self.dtype):
            loader = type(self).__name__
            raise UserError(
                f"{path}: {_count(bands)} of {dtype}, but {loader} in the config takes "
                f"{_count(self.bands)} of {self.dtype}; give pictures that are all alike"
            )


def checked_display(chosen: Sequence[int], bands: int, setting: str) -> tuple[int, ...]:
    """Numbers of the bands to show, as a tuple.

    Raises:
        UserError: not one or three of 1 to ``bands``.
    """
    if len(chosen) not in (1, COLOURS) or not all(1 <= band <= bands for band in chosen):
        raise UserError(
            f"{setting} {' '.join(map(str, chosen))}: give one band, or three for red, green and "
            f"blue, each from 1 to {bands}"
        )
    return tuple(chosen)


def _count(bands: int) -> str:
    return f"{bands} band{'s' * (bands != 1)}"
