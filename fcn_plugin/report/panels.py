"""The small pictures on the page: an image's input, truth, prediction and errors.

Readers who cannot tell the colours apart find class numbers on the regions, and kinds of errors in
lightnesses of their own.
"""

import io
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from fcn_plugin.data.picture_files import save_picture
from fcn_plugin.evaluation.drawing import colour_table
from fcn_plugin.evaluation.error_kinds import BORDER, INSIDE, INVENTED, MISSED, RIGHT

SIDE = 480  # most pixels of the longer side
QUALITY = 80  # of a JPEG
DIGIT = 0.06  # height of a number, as a fraction of the longer side
RADIUS = 0.35  # of the circle a number needs inside its region, in heights of the number
NUMBERED = 2  # largest regions of a class that get a number
VOID_INDEX, PAPER, INK = 253, 254, 255  # colours of a PNG's palette, after those of the classes
STRIPE = 4  # width in pixels
MARKED, OTHER, VOID = range(INSIDE + 1, INSIDE + 4)
# RGB of a pixel and of its stripes, in the order of the numbers. They differ in lightness, so that
# neither colour vision nor a colour printer is needed.
LOOKS = {
    RIGHT: ((255, 255, 255), (255, 255, 255)),
    MISSED: ((0, 0, 0), (0, 0, 0)),
    BORDER: ((240, 170, 40), (240, 170, 40)),
    INVENTED: ((170, 20, 30), (255, 225, 215)),
    INSIDE: ((60, 110, 185), (60, 110, 185)),
    MARKED: ((0, 0, 0), (0, 0, 0)),
    OTHER: ((200, 200, 200), (200, 200, 200)),
    VOID: ((190, 190, 190), (235, 235, 235)),
}


def save_panels(
    folder: Path,
    index: int,
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    kinds: np.ndarray,
) -> None:
    """Write the reduced image, INDEX.jpg, and labels, INDEX.png: truth, prediction, error kinds.

    Args:
        image: H x W x 3, uint8, RGB, with the aspect ratio of the labels.
        truth, prediction, kinds: H x W, uint8; the channels of the PNG.
    """
    height, width = truth.shape
    zoom = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    labels = Image.fromarray(np.stack([truth, prediction, kinds], -1))
    save_picture(labels.resize(size, Image.Resampling.NEAREST), folder / f"{index}.png")
    picture = Image.fromarray(np.ascontiguousarray(image))
    smaller = picture.resize(size, Image.Resampling.BOX)
    save_picture(smaller, folder / f"{index}.jpg", quality=QUALITY)


def load_labels(folder: Path, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, prediction and kinds of errors, h x w, uint8."""
    maps = np.moveaxis(np.asarray(Image.open(folder / f"{index}.png")), -1, 0)
    truth, prediction, kinds = maps
    return truth, prediction, kinds


def jpeg_uri(folder: Path, index: int) -> str:
    return data_uri((folder / f"{index}.jpg").read_bytes(), "jpeg")


def labels_uri(labels: np.ndarray, palette: Sequence[Sequence[int]], numbers: Sequence[int]) -> str:
    """Class indices h x w in class colours, void in VOC's, with class numbers on large regions."""
    shown = np.where(labels < min(len(palette), VOID_INDEX), labels, VOID_INDEX).astype(np.uint8)
    colours = colour_table(palette[:VOID_INDEX])
    colours[PAPER], colours[INK] = 255, 0
    shown = enlarged(shown)
    digit = DIGIT * max(shown.shape)
    image = Image.fromarray(shown)
    image.putpalette(colours.tobytes())
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(digit)
    draw.fontmode = "1"  # no antialiasing: palette indices cannot be blended
    for index, x, y in _middles(shown, RADIUS * digit):
        number = str(numbers[index])
        draw.rectangle(draw.textbbox((x, y), number, font, "mm"), PAPER, PAPER, 3)
        draw.text((x, y), number, INK, font, "mm")
    return png_uri(image)


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """h x w; small pictures repeated a whole number of times, so that numbers fit."""
    times = -(-SIDE // (2 * max(pixels.shape)))
    return pixels.repeat(times, 0).repeat(times, 1)


def _middles(labels: np.ndarray, radius: float) -> Iterator[tuple[int, int, int]]:
    """Class, x and y of each number, at the widest spot of each class's largest regions."""
    for value in np.unique(labels[labels != VOID_INDEX]):
        regions, _ = ndimage.label(labels == value)
        sizes = np.bincount(regions.ravel())[1:]
        for region in np.argsort(-sizes)[:NUMBERED]:
            if sizes[region] < (2 * radius) ** 2:
                continue
            box = ndimage.find_objects(regions)[region]
            # The padding makes the picture's edge an edge of the region.
            depth = ndimage.distance_transform_edt(np.pad(regions[box] == region + 1, 1))
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            if depth[y, x] >= radius:
                yield int(value), int(x) - 1 + box[1].start, int(y) - 1 + box[0].start


def errors_uri(
    truth: np.ndarray, kinds: np.ndarray, classes: int, marked: int | None = None
) -> str:
    """A picture of the kinds of errors h x w in their ``LOOKS``.

    If one is ``marked``, it is black, and the others are grey.
    """
    if marked is not None:
        kinds = np.where(kinds == marked, MARKED, np.where(kinds == RIGHT, RIGHT, OTHER))
    return _looks_uri(enlarged(np.where(truth < classes, kinds, VOID)))


def look_uri(look: int) -> str:
    """A small picture of one of ``LOOKS``."""
    return _looks_uri(np.full((16, 28), look))


def _looks_uri(looks: np.ndarray) -> str:
    rows, columns = np.indices(looks.shape)
    # Void's stripes lean to the other side.
    stripe = np.where(looks == VOID, rows + columns, rows - columns) // STRIPE % 2
    image = Image.fromarray((2 * looks + stripe).astype(np.uint8))
    image.putpalette(np.array(list(LOOKS.values()), np.uint8).tobytes())
    return png_uri(image)


def shares_uri(shares: np.ndarray, zoom: int) -> str:
    """A matrix of shares in [0, 1] as a picture, 0 white and 1 black, NaN white."""
    # The square root makes small shares visible.
    grey = 255 - 255 * np.sqrt(np.nan_to_num(shares))
    return png_uri(Image.fromarray(np.kron(grey, np.ones((zoom, zoom))).round().astype(np.uint8)))


def png_uri(image: Image.Image) -> str:
    return _uri(image, "png", optimize=True)


def picture_uri(picture: np.ndarray) -> str:
    """A picture H x W x 3, uint8, RGB, as a JPEG."""
    return _uri(Image.fromarray(picture), "jpeg", quality=QUALITY)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return data_uri(file.getvalue(), kind)


def data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
