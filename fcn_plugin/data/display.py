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


class Shown(NamedTuple):
    """A picture [H, W, 3] uint8, RGB, and a note if bands are left out or values scaled."""

    pixels: np.ndarray
    note: str = ""


def shown(image: np.ndarray) -> Shown:
    """A viewable picture of an image that a pipeline loaded, [H, W] or [H, W, C].

    Three bands are read as BGR. Of four or more, the first three become red, green and blue; of
    one or two, the first becomes grey. Other dtypes than uint8 are scaled to 0..255, each band by
    its own minimum and maximum, except floats that already hold whole values up to 255.

    Raises:
        UserError: not an array of numbers in such a shape.

    >>> shown(np.ones((2, 2, 5), np.uint16)).note
    'bands 1-3 of 5, scaled'
    """
    bands = image[..., None] if image.ndim == 2 else image
    if bands.ndim != 3 or not bands.size or bands.dtype.kind not in "buif":
        raise UserError(f"an array of shape {image.shape} and {image.dtype} is no image")
    count = bands.shape[-1]
    if count == 3:
        visible, notes = bands[..., ::-1], []
    elif count > 3:
        visible, notes = bands[..., :3], [f"bands 1-3 of {count}"]
    else:
        visible, notes = bands[..., :1], ["band 1 of 2"] * (count == 2)
    if visible.dtype != np.uint8:
        if not _has_levels(visible):
            visible = _scaled(visible)
            notes.append("scaled")
        visible = visible.astype(np.uint8)
    if visible.shape[-1] == 1:
        visible = visible.repeat(3, -1)
    return Shown(visible, ", ".join(notes))


def _has_levels(bands: np.ndarray) -> bool:
    """Whether floats hold an 8-bit picture, as a loader with ``to_float32`` gives."""
    if bands.dtype.kind != "f" or not np.isfinite(bands).all():
        return False
    return bands.min() >= 0 and 1 < bands.max() <= 255 and bool((bands == bands.round()).all())


def _scaled(bands: np.ndarray) -> np.ndarray:
    """Each band scaled to 0..255 and rounded; NaN and inf become 0."""
    values = bands.astype(np.result_type(bands.dtype, np.float32))
    finite = np.isfinite(values)
    low = values.min((0, 1), where=finite, initial=np.inf)
    high = values.max((0, 1), where=finite, initial=-np.inf)
    span = np.where(high > low, high - low, 1)
    return np.where(finite, (values - low) / span * 255, 0).clip(0, 255).round()


class Viewer:
    """Viewable pictures of a built data set's images, loaded by its own pipeline.

    An image that cannot be shown never stops a test: it becomes a grey picture with a note, and
    the first one is logged as a warning.
    """

    def __init__(self, dataset: Any) -> None:
        self.parts = list(plain_datasets(dataset))
        self.warned = False
        self._positions: dict[str, tuple[BaseDataset, int]] = {}

    def load(self, path: str) -> np.ndarray:
        """The image [H, W] or [H, W, C] right after the data set's loading step.

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
        return results["img"]

    def __call__(self, sample: SegDataSample) -> Shown:
        """The picture of a sample's image; a grey one takes its size from ``pred_sem_seg``."""
        try:
            return shown(self.load(sample.img_path))
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
