"""Images of any number of bands and any type, as pictures to look at."""

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

GREY = 128  # of an image that cannot be shown


class Shown(NamedTuple):
    """A picture H x W x 3, uint8, RGB, and a note where it does not show all that there is."""

    pixels: np.ndarray
    note: str = ""


def shown(image: np.ndarray) -> Shown:
    """An image as a pipeline loads it, H x W or H x W x C, to look at.

    Three bands are BGR. Of more the first three are shown as red, green and blue, of two the first,
    in grey. What is not of 8 bits is scaled to 0..255, each band from its least to its largest
    value.

    >>> shown(np.ones((2, 2, 5), np.uint16)).note
    'bands 1-3 of 5, scaled'
    """
    bands = image[..., None] if image.ndim == 2 else image
    if bands.ndim != 3 or not bands.size or bands.dtype.kind not in "buif":
        raise UserError(f"an array of shape {image.shape} and {image.dtype} is no image")
    count = bands.shape[-1]
    if count == 3:
        chosen, notes = bands[..., ::-1], []
    elif count > 3:
        chosen, notes = bands[..., :3], [f"bands 1-3 of {count}"]
    else:
        chosen, notes = bands[..., :1], ["band 1 of 2"] * (count == 2)
    if chosen.dtype != np.uint8:
        if not _has_levels(chosen):
            chosen = _scaled(chosen)
            notes.append("scaled")
        chosen = chosen.astype(np.uint8)
    if chosen.shape[-1] == 1:
        chosen = chosen.repeat(3, -1)
    return Shown(chosen, ", ".join(notes))


def _has_levels(bands: np.ndarray) -> bool:
    """Whether floats are the levels of an 8-bit picture, as of a loader with ``to_float32``."""
    if bands.dtype.kind != "f" or not np.isfinite(bands).all():
        return False
    return bands.min() >= 0 and 1 < bands.max() <= 255 and bool((bands == bands.round()).all())


def _scaled(bands: np.ndarray) -> np.ndarray:
    """To 0..255 and rounded; NaN and inf become 0."""
    values = bands.astype(np.result_type(bands.dtype, np.float32))
    finite = np.isfinite(values)
    low = values.min((0, 1), where=finite, initial=np.inf)
    high = values.max((0, 1), where=finite, initial=-np.inf)
    span = np.where(high > low, high - low, 1)
    return np.where(finite, (values - low) / span * 255, 0).clip(0, 255).round()


class Viewer:
    """Pictures of the images of a built data set, as its own pipeline loads them.

    One that cannot be shown is grey and says so, and the first is warned of: no picture is worth
    the scores.
    """

    def __init__(self, dataset: Any) -> None:
        self.parts = list(plain_datasets(dataset))
        self.warned = False
        self._positions: dict[str, tuple[BaseDataset, int]] = {}

    def load(self, path: str) -> np.ndarray:
        """The image H x W or H x W x C as the data set loads it, before anything is done to it.

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
        # A data set without a pipeline of its own has files that anyone can read.
        results, _ = load_image(steps or [LoadCheckedImage()], info)
        return results["img"]

    def __call__(self, sample: SegDataSample) -> Shown:
        """The picture of a sample's image, of which there are predicted labels."""
        try:
            return shown(self.load(sample.img_path))
        except Exception as error:  # of a loader, or a data set, of the user's own
            self.warn(sample, error)
            size = sample.pred_sem_seg.data.shape[-2:]
            return Shown(np.full((*size, 3), GREY, np.uint8), "cannot be shown")

    def warn(self, sample: SegDataSample, error: Exception) -> None:
        """Log the first such warning, in one line."""
        if not self.warned:
            path = str(sample.get("img_path", "an image"))
            reason = " ".join(str(error).split()) or type(error).__name__
            named = reason if path in reason else f"{path}: {reason}"
            text = f"A picture cannot be shown, and there may be more: {named}"
            print_log(text, "current", logging.WARNING)
        self.warned = True
