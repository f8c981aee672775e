"""A picture to judge a prediction by: input, truth and prediction side by side, with a legend."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

VOID = (224, 224, 192)  # as VOC shows it
PAPER, INK = (255, 255, 255), (0, 0, 0)
PANEL = 240  # pixels of a panel's longer side; smaller images are enlarged a whole number of times
MARGIN = 8
LINE = 18  # pixels of a line of text


def picture(
    image: np.ndarray,
    labels: dict[str, np.ndarray],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> Image.Image:
    """Draw the image and its labels.

    Args:
        image: H x W x 3, uint8, RGB.
        labels: title -> H x W integers; what is no class is drawn as void.
        classes, palette: name and RGB colour of each class.
    """
    height, width = image.shape[:2]
    zoom = max(1, -(-PANEL // max(height, width)))
    panels = {"input": image} | {title: coloured(label, palette) for title, label in labels.items()}
    shown = np.unique(np.concatenate([label.ravel() for label in labels.values()]))
    entries = [(classes[i], tuple(palette[i])) for i in shown if i < len(classes)]
    if len(shown) > len(entries):
        entries.append(("void", VOID))

    across = len(panels) * (width * zoom + MARGIN) + MARGIN
    legend = _legend(entries, across)
    rows = 1 + max(row for row, _, _, _ in legend)
    sheet = Image.new("RGB", (across, height * zoom + 3 * MARGIN + (rows + 1) * LINE), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (title, pixels) in enumerate(panels.items()):
        left = MARGIN + place * (width * zoom + MARGIN)
        draw.text((left, MARGIN // 2), title, INK, font)
        panel = Image.fromarray(pixels).resize(
            (width * zoom, height * zoom), Image.Resampling.NEAREST
        )
        sheet.paste(panel, (left, MARGIN + LINE))
    below = height * zoom + 2 * MARGIN + LINE
    for row, left, name, colour in legend:
        top = below + row * LINE
        draw.rectangle((left, top + 2, left + 12, top + 14), colour, INK)
        draw.text((left + 17, top), name, INK, font)
    return sheet


def coloured(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """H x W integers to H x W x 3, uint8, RGB."""
    colours = np.full((256, 3), VOID, dtype=np.uint8)
    colours[: len(palette)] = palette
    return colours[label]


def _legend(entries: Sequence[tuple[str, tuple]], across: int) -> list[tuple[int, int, str, tuple]]:
    """(row, left, name, colour) of each entry, filling rows of ``across`` pixels."""
    font = ImageFont.load_default(13)
    placed, row, left = [], 0, MARGIN
    for name, colour in entries:
        needed = 17 + int(font.getlength(name)) + 2 * MARGIN
        if left + needed > across and left > MARGIN:
            row, left = row + 1, MARGIN
        placed.append((row, left, name, colour))
        left += needed
    return placed
