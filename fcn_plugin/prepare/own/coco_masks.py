"""The pixels of COCO's annotations: polygons, and run lengths as numbers or as text."""

import re
from typing import Any

import numpy as np
from pycocotools import mask

from fcn_plugin.errors import UserError, width_by_height
from fcn_plugin.prepare.own.source import Size

# Polygons, arrays [2 * n] of x and y in turn; or run lengths.
Segmentation = list[np.ndarray] | dict[str, Any]
FEWEST_NUMBERS = 6  # of a polygon
# Run lengths as text: five bits a letter, lowest first; the letters of a length but for its last
# are from P to o, which have a sixth bit.
LETTERS = re.compile(r"(?:[P-o]{0,6}[0-O])*")


def mask_of(where: str, segmentation: Segmentation, size: Size) -> np.ndarray:
    """The mask [H, W] bool of a segmentation in a picture of that size.

    Args:
        where: the annotation, to name in an error.

    Raises:
        UserError: a polygon has fewer than three points or points far outside, or run lengths do
            not fill the picture.
    """
    draw = _of_runs if isinstance(segmentation, dict) else _of_polygons
    return draw(where, segmentation, size)


def _of_polygons(where: str, polygons: Any, size: Size) -> np.ndarray:
    for polygon in polygons:
        if polygon.ndim != 1 or len(polygon) % 2 or len(polygon) < FEWEST_NUMBERS:
            raise UserError(
                f"{where} has a polygon that is not three points or more; draw it again"
            )
        # pycocotools takes memory by the length of the sides. NaN is not at most anything.
        if not np.all(np.abs(polygon) <= 2 * max(size)):
            raise UserError(
                f"{where} has points far outside its picture of {width_by_height(size)}; draw it "
                "again"
            )
    return mask.decode(mask.merge(mask.frPyObjects(polygons, *size))).astype(bool)


def _of_runs(where: str, segmentation: Any, size: Size) -> np.ndarray:
    """Lengths of runs of 0 and 1 in turn, down the columns; pycocotools would trust them."""
    counts, pixels = segmentation.get("counts"), size[0] * size[1]
    if isinstance(counts, str) and LETTERS.fullmatch(counts):
        counts = _counts(counts)
    try:
        counts = np.array(counts, np.int64)
    except (OverflowError, TypeError, ValueError):
        counts = np.array([-1])
    # Each for itself as well, since a sum may overflow.
    inside = counts.ndim == 1 and np.all((counts >= 0) & (counts <= pixels))
    if not inside or counts.sum() != pixels or segmentation.get("size") != list(size):
        raise UserError(
            f"{where} has run lengths that do not fill its picture of {width_by_height(size)}; "
            "export the file again"
        )
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size, order="F")


def _counts(text: str) -> list[int]:
    """The run lengths in a text; from the fourth on it has the difference to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - ord("0")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
