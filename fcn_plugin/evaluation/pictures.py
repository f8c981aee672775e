"""Pictures to judge a prediction by, with a legend: side by side with the truth, or laid over."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fcn_plugin.data.labels import pixel_counts

VOID = (224, 224, 192)  # as VOC shows it
PAPER, INK = (255, 255, 255), (0, 0, 0)
PANEL = 240  # pixels of a panel's longer side; smaller images are enlarged a whole number of times
MARGIN = 8
LINE = 18  # pixels of a line of text
FONT = 13
LARGEST = 2000  # pixels of an overlay's longer side
OPACITY = 0.5  # of the colours over the image


def picture(
    image: np.ndarray,
    labels: dict[str, np.ndarray],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    note: str = "",
) -> Image.Image:
    """Draw the image and its labels.

    Args:
        image: H x W x 3, uint8, RGB.
        labels: title -> H x W integers; what is no class is drawn as void.
        classes, palette: name and RGB colour of each class.
        note: said of the image in its title.
    """
    height, width = image.shape[:2]
    zoom = max(1, -(-PANEL // max(height, width)))
    title = f"input: {note}" if note else "input"
    panels = {title: image} | {title: coloured(label, palette) for title, label in labels.items()}
    shown = np.unique(np.concatenate([label.ravel() for label in labels.values()]))
    entries = [(classes[i], tuple(palette[i])) for i in shown if i < len(classes)]
    if len(shown) > len(entries):
        entries.append(("void", VOID))

    across = len(panels) * (width * zoom + MARGIN) + MARGIN
    legend = _legend(entries, across)
    rows = 1 + max(row for row, _, _, _ in legend)
    sheet = Image.new("RGB", (across, height * zoom + 3 * MARGIN + (rows + 1) * LINE), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for place, (title, pixels) in enumerate(panels.items()):
        left = MARGIN + place * (width * zoom + MARGIN)
        draw.text((left, MARGIN // 2), title, INK, font)
        panel = Image.fromarray(pixels).resize(
            (width * zoom, height * zoom), Image.Resampling.NEAREST
        )
        sheet.paste(panel, (left, MARGIN + LINE))
    _draw_legend(sheet, legend, height * zoom + 2 * MARGIN + LINE, 1.0)
    return sheet


def coloured(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """H x W integers to H x W x 3, uint8, RGB."""
    colours = np.full((256, 3), VOID, dtype=np.uint8)
    colours[: len(palette)] = palette
    return colours[label]


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    classes: Sequence[str] | Mapping[int, str],
    palette: Sequence[Sequence[int]],
    note: str = "",
) -> Image.Image:
    """Lay the colours of the classes over the image, with borders between them and a legend.

    Small images are enlarged as in ``picture``, large ones reduced to 2,000 pixels. The legend has
    the classes that occur and their share of the pixels, the largest first.

    Args:
        image: H x W x 3, uint8, RGB.
        label: H x W, uint8 or uint16, all of them classes.
        classes, palette: name and RGB colour of each label; what is no class has a colour, too.
        note: said of the image below the legend.
    """
    height, width = image.shape[:2]
    counts = pixel_counts(label, len(palette))
    found = np.flatnonzero(counts)
    counts = counts[found]
    longest = max(height, width)
    zoom = LARGEST / longest if longest > LARGEST else max(1, -(-PANEL // longest))
    size = max(round(width * zoom), 1), max(round(height * zoom), 1)
    smoothly = cv2.INTER_AREA if zoom < 1 else cv2.INTER_NEAREST
    # Turned around: what is given is BGR that looks like RGB, and large, so nothing is copied.
    shown = cv2.resize(np.ascontiguousarray(image[..., ::-1]), size, interpolation=smoothly)
    shown = np.ascontiguousarray(shown[..., ::-1])
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)

    colours = np.asarray(palette, dtype=np.uint8)[label]
    blended = cv2.addWeighted(shown, 1 - OPACITY, colours, OPACITY, 0)
    # Each class has an outline in its own colour, undiluted, within its area.
    thick = np.ones((2 * (max(size) // 600) + 5,) * 2, np.uint8)
    border = cv2.dilate(label, thick) != cv2.erode(label, thick)
    blended[border] = colours[border]

    shares = counts / counts.sum()
    entries = [
        (f"{classes[found[i]]} {_percent(shares[i])}", tuple(palette[found[i]]))
        for i in np.argsort(-shares, kind="stable")
    ]
    # On a large picture text is large, too: it is looked at from afar.
    scale = max(1.0, max(size) / 1000)
    across = max(size[0], PANEL)
    legend = _legend(entries, across, scale)
    line = round(LINE * scale)
    rows = 1 + max(row for row, _, _, _ in legend)
    beneath = rows + bool(note)
    sheet = Image.new("RGB", (across, size[1] + 2 * MARGIN + beneath * line), PAPER)
    sheet.paste(Image.fromarray(blended), (0, 0))
    _draw_legend(sheet, legend, size[1] + MARGIN, scale)
    font = ImageFont.load_default(FONT * scale)
    ImageDraw.Draw(sheet).text((MARGIN, size[1] + MARGIN + rows * line), note, INK, font)
    return sheet


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "< 1 %"


def _draw_legend(
    sheet: Image.Image, legend: Sequence[tuple[int, int, str, tuple]], top: int, scale: float
) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT * scale)
    for row, left, name, colour in legend:
        y = top + row * round(LINE * scale)
        draw.rectangle((left, y + 2 * scale, left + 12 * scale, y + 14 * scale), colour, INK)
        draw.text((left + 17 * scale, y), name, INK, font)


def _legend(
    entries: Sequence[tuple[str, tuple]], across: int, scale: float = 1.0
) -> list[tuple[int, int, str, tuple]]:
    """(row, left, name, colour) of each entry, filling rows of ``across`` pixels."""
    font = ImageFont.load_default(FONT * scale)
    placed, row, left = [], 0, MARGIN
    for name, colour in entries:
        needed = round(17 * scale + font.getlength(name) + 2 * MARGIN * scale)
        if left + needed > across and left > MARGIN:
            row, left = row + 1, MARGIN
        placed.append((row, left, name, colour))
        left += needed
    return placed
