"""What a user is told of the classes of a data set: their pixels, and those that have none."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.errors import printable
from fcn_plugin.prepare.own.source import Tell


def class_table(classes: Sequence[str], counts: dict[str, np.ndarray]) -> str:
    """A table of the classes: how many images show them, and their share of all pixels.

    Args:
        counts: for each split, pixels [images, 256] of each value in each label.
    """
    pixels = sum(count.sum(axis=0) for count in counts.values())
    names = {**dict(enumerate(map(printable, classes))), IGNORED: "(left out)"}
    width = max(map(len, [*names.values(), "class"]))
    heads = "".join(f"{name:>8}" for name in counts)
    lines = [f"{'':>4}{'class':<{width}}{heads}{'pixels':>10}"]
    for value, name in names.items():
        if value == IGNORED and not pixels[value]:
            continue
        images = "".join(f"{(count[:, value] > 0).sum():>8,}" for count in counts.values())
        share = f"{100 * pixels[value] / pixels.sum():.2f} %"
        lines.append(f"{value:>3} {name:<{width}}{images}{share:>10}")
    return "\n".join(lines)


def note_missing(root: Path, classes: Sequence[str], pixels: np.ndarray, tell: Tell) -> None:
    """Classes that cannot be learned; such as those of masks whose white, 255, was to be one."""
    left_out = "; 255 is no class, but stands for what is left out" if pixels[IGNORED] else ""
    for value, name in enumerate(classes):
        if not pixels[value]:
            tell.note(f"{root}: no training image has {printable(name)} (value {value}){left_out}")
