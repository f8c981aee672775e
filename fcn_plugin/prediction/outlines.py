"""Outlines of the regions of a label, as polygons that draw it again.

A region is what is connected, by the sides of its pixels, within one class. Outlines pass diagonal
gaps, so that a region lies either wholly within the outline of another or wholly outside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fcn_plugin.data.label_arrays import pixel_counts


class Region(NamedTuple):
    """A region of one class.

    Attributes:
        number: its value in the label.
        pixels: their number.
        box: left, top, width, height in pixels.
        rings: the outline, then that of each hole, which turns the other way; x and y of their
            points, int32 [n, 2].
    """

    number: int
    pixels: int
    box: tuple[int, int, int, int]
    rings: list[np.ndarray]


def regions(labels: np.ndarray, corners: bool) -> list[Region]:
    """The regions of a label [H, W], unsigned; one in the hole of another comes after it.

    Args:
        corners: rings run along the sides of pixels, from corner to corner, where pixel x reaches
            from x to x + 1. Otherwise they run through the centres of a region's outermost
            pixels, where pixel x has its centre at x; the ring of a hole, too, is in the region.
    """
    sized: list[tuple[float, Region]] = []
    for number in np.flatnonzero(pixel_counts(labels, int(labels.max()) + 1)).tolist():
        mask = (labels == number).view(np.uint8)
        _, parts, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for part, (left, top, width, height, pixels) in enumerate(boxes.tolist()):
            if part == 0:  # what is not of this class
                continue
            inside = parts[top : top + height, left : left + width] == part
            rings = _rings(inside.view(np.uint8), corners, (left, top))
            region = Region(number, pixels, (left, top, width, height), rings)
            sized.append((cv2.contourArea(rings[0]), region))
    # Within the outline of another region it has the smaller area.
    return [region for _, region in sorted(sized, key=lambda pair: -pair[0])]


def _rings(mask: np.ndarray, corners: bool, offset: tuple[int, int]) -> list[np.ndarray]:
    # Of twice the size, half a pixel x is at side (x + 1) // 2: the left one or the right one.
    zoom = 1 + corners
    mask = mask.repeat(zoom, 0).repeat(zoom, 1)
    # Two levels, outlines and holes; of a connected mask the first is its outline.
    rings, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [(ring[:, 0] + corners) // zoom + np.array(offset, np.int32) for ring in rings]


def simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """A ring with fewer points, from which the others are at most ``tolerance`` pixels away.

    The ring itself if fewer than three points would be left.
    """
    points = cv2.approxPolyDP(ring[:, None], tolerance, True)[:, 0]
    return points if len(points) > 2 else ring


def joined(rings: Sequence[np.ndarray]) -> np.ndarray:
    """One ring for an outline and its holes: bridges lead to each hole, and back the same way.

    A bridge has no area, so that a polygon with holes becomes one for tools that know none.
    """
    ring, *holes = rings
    for hole in holes:
        at = int(np.abs(ring - hole[0]).sum(1).argmin())
        ring = np.concatenate([ring[: at + 1], hole, hole[:1], ring[at:]])
    return ring
