"""Labels from labelme's files: shapes as JSON, drawn the way labelme's own converter draws them.

Later shapes cover earlier ones; what no shape covers is background. A shape named
``_background_`` clears what is below it, one named ``__ignore__`` leaves it out (255).
"""

import base64
import binascii
import io
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from fcn_plugin.data.loading import IGNORED
from fcn_plugin.data.own_source import (
    BACKGROUND,
    LABELME_BACKGROUND,
    LABELME_IGNORED,
    Item,
    Size,
    Source,
    Tell,
    classes_beside,
    default_palette,
    each,
    pictures,
    read_classes,
    refuse_classes,
    refuse_size,
)
from fcn_plugin.data.whole import open_picture
from fcn_plugin.errors import UserError
from fcn_plugin.files import is_special
from fcn_plugin.text import did_you_mean

# labelme's, in pixels: a line has no width of its own, and a point no size.
LINE_WIDTH, POINT_RADIUS = 10, 5
DRAWN_BACKGROUND = {LABELME_BACKGROUND, BACKGROUND}
Points = list[tuple[float, float]]


class Shape(NamedTuple):
    """One object of a file."""

    label: str
    kind: str
    points: Points  # x, y in pixels
    mask: np.ndarray | None  # [h, w] bool, of the kind "mask": within the box of its two points


# --- reading -------------------------------------------------------------------------------------


def read_document(path: Path) -> dict[str, Any]:
    """labelme's JSON, of any version.

    Raises:
        UserError: the file cannot be read or is something else.
    """
    if is_special(path):
        raise UserError(f"{path}: a pipe, device or socket; save it to a file or move it away")
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read ({reason}); save it again or delete it") from None
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise UserError(f"{path}: no file of labelme's (no list 'shapes' in it); move it away")
    return document


def read_shapes(path: Path, document: dict[str, Any]) -> list[Shape]:
    """The shapes of a document, in its order.

    Raises:
        UserError: one is not what its kind should be.
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
    """The mask of the box between two points, both included."""
    try:
        mask = np.asarray(open_picture(io.BytesIO(base64.b64decode(text)))).astype(bool)
    # What a decoder raises on arbitrary bytes is not documented.
    except Exception:
        raise UserError(f"{where} has a damaged mask; draw it again, or delete it") from None
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
    if mask.shape != (bottom - top + 1, right - left + 1):
        raise UserError(
            f"{where} has a mask that does not fill its box; draw it again, or delete it"
        )
    return mask


# --- drawing -------------------------------------------------------------------------------------


def draw(shapes: Sequence[Shape], size: Size, numbers: dict[str, int]) -> np.ndarray:
    """The label [H, W] uint8 of the shapes, background where there is none.

    Args:
        numbers: the value to draw, by the shapes' labels.
    """
    label = Image.new("L", size[::-1], numbers[BACKGROUND])
    for shape in shapes:
        _, _, draw_kind = KINDS[shape.kind]
        draw_kind(label, shape, numbers[shape.label])
    return np.array(label)


def _polygon(label: Image.Image, shape: Shape, number: int) -> None:
    ImageDraw.Draw(label).polygon(shape.points, fill=number, outline=number)


def _rectangle(label: Image.Image, shape: Shape, number: int) -> None:
    """By two corners in any order, or by all four, as labelme's kin write it."""
    across, down = zip(*shape.points, strict=True)
    box = (min(across), min(down), max(across), max(down))
    ImageDraw.Draw(label).rectangle(box, fill=number, outline=number)


def _circle(label: Image.Image, shape: Shape, number: int) -> None:
    """By its centre and a point on it."""
    centre, rim = shape.points
    _disc(label, centre, math.dist(centre, rim), number)


def _line(label: Image.Image, shape: Shape, number: int) -> None:
    ImageDraw.Draw(label).line(shape.points, fill=number, width=LINE_WIDTH)


def _points(label: Image.Image, shape: Shape, number: int) -> None:
    for point in shape.points:
        _disc(label, point, POINT_RADIUS, number)


def _mask(label: Image.Image, shape: Shape, number: int) -> None:
    assert shape.mask is not None
    left, top = (int(number) for number in shape.points[0])
    label.paste(number, (left, top), Image.fromarray(shape.mask))  # what is outside is cut off


def _disc(label: Image.Image, centre: tuple[float, float], radius: float, number: int) -> None:
    (x, y), r = centre, radius
    ImageDraw.Draw(label).ellipse((x - r, y - r, x + r, y + r), fill=number, outline=number)


ANY = 1 << 62
# kind -> least and most points, and how it is drawn
KINDS: dict[str, tuple[int, int, Callable[[Image.Image, Shape, int], None]]] = {
    "polygon": (3, ANY, _polygon),
    "rectangle": (2, 4, _rectangle),
    "oriented_rectangle": (4, 4, _polygon),
    "circle": (2, 2, _circle),
    "line": (2, 2, _line),
    "linestrip": (2, ANY, _line),
    "point": (1, 1, _points),
    "points": (1, ANY, _points),
    "mask": (2, 2, _mask),
}


# --- a folder of them ----------------------------------------------------------------------------


class Summary(NamedTuple):
    """What has to be known of all files before any is drawn."""

    item: Item
    labels: set[str]


def labelme_source(folder: Path, classes_file: Path | None, tell: Tell) -> Source:
    """A folder with labelme's JSON files, right in it, and mostly the images beside them.

    Args:
        classes_file: Its classes in their order; default: a file of ``CLASS_FILES`` in the folder,
            or all labels that occur, sorted. Background is added in front if it is not among them.

    Raises:
        UserError: a file is damaged or not labelme's, a label is not in the file of classes, or two
            files are of one image.
    """
    classes_file = classes_file or classes_beside(folder)
    files = sorted(folder.glob("*.json"))
    summaries = each("Reading labelme's files", _summary, files, tell)
    owners: dict[Path, Path] = {}
    for item, _ in summaries:
        assert item.annotation is not None
        owner = owners.setdefault((item.image or item.annotation).resolve(), item.annotation)
        if owner != item.annotation:
            raise UserError(f"{item.annotation}: {owner.name} is of the same image; delete one")
    classes = _classes(folder, classes_file, summaries)
    numbers = {name: index for index, name in enumerate(classes)}
    numbers |= dict.fromkeys(DRAWN_BACKGROUND, numbers[BACKGROUND])
    numbers[LABELME_IGNORED] = IGNORED
    _refuse_strangers(summaries, numbers, classes_file)
    unlabelled = [path for path in pictures(folder).values() if path.resolve() not in owners]
    return Source(
        items=[item for item, _ in summaries],
        unlabelled=unlabelled,
        classes=classes,
        palette=default_palette(classes),
        read=partial(_read, numbers=numbers),
        settings=[classes_file] if classes_file else [],
    )


def _summary(path: Path) -> Summary:
    document = read_document(path)
    item = Item(path.stem, _image_of(path, document), path)
    return Summary(item, {shape.label for shape in read_shapes(path, document)})


def _image_of(path: Path, document: dict[str, Any]) -> Path | None:
    """The image file of a document; None if it holds the image itself."""
    named = str(document.get("imagePath") or "").replace("\\", "/")  # it may be from Windows
    # With a path of another machine, the file may lie beside this one all the same.
    for image in (path.parent / named, path.parent / named.rpartition("/")[2]):
        if image.is_file():
            return image
    if document.get("imageData"):
        return None
    raise UserError(
        f"{path}: its image {named!r} is not there; put it beside the file, or correct imagePath"
    )


def embedded_image(path: Path) -> bytes:
    """The image file inside a document.

    Raises:
        UserError: it is no base64.
    """
    try:
        return base64.b64decode(read_document(path)["imageData"], validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise UserError(
            f"{path}: the image in it (imageData) is damaged; put the image file beside it"
        ) from None


def _classes(folder: Path, file: Path | None, summaries: Sequence[Summary]) -> list[str]:
    if file is not None:
        classes = [name for name in read_classes(file) if name != LABELME_IGNORED]
    else:
        found = {label for _, labels in summaries for label in labels}
        classes = sorted(found - DRAWN_BACKGROUND - {LABELME_IGNORED})
    if BACKGROUND not in classes:
        classes.insert(0, BACKGROUND)
    refuse_classes(file or folder, classes)
    return classes


def _refuse_strangers(
    summaries: Sequence[Summary], known: dict[str, int], classes_file: Path | None
) -> None:
    for item, labels in summaries:
        for label in sorted(labels - set(known)):
            hint = did_you_mean(label, known, "add it there, or correct the label")
            raise UserError(f"{item.annotation}: label {label!r} is not in {classes_file}; {hint}")


def _read(item: Item, size: Size, numbers: dict[str, int]) -> np.ndarray:
    """See ``Source.read``."""
    assert item.annotation is not None
    document = read_document(item.annotation)
    height, width = (_stated(document.get(key)) for key in ("imageHeight", "imageWidth"))
    refuse_size(item.annotation, (height, width), size)
    return draw(read_shapes(item.annotation, document), size, numbers)


def _stated(side: Any) -> int:
    """0 where a file does not tell, or not in a number."""
    return side if isinstance(side, int) else 0
