"""How good a prediction is near the borders of classes: boundary IoU and accuracy in trimaps.

Boundary IoU compares, of each class's true and predicted mask, only the pixels within a distance d
of the mask's contour (Cheng, Girshick, Dollar, Berg and Kirillov, CVPR 2021); d is 2 % of the
image's diagonal. A trimap of width w has the pixels within w of a true border (Kohli, Ladicky and
Torr, IJCV 2009). Both count pixels, so that the counts of several images add up.

In all functions, ``truth`` and ``prediction`` are integers [H, W] of any dtype. A true label
outside 0 .. C - 1 is void and not counted; such a prediction is wrong. ``distance`` is
``boundary_distance(truth)``, for callers that need it more than once.

Distances are those of a chess king: a pixel's eight neighbours are at distance 1.
"""

import math

import cv2
import numpy as np

RATIO = 0.02  # of the image's diagonal
WIDTHS = 32  # of trimaps: 1 .. WIDTHS pixels
FAR = 8192  # pixels, the longest distance that OpenCV 4 measures


def is_class(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Which of ``labels`` are 0 .. num_classes - 1, as booleans of the same shape."""
    return (labels >= 0) & (labels < num_classes)


def boundary_distance(labels: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest one with another label, uint16 [H, W].

    Void is a label like any other here; the image's edge is no border. Distances above ``FAR``, and
    those in an image of one label, are told as ``FAR``.

    >>> boundary_distance(np.array([[4, 4, 4, 7, 7, 7, 7]])).tolist()
    [[3, 2, 1, 1, 2, 3, 4]]
    """
    if not labels.size:
        return np.zeros(labels.shape, np.uint16)
    # A shortest walk to the nearest pixel with another label stays on its own label up to the last
    # step, which starts at a border pixel; and from any border pixel, one step is enough. So the
    # distance is that to the nearest border pixel, and one more.
    steps = cv2.distanceTransform((~_at_border(labels)).view(np.uint8), cv2.DIST_C, 3)
    return np.minimum(steps, FAR - 1).astype(np.uint16) + 1


def _at_border(labels: np.ndarray) -> np.ndarray:
    """Which pixels have a neighbour with another label."""
    at_border = np.zeros(labels.shape, bool)
    for one, other in (  # a pixel and its neighbour to the left, above, and on both diagonals
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:], np.s_[:-1]),
        (np.s_[1:, 1:], np.s_[:-1, :-1]),
        (np.s_[1:, :-1], np.s_[:-1, 1:]),
    ):
        different = labels[one] != labels[other]
        at_border[one] |= different
        at_border[other] |= different
    return at_border


def boundary_counts(
    truth: np.ndarray, prediction: np.ndarray, num_classes: int, ratio: float = RATIO
) -> np.ndarray:
    """Right, true and predicted pixels of each class's boundary region, int64 [3, C].

    ``scores_of`` makes boundary IoUs of them, as it makes IoUs of ``class_counts``. A class's
    boundary region is what d erosions by 3 x 3 pixels take off its mask, with zeros around the
    image; d is ``ratio`` of the diagonal, rounded, at least 1. Pixels of void are not counted, but
    those beside it are in the regions of their classes.

    >>> truth, prediction = np.zeros((2, 5, 5), int)
    >>> prediction[2, 2] = 1
    >>> boundary_counts(truth, prediction, 2).tolist()  # d = 1
    [[16, 0], [16, 0], [24, 1]]
    """
    height, width = truth.shape
    d = max(1, round(ratio * math.sqrt(height * height + width * width)))
    counted = is_class(truth, num_classes)
    true = _in_region(truth, d) & counted
    predicted = _in_region(prediction, d) & counted & is_class(prediction, num_classes)
    hit = true & predicted & (truth == prediction)
    labels = truth[hit], truth[true], prediction[predicted]
    counts = [np.bincount(part.astype(np.intp), minlength=num_classes) for part in labels]
    return np.array(counts, np.int64)


def _in_region(labels: np.ndarray, d: int) -> np.ndarray:
    """Which pixels are within d of another label or of the outside: in their class's region."""
    if not labels.size:
        return np.zeros(labels.shape, bool)
    # That is within d - 1 of a border pixel (``boundary_distance``). Sums over squares find them
    # several times faster than distances do.
    side = 2 * d - 1
    at_border = _at_border(labels).view(np.uint8)
    outside = cv2.BORDER_CONSTANT
    sums = cv2.boxFilter(at_border, -1, (side, side), normalize=False, borderType=outside)
    region = sums > 0  # above 255 they are 255
    for edge in (np.s_[:d], np.s_[-d:], np.s_[:, :d], np.s_[:, -d:]):
        region[edge] = True
    return region


def trimap_counts(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    distance: np.ndarray | None = None,
) -> np.ndarray:
    """Pixels, and the right ones of them, at distance 1 .. WIDTHS of a border: int64 [2, WIDTHS].

    Void has borders, as VOC marks borders by void; the image's edge is none.

    >>> trimap_counts(np.array([[0, 0, 0, 1]]), np.array([[0, 0, 1, 1]]), 2)[:, :4].tolist()
    [[2, 1, 1, 0], [1, 1, 1, 0]]
    """
    if distance is None:
        distance = boundary_distance(truth)
    near = (distance <= WIDTHS) & is_class(truth, num_classes)
    right = truth[near] == prediction[near]
    cells = distance[near] - 1 + WIDTHS * right
    wrong, hit = np.bincount(cells, minlength=2 * WIDTHS).reshape(2, WIDTHS)
    return np.array([wrong + hit, hit], np.int64)


def trimap_accuracy(counts: np.ndarray) -> np.ndarray:
    """Pixel accuracy in trimaps of widths 1 .. WIDTHS, float64; NaN for those without pixels.

    >>> trimap_accuracy(np.array([[0, 2, 2], [0, 1, 2]])).tolist()
    [nan, 0.5, 0.75]
    """
    pixels, right = counts.cumsum(axis=1)
    with np.errstate(invalid="ignore"):
        return right / pixels
