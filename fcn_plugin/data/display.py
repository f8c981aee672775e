"""Convert images of any number of bands and any dtype to 8-bit RGB for viewing."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmseg.structures import SegDataSample

from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.originals import load_image, plain_datasets, steps_of
from fcn_plugin.errors import UserError

GREY = 128  # stands in for an image that cannot be shown
# Percentiles that become black and white, and about how many pixels they are taken from.
STRETCH, SAMPLED = (2, 98), 2**20


class Shown(NamedTuple):
    """A picture [H, W, 3] uint8, RGB, and a note if bands are left out or values scaled."""

    pixels: np.ndarray
    note: str = ""


def shown(image: np.ndarray, display_bands: Sequence[int] | None = None) -> Shown:
    """A viewable picture of an image that a pipeline loaded, [H, W] or [H, W, C].

    Three bands are read as BGR. Of four or more, the first three become red, green and blue; of
    one or two, the first becomes grey. Other dtypes than uint8 are scaled to 0..255, each band
    from its 2nd to its 98th percentile, except floats that already hold whole values up to 255.

    Args:
        display_bands: the bands, counted from 1, that become red, green and blue, or grey.

    Raises:
        UserError: not an array of numbers in such a shape, or without these bands.

    >>> shown(np.ones((2, 2, 5), np.uint16)).note
    'bands 1-3 of 5, scaled'
    >>> shown(np.ones((2, 2, 5), np.uint8), (4, 3, 2)).note
    'bands 4, 3, 2 of 5'
    """
    bands = image[..., None] if image.ndim == 2 else image
    if bands.ndim != 3 or not bands.size or bands.dtype.kind not in "buif":
        raise UserError(f"an array of shape {image.shape} and {image.dtype} is no image")
    count = bands.shape[-1]
    if count == 3 and display_bands is None:
        visible, notes = bands[..., ::-1], []
    else:
        chosen = tuple(display_bands or range(1, (3 if count > 3 else 1) + 1))
        if not all(1 <= band <= count for band in chosen):
            raise UserError(f"display_bands={chosen}: not all in an image of {count} bands")
        visible = bands[..., [band - 1 for band in chosen]]
        notes = [] if chosen == tuple(range(1, count + 1)) else [f"{_named(chosen)} of {count}"]
    if visible.dtype != np.uint8:
        if not _has_levels(visible):
            visible = _scaled(visible)
            notes.append("scaled")
        visible = visible.astype(np.uint8)
    if visible.shape[-1] == 1:
        visible = visible.repeat(3, -1)
    return Shown(visible, ", ".join(notes))


def _named(bands: tuple[int, ...]) -> str:
    if len(bands) == 1:
        return f"band {bands[0]}"
    return "bands 1-3" if bands == (1, 2, 3) else f"bands {', '.join(map(str, bands))}"


def _has_levels(bands: np.ndarray) -> bool:
    """Whether floats hold an 8-bit picture, as a loader with ``to_float32`` gives."""
    if bands.dtype.kind != "f" or not np.isfinite(bands).all():
        return False
    return bands.min() >= 0 and 1 < bands.max() <= 255 and bool((bands == bands.round()).all())


def _scaled(bands: np.ndarray) -> np.ndarray:
    """Each band scaled to 0..255 and rounded; NaN and inf become 0."""
    step = max(int((bands.shape[0] * bands.shape[1] / SAMPLED) ** 0.5), 1)
    scaled = np.zeros(bands.shape, np.uint8)
    for band in range(bands.shape[-1]):
        values = bands[..., band].astype(np.result_type(bands.dtype, np.float32))
        finite = np.isfinite(values)
        sample = values[::step, ::step][finite[::step, ::step]]
        if not sample.size:
            continue
        low, high = np.percentile(sample, STRETCH)
        levels = (values - low) / (high - low or 1) * 255
        scaled[..., band] = np.where(finite, levels, 0).clip(0, 255).round()
    return scaled


class Viewer:
    """Viewable pictures of a built data set's images, loaded by its own pipeline.

    An image that cannot be shown never stops a test: it becomes a grey picture with a note, and
    the first one is logged as a warning.
    """

    def __init__(self, dataset: Any) -> None:
        self.parts = list(plain_datasets(dataset))
        self.warned = False
        self._positions: dict[str, tuple[BaseDataset, int]] = {}

    def load(self, path: str) -> dict[str, Any]:
        """The results of the data set's loading step, among them ``img``, [H, W] or [H, W, C].

        Raises:
            UserError: it cannot be loaded.
        """
        if not self._positions:
            for part in reversed(self.parts):
                for index in range(len(part)):
                    self._positions[str(part.get_data_info(index).get("img_path"))] = part, index
        steps: Sequence[Any] = ()
        info = dict(img_path=path)
        if path in self._positions:
            part, index = self._positions[path]
            steps, info = steps_of(part), part.get_data_info(index)
        # A data set without a pipeline has ordinary picture files.
        results, _ = load_image(steps or [LoadCheckedImage()], info)
        return results

    def __call__(self, sample: SegDataSample) -> Shown:
        """The picture of a sample's image; a grey one takes its size from ``pred_sem_seg``."""
        try:
            loaded = self.load(sample.img_path)
            return shown(loaded["img"], loaded.get("display_bands"))
        except Exception as error:  # a user's own loader or data set may raise anything
            self.warn(sample, error)
            size = sample.pred_sem_seg.data.shape[-2:]
            return Shown(np.full((*size, 3), GREY, np.uint8), "cannot be shown")

    def warn(self, sample: SegDataSample, error: Exception) -> None:
        """Log the first of these errors in one line; later calls do nothing."""
        if not self.warned:
            path = str(sample.get("img_path", "an image"))
            reason = " ".join(str(error).split()) or type(error).__name__
            line = reason if path in reason else f"{path}: {reason}"
            text = f"A picture cannot be shown, and there may be more: {line}"
            print_log(text, "current", logging.WARNING)
        self.warned = True
