"""Draw labels, overlays and legends; needs neither torch nor mmseg."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fcn_plugin.data.label_arrays import pixel_counts
from fcn_plugin.data.numbering import BACKGROUND

Colours = Sequence[Sequence[int]]

VOID = (224, 224, 192)  # VOC's colour for it
PAPER, INK = (255, 255, 255), (0, 0, 0)
PANEL = 240  # pixels of a panel's longer side; smaller images are enlarged by a whole factor
LARGEST = 2000  # pixels of an overlay's longer side
OPACITY = 0.5  # of the colours over the image
# Pixels in a legend: margin around it, height of a line, size of the font, side of a colour's box.
MARGIN, LINE, FONT, BOX = 8, 18, 13, 12


def colour_table(palette: Colours) -> np.ndarray:
    """RGB of each label, uint8 [256 or more, 3]; void's colour for labels without one."""
    colours = np.full((max(256, len(palette)), 3), VOID, np.uint8)
    colours[: len(palette)] = palette
    return colours


def percent(share: float) -> str:
    """A share in 0..1 as text, such as ``12 %`` or ``< 1 %``."""
    return f"{100 * share:.0f} %" if share >= 0.01 else "< 1 %"


def side_by_side(
    image: np.ndarray,
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    palette: Colours,
    note: str = "",
) -> Image.Image:
    """A picture of an image and its labels side by side, with a legend.

    Args:
        image: [H, W, 3] uint8, RGB.
        labels: title -> integers [H, W]; a label that is no class is drawn as void.
        classes, palette: name and RGB colour of each class.
        note: added to the image's title.
    """
    height, width = image.shape[:2]
    zoom = max(1, -(-PANEL // max(height, width)))
    height, width = height * zoom, width * zoom
    colours = colour_table(palette)
    panels = {f"input: {note}" if note else "input": image}
    panels |= {title: colours[label] for title, label in labels.items()}
    values = np.unique(np.concatenate([label.ravel() for label in labels.values()]))
    entries = [(classes[i], tuple(palette[i])) for i in values if i < len(classes)]
    if len(values) > len(entries):
        entries.append(("void", VOID))

    content = Image.new("RGB", (MARGIN + len(panels) * (width + MARGIN), MARGIN + LINE + height))
    content.paste(PAPER, (0, 0, *content.size))
    draw, font = ImageDraw.Draw(content), ImageFont.load_default(FONT)
    for number, (title, pixels) in enumerate(panels.items()):
        left = MARGIN + number * (width + MARGIN)
        draw.text((left, MARGIN // 2), title, INK, font)
        panel = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
        content.paste(panel, (left, MARGIN + LINE))
    return _with_legend(content, entries)


def tinted(
    image: np.ndarray, label: np.ndarray, classes: Mapping[int, str], palette: Colours
) -> np.ndarray:
    """An image under the colours of its classes, with outlines; all as in ``overlay``."""
    colours = np.asarray(palette, dtype=np.uint8)[label]
    # Under the black of the background, objects that are missed could not be seen.
    for number in (number for number, name in classes.items() if name == BACKGROUND):
        np.copyto(colours, image, where=(label == number)[..., None])
    blended = cv2.addWeighted(image, 1 - OPACITY, colours, OPACITY, 0)
    # Each class gets an outline inside its area, in its full colour.
    thick = np.ones((2 * (max(label.shape) // 600) + 5,) * 2, np.uint8)
    border = cv2.dilate(label, thick) != cv2.erode(label, thick)
    blended[border] = colours[border]
    return blended


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    classes: Mapping[int, str],
    palette: Colours,
    note: str = "",
) -> Image.Image:
    """A picture of an image under the colours of its classes, with outlines and a legend.

    Where the class is ``background``, the image stays as it is. Small images are enlarged as in
    ``side_by_side``, large ones reduced to 2,000 pixels. The legend lists the classes that occur
    with their share of the pixels, the largest first.

    Args:
        image: [H, W, 3] uint8, RGB.
        label: [H, W] uint8 or uint16, every value below the length of ``palette``.
        classes, palette: name of each label that occurs, and RGB colour of each label.
        note: written below the legend.
    """
    height, width = image.shape[:2]
    shares = pixel_counts(label, len(palette)) / label.size
    longest = max(height, width)
    zoom = LARGEST / longest if longest > LARGEST else max(1, -(-PANEL // longest))
    size = max(round(width * zoom), 1), max(round(height * zoom), 1)
    interpolation = cv2.INTER_AREA if zoom < 1 else cv2.INTER_NEAREST
    # A large image is often a reversed view of BGR; reversed again, OpenCV needs no copy of it.
    shown = cv2.resize(np.ascontiguousarray(image[..., ::-1]), size, interpolation=interpolation)
    shown = np.ascontiguousarray(shown[..., ::-1])
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    blended = tinted(shown, label, classes, palette)

    largest_first = np.argsort(-shares, kind="stable")[: np.count_nonzero(shares)]
    entries = [(f"{classes[i]} {percent(shares[i])}", tuple(palette[i])) for i in largest_first]
    # Text grows with the picture, because large pictures are viewed reduced.
    return _with_legend(Image.fromarray(blended), entries, max(1.0, max(size) / 1000), note)


def _with_legend(
    content: Image.Image, entries: Sequence[tuple[str, tuple]], scale: float = 1.0, note: str = ""
) -> Image.Image:
    """The picture with (name, colour) entries in rows below it, and the note below these."""
    font, line = ImageFont.load_default(FONT * scale), round(LINE * scale)
    width, top = max(content.width, PANEL), content.height + MARGIN
    entry_places, left, below = [], MARGIN, top
    for name, _ in entries:
        needed = round((BOX + 5) * scale + font.getlength(name) + 2 * MARGIN * scale)
        if left + needed > width and left > MARGIN:
            left, below = MARGIN, below + line
        entry_places.append((left, below))
        left += needed
    below += line
    sheet = Image.new("RGB", (width, below + bool(note) * line + MARGIN), PAPER)
    sheet.paste(content)
    draw = ImageDraw.Draw(sheet)
    for (name, colour), (x, y) in zip(entries, entry_places, strict=True):
        box = (x, y + 2 * scale, x + BOX * scale, y + (BOX + 2) * scale)
        draw.rectangle(box, colour, INK)
        draw.text((x + (BOX + 5) * scale, y), name, INK, font)
    draw.text((MARGIN, below), note, INK, font)
    return sheet
