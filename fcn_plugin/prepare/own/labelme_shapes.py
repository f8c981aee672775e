"""labelme's shapes, read from its JSON and drawn the way labelme's own converter draws them."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from fcn_plugin.data.numbering import BACKGROUND
from fcn_plugin.data.picture_files import open_picture
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.source import Size

# labelme's values, in pixels: its lines and points have no size of their own.
LINE_WIDTH, POINT_RADIUS = 10, 5
Points = list[tuple[float, float]]


class Shape(NamedTuple):
    """One object of a file."""

    label: str
    kind: str
    points: Points  # x, y in pixels
    mask: np.ndarray | None  # [h, w] bool, only of the kind "mask": fills the box of its two points


def read_shapes(path: Path, document: dict[str, Any]) -> list[Shape]:
    """The shapes of a document, in its order.

    Raises:
        UserError: a shape has no label, an unknown kind, or points that do not fit its kind.
    """
    return [_shape(path, number, shape) for number, shape in enumerate(document["shapes"], start=1)]


def _shape(path: Path, number: int, shape: Any) -> Shape:
    where = f"{path}: shape {number}"
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str) or not label.strip():
        raise UserError(f"{where} has no label; give it one in labelme, or delete it")
    where = f"{where} ({' '.join(label.split())})"
    kind = str(shape.get("shape_type") or "polygon")
    if kind not in KINDS:
        raise UserError(f"{where} is a {kind!r}; draw it as {', '.join(KINDS)}")
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
    except (KeyError, TypeError, ValueError):
        points = [(math.nan, math.nan)]
    if not all(map(math.isfinite, (number for point in points for number in point))):
        raise UserError(f"{where} has points that are no pairs of numbers; draw it again")
    least, most, _ = KINDS[kind]
    if not least <= len(points) <= most:
        wanted = least if least == most else f"{least} or more"
        raise UserError(
            f"{where} is a {kind} of {len(points)} points, not {wanted}; draw it again, or delete "
            "it"
        )
    mask = _decoded_mask(where, shape.get("mask"), points) if kind == "mask" else None
    return Shape(label.strip(), kind, points, mask)


def _decoded_mask(where: str, text: Any, points: Points) -> np.ndarray:
    """The mask [h, w] bool that fills the box between two points, both included."""
    try:
        mask = np.asarray(open_picture(io.BytesIO(base64.b64decode(text)))).astype(bool)
    # What a decoder raises on damaged data is not documented.
    except Exception:
        raise UserError(f"{where} has a damaged mask; draw it again, or delete it") from None
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
    if mask.shape != (bottom - top + 1, right - left + 1):
        raise UserError(
            f"{where} has a mask that does not fill its box; draw it again, or delete it"
        )
    return mask


def draw(shapes: Sequence[Shape], size: Size, numbers: dict[str, int]) -> np.ndarray:
    """The label [H, W] uint8 of the shapes; pixels without a shape are background.

    Args:
        numbers: the value to draw for each label of a shape.
    """
    label = Image.new("L", size[::-1], numbers[BACKGROUND])
    brush = ImageDraw.Draw(label)
    for shape in shapes:
        number = numbers[shape.label]
        if shape.mask is not None:
            left, top = (int(position) for position in shape.points[0])
            # Pillow cuts off what lies outside the image.
            label.paste(number, (left, top), Image.fromarray(shape.mask))
        else:
            KINDS[shape.kind].draw(brush, shape.points, number)
    return np.array(label)


def _polygon(brush: ImageDraw.ImageDraw, points: Points, number: int) -> None:
    brush.polygon(points, fill=number, outline=number)


def _rectangle(brush: ImageDraw.ImageDraw, points: Points, number: int) -> None:
    """Draw from two opposite corners in any order, or from all four, as similar tools write."""
    across, down = zip(*points, strict=True)
    box = (min(across), min(down), max(across), max(down))
    brush.rectangle(box, fill=number, outline=number)


def _circle(brush: ImageDraw.ImageDraw, points: Points, number: int) -> None:
    """Draw from the centre and a point on the circle."""
    centre, rim = points
    _disc(brush, centre, math.dist(centre, rim), number)


def _line(brush: ImageDraw.ImageDraw, points: Points, number: int) -> None:
    brush.line(points, fill=number, width=LINE_WIDTH)


def _points(brush: ImageDraw.ImageDraw, points: Points, number: int) -> None:
    for point in points:
        _disc(brush, point, POINT_RADIUS, number)


def _disc(
    brush: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, number: int
) -> None:
    (x, y), r = centre, radius
    brush.ellipse((x - r, y - r, x + r, y + r), fill=number, outline=number)


class Kind(NamedTuple):
    least: int  # number of points
    most: float
    draw: Callable[[ImageDraw.ImageDraw, Points, int], None]


KINDS = {
    "polygon": Kind(3, math.inf, _polygon),
    "rectangle": Kind(2, 4, _rectangle),
    "oriented_rectangle": Kind(4, 4, _polygon),
    "rotation": Kind(4, 4, _polygon),  # the same of X-AnyLabeling
    "circle": Kind(2, 2, _circle),
    "line": Kind(2, 2, _line),
    "linestrip": Kind(2, math.inf, _line),
    "point": Kind(1, 1, _points),
    "points": Kind(1, math.inf, _points),
    "mask": Kind(2, 2, _rectangle),  # draw() pastes the mask instead
}
