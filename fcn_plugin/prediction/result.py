"""The labels of an image, and how to save and show them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image

from fcn_plugin.data.label_arrays import pixel_counts, save_labels
from fcn_plugin.evaluation.drawing import overlay, tinted
from fcn_plugin.prediction.classes import Classes
from fcn_plugin.system.files import allocate, replacing

if TYPE_CHECKING:  # without mmseg, which it needs
    from fcn_plugin.data.display import Shown

CHUNK = 2**20  # pixels to renumber at once
INDICES = 256  # most colours of an indexed PNG


@dataclass
class Prediction:
    """The labels of one image.

    Attributes:
        labels: H x W, the number of each pixel's class as in the data set's label files and in
            ``save_labels``; uint8, or uint16 if a number is above 255.
        image: H x W x 3, uint8, RGB. If the image is not three bands of 8 bits, a version that
            can be shown, described by ``note``.
        classes: ``names``, ``palette`` and ``numbers`` of the classes, in the same order.
        probabilities: C x H x W, float16, in the order of ``classes``; None unless requested.
        confidence: H x W, uint8: 255 times the probability of each label; None unless requested.
        windows: number of windows the image was predicted in; 1 if it was predicted whole.
    """

    labels: np.ndarray
    image: np.ndarray
    classes: Classes
    probabilities: np.ndarray | None = None
    confidence: np.ndarray | None = None
    windows: int = 1
    note: str = ""

    @classmethod
    def empty(
        cls, shown: "Shown", classes: Classes, probabilities: bool, confidence: bool = False
    ) -> "Prediction":
        """A prediction with arrays to fill; ``numbered`` replaces class indices in ``labels``."""
        image = shown.pixels
        size, count = image.shape[:2], len(classes.names)
        scores = np.empty((count, *size), np.float16) if probabilities else None
        dtype = np.uint8 if max(classes.numbers) < INDICES else np.uint16
        chosen = np.empty(size, np.uint8) if confidence else None
        return cls(np.empty(size, dtype), image, classes, scores, chosen, note=shown.note)

    @property
    def scored(self) -> bool:
        """Whether it holds more than labels, for which scores are needed."""
        return self.probabilities is not None or self.confidence is not None

    def numbered(self) -> "Prediction":
        """Itself, with class indices replaced by the data set's numbers."""
        rows = max(CHUNK // self.labels.shape[1], 1)
        for start in range(0, len(self.labels), rows):
            part = self.labels[start : start + rows]
            part[:] = self.classes.numbering.labels(part)
        return self

    @contextmanager
    def probabilities_in(self, file: Path) -> Iterator[None]:
        """Keep the probabilities in a .npy file, which appears when the block ends without error.

        Raises:
            OSError: the disk has too little space.
        """
        shape = len(self.classes.names), *self.labels.shape
        with replacing(file) as part:
            scores = open_memmap(part, "w+", np.float16, shape)
            allocate(part)
            self.probabilities = scores
            yield
            scores.flush()

    def overlay(self) -> Image.Image:
        """The image tinted in the class colours, with a legend; at most 2,000 pixels a side.

        Pixels of a class ``background`` stay as in the image.
        """
        names = self.classes.by_number
        return overlay(self.image, self.labels, names, self._palette, self.note)

    def tinted(self) -> np.ndarray:
        """The image in the class colours, of its own size: H x W x 3, uint8, RGB."""
        image, names = np.ascontiguousarray(self.image), self.classes.by_number
        return tinted(image, self.labels, names, self._palette)

    def counts(self) -> np.ndarray:
        """Number of pixels of each class, in the order of ``classes``."""
        return pixel_counts(self.labels, len(self._palette))[list(self.classes.numbers)]

    def save_labels(self, path: Path) -> None:
        """Write the labels as an indexed PNG, or as 16-bit grey if a number is above 255."""
        palette = self._palette
        save_labels(self.labels, path, palette if len(palette) <= INDICES else None)

    @property
    def _palette(self) -> Sequence[Sequence[int]]:
        """The colour of each number in the data set's label files."""
        return self.classes.numbering.palette(self.classes.palette)
