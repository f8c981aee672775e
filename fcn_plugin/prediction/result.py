"""What a prediction is, and what can be made of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image

from fcn_plugin.evaluation.pictures import overlay
from fcn_plugin.evaluation.predictions import save_labels
from fcn_plugin.files import allocate, replacing
from fcn_plugin.prediction.network import Classes

# Pixels that are counted at once.
CHUNK = 2**20
# Numbers that an indexed PNG can have.
INDICES = 256


@dataclass
class Prediction:
    """The labels of one image.

    Attributes:
        labels: H x W, the index of each pixel's class; uint8, or uint16 of more than 256 classes.
        image: H x W x 3, uint8, RGB.
        classes: names, colours and numbers of the classes.
        probabilities: C x H x W, float16, if they were asked for.
        windows: how many windows it was predicted in; 1: as a whole.
    """

    labels: np.ndarray
    image: np.ndarray
    classes: Classes
    probabilities: np.ndarray | None = None
    windows: int = 1

    @classmethod
    def empty(cls, image: np.ndarray, classes: Classes, probabilities: bool) -> "Prediction":
        """Room for one of an image in RGB."""
        size, count = image.shape[:2], len(classes.names)
        scores = np.empty((count, *size), np.float16) if probabilities else None
        dtype = np.uint8 if count <= INDICES else np.uint16
        return cls(np.empty(size, dtype), image, classes, scores)

    @contextmanager
    def probabilities_in(self, file: Path) -> Iterator[None]:
        """Room for the probabilities in a .npy file, which is there when the block has filled it.

        Raises:
            OSError: the disk has less room than they take.
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
        return overlay(self.image, self.labels, self.classes.names, self.classes.palette)

    def counts(self) -> np.ndarray:
        """Pixels of each class."""
        total = np.zeros(len(self.classes.names), np.int64)
        pixels = self.labels.reshape(-1)
        for start in range(0, len(pixels), CHUNK):  # each is copied as int64
            total += np.bincount(pixels[start : start + CHUNK], minlength=len(total))
        return total

    def save_labels(self, path: Path) -> None:
        """Write the labels as an indexed PNG; its values are the data set's own numbers.

        Where these pass 255, a grey PNG of 16 bits.
        """
        first, labels = self.classes.first, self.labels
        palette = [(0, 0, 0)] * first + list(self.classes.palette)
        if len(palette) > INDICES:
            labels = labels.astype(np.uint16)
        if first:
            labels = labels + labels.dtype.type(first)
        save_labels(labels, path, palette if len(palette) <= INDICES else None)
