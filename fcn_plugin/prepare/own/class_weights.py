"""Weights that let rare classes count as much in the loss as frequent ones."""

import numpy as np


def median_frequency(counts: np.ndarray) -> list[float]:
    """The weight of each class: the median of all frequencies, divided by the class's own.

    As Eigen and Fergus have it (ICCV 2015, section 3.3): the frequency of a class is its share of
    the pixels of those images that show it. A class that no image shows weighs 1.

    Args:
        counts: [images, classes] number of pixels.

    >>> median_frequency(np.array([[90, 10, 0], [50, 50, 0]]))
    [0.7143, 1.667, 1.0]
    """
    pixels = counts.sum(axis=0)
    # Pixels that are left out have no loss, and are not counted.
    beside = ((counts > 0) * counts.sum(axis=1, keepdims=True)).sum(axis=0)
    frequencies = pixels / np.maximum(beside, 1)
    present = frequencies[pixels > 0]
    if not present.size:
        return [1.0] * len(pixels)
    weights = np.where(pixels > 0, np.median(present) / np.where(pixels > 0, frequencies, 1), 1)
    # Digits that count: a weight of 0 would leave a frequent class out of the training.
    return [float(f"{weight:.4g}") for weight in weights]
