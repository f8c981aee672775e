"""What a prediction is, and what can be made of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image

from fcn_plugin.data.display import Shown
from fcn_plugin.data.labels import pixel_counts, save_labels
from fcn_plugin.evaluation.pictures import overlay
from fcn_plugin.prediction.network import Classes
from fcn_plugin.system.files import allocate, replacing

CHUNK = 2**20  # pixels that are numbered at once
INDICES = 256  # that an indexed PNG can have


@dataclass
class Prediction:
    """The labels of one image.

    Attributes:
        labels: H x W, the data set's own number of each pixel's class, as in its label files and
            in ``save_labels``; uint8, or uint16 if a number is above 255.
        image: H x W x 3, uint8, RGB; of images other than three bands of 8 bits what can be shown,
            and ``note`` says what that is.
        classes: ``names``, ``palette`` and ``numbers`` of the classes, in one order.
        probabilities: C x H x W, float16, in the order of ``classes``, if they were asked for.
        windows: how many windows it was predicted in; 1: as a whole.
    """

    labels: np.ndarray
    image: np.ndarray
    classes: Classes
    probabilities: np.ndarray | None = None
    windows: int = 1
    note: str = ""

    @classmethod
    def empty(cls, shown: Shown, classes: Classes, probabilities: bool) -> "Prediction":
        """Arrays to fill: ``labels`` with indices of the classes, which ``numbered`` replaces."""
        image = shown.pixels
        size, count = image.shape[:2], len(classes.names)
        scores = np.empty((count, *size), np.float16) if probabilities else None
        dtype = np.uint8 if max(classes.numbers) < INDICES else np.uint16
        return cls(np.empty(size, dtype), image, classes, scores, note=shown.note)

    def numbered(self) -> "Prediction":
        """Replace the indices of the classes by the data set's own numbers; returns itself."""
        rows = max(CHUNK // self.labels.shape[1], 1)
        for start in range(0, len(self.labels), rows):
            part = self.labels[start : start + rows]
            part[:] = self.classes.numbering.labels(part)
        return self

    @contextmanager
    def probabilities_in(self, file: Path) -> Iterator[None]:
        """Keep the probabilities in a .npy file, which appears once the block has filled it.

        Raises:
            OSError: the disk has less space than they take.
        """
        shape = len(self.classes.names), *self.labels.shape
        with replacing(file) as part:
            scores = open_memmap(part, "w+", np.float16, shape)
            allocate(part)
            self.probabilities = scores
            yield
            scores.flush()

    def overlay(self) -> Image.Image:
        """The image in the colours of its classes with a legend, at most 2,000 pixels a side."""
        names = dict(zip(self.classes.numbers, self.classes.names, strict=True))
        return overlay(self.image, self.labels, names, self._palette, self.note)

    def counts(self) -> np.ndarray:
        """Pixels of each class, in the order of ``classes``."""
        return pixel_counts(self.labels, len(self._palette))[list(self.classes.numbers)]

    def save_labels(self, path: Path) -> None:
        """Write the labels as an indexed PNG; above 255 as a grey one of 16 bits."""
        palette = self._palette
        save_labels(self.labels, path, palette if len(palette) <= INDICES else None)

    @property
    def _palette(self) -> Sequence[Sequence[int]]:
        """The colours by number."""
        return self.classes.numbering.palette(self.classes.palette)
