"""Mean and standard deviation of each band over many pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcn_plugin.data.bands import read_bands
from fcn_plugin.errors import UserError
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.system.workers import on_all_cores

AT_ONCE = 2**20  # pixels to convert to float64 at a time


class BandStatistics(NamedTuple):
    """What the pictures have in common.

    Attributes:
        dtype: 'uint8', 'uint16' or 'float32', as ``LoadBands`` gives it.
        mean, std: of each band in the file's order, over all pixels of all pictures that have
            data; the standard deviation of a band that is constant is 1.
    """

    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def bands(self) -> int:
        return len(self.mean)


class _Moments(NamedTuple):
    """Number of pixels, and of each band mean and sum of squared distances from it, float64."""

    dtype: str
    pixels: int
    mean: np.ndarray
    squares: np.ndarray

    def and_of(self, other: "_Moments") -> "_Moments":
        """The moments of both together (Chan et al. 1979), without loss to cancellation."""
        count = self.pixels + other.pixels
        if not other.pixels:
            return self
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.pixels / count)
        squares = self.squares + other.squares + apart**2 * (self.pixels * other.pixels / count)
        return _Moments(self.dtype, count, mean, squares)


def band_statistics(
    files: Sequence[Path], progress: Progress = silent, jobs: int | None = None
) -> BandStatistics:
    """The statistics of TIFFs, each read once, on all cores.

    Pixels without data (``bands.no_data``) do not count.

    Args:
        progress: called after each file.
        jobs: number of processes; None for one per available core.

    Raises:
        UserError: a file is missing or damaged, or has another dtype or number of bands than the
            first; or no pixel has data.
    """
    total: _Moments | None = None
    measured = zip(files, on_all_cores(_moments, files, chunk=4, jobs=jobs), strict=True)
    for number, (file, moments) in enumerate(measured, start=1):
        if total is None:
            total = moments
        elif (total.dtype, len(total.mean)) != (moments.dtype, len(moments.mean)):
            raise UserError(
                f"{file}: {len(moments.mean)} bands of {moments.dtype}, but {files[0]} has "
                f"{len(total.mean)} of {total.dtype}; give pictures that are all alike"
            )
        else:
            total = total.and_of(moments)
        progress("Measuring mean and std", number, len(files))
    if total is None or not total.pixels:
        first = files[0] if files else "no pictures"
        raise UserError(f"{first}: no pixel has data to measure a mean from; give other pictures")
    std = np.sqrt(total.squares / total.pixels)
    std = np.where(std > 0, std, 1.0)
    return BandStatistics(total.dtype, tuple(total.mean.tolist()), tuple(std.tolist()))


def _moments(file: Path) -> _Moments:
    pixels, empty = read_bands(file)
    bands = pixels.shape[-1]
    total = _Moments(pixels.dtype.name, 0, np.zeros(bands), np.zeros(bands))
    rows = max(AT_ONCE // pixels.shape[1], 1)
    for top in range(0, len(pixels), rows):
        values = pixels[top : top + rows][~empty[top : top + rows]].astype(np.float64)
        if len(values):
            mean = values.mean(0)
            squares = ((values - mean) ** 2).sum(0)
            part = _Moments(total.dtype, len(values), mean, squares)
            total = total.and_of(part)
    return total
