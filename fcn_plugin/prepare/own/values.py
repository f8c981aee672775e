"""What the values or colours in label pictures stand for, and labels read by it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.labels import ranges_in_words, read_label, values_in_words, values_outside
from fcn_plugin.data.numbering import BACKGROUND, IGNORED, LEFT_OUT
from fcn_plugin.data.picture_files import WIDE_MODES, open_picture
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.class_tables import Table
from fcn_plugin.prepare.own.classes import numbered
from fcn_plugin.prepare.own.source import Classes, Colour, Item, Job, Size, each, refuse_size

GREY_MODES = ("1", "L", *WIDE_MODES)
OBJECT = "object"
VOC_VOID, WHITE = (224, 224, 192), (255, 255, 255)


class Meaning(NamedTuple):
    """The class of each value or colour in labels; IGNORED for pixels to leave out.

    Attributes:
        where: the file that defines the classes, to name in an error.
        values: the class of each value.
        colours: the class of each colour; empty if labels have values only.
    """

    where: Path
    values: dict[int, int]
    colours: dict[Colour, int]


def meaning_of(labels: Sequence[Path], table: Table | None, job: Job) -> tuple[Classes, Meaning]:
    """The classes of label pictures, and what their values or colours stand for.

    Values are those of the table. Without it, two values are background and object. Where the
    labels say otherwise, this says what is taken for what: masks of 0 and 255, one named class,
    values that start at 1. Pixels of 255 are left out unless that value has a name.

    Raises:
        UserError: no table names the classes of values other than 0 and 1, or 0 and 255.
    """
    where = table.file if table else labels[0].parent
    if lossy := [label for label in labels if label.suffix.lower() in (".jpg", ".jpeg")]:
        raise UserError(f"{lossy[0]}: a label saved as JPEG, which blurs it; export labels as PNG")
    if table and table.colours:
        if job.void:
            raise UserError(
                f"--void is for label values; for a colour, put {LEFT_OUT} in its line of {where}"
            )
        names = sorted(table.colours.values(), key=lambda name: name != BACKGROUND)
        colours = {name: colour for colour, name in table.colours.items()}
        classes = numbered(names, job, colours, where)
        meaning = {colour: classes.numbers[name] for colour, name in table.colours.items()}
        values = {number: classes.numbers[name] for number, name in enumerate(names)}
        return classes, Meaning(where, {IGNORED: IGNORED} | values, {VOC_VOID: IGNORED} | meaning)
    present = _values(labels, job) - set(job.void)
    names_of = _names_of(present, table, labels[0].parent, job)
    classes = numbered(names_of.values(), job, {}, table.file if table else None)
    values = {value: classes.numbers[name] for value, name in names_of.items()}
    values = {IGNORED: IGNORED} | values | dict.fromkeys(job.void, IGNORED)
    return classes, Meaning(where, values, {})


def _values(labels: Sequence[Path], job: Job) -> set[int]:
    """All values in labels without colours; labels with a fault are reported when they are read."""
    return set().union(*each("Reading the labels' values", _values_in, labels, job))


def _values_in(path: Path) -> set[int]:
    try:
        return set(np.unique(_stored(path)).tolist())
    except UserError:
        return set()


def _stored(path: Path) -> np.ndarray:
    """The values [H, W] of a label; of one in RGB, its levels if all its colours are grey."""
    if _mode(path) in ("RGB", "RGBA", "LA"):
        bgr = LoadCheckedImage().transform({"img_path": str(path)})["img"]
        if (bgr == bgr[..., :1]).all():
            return bgr[..., 0]
    return read_label(path)


def _names_of(present: set[int], table: Table | None, folder: Path, job: Job) -> dict[int, str]:
    """The name of each value, as labels with these values suggest; noted where it is a guess."""
    names = table.values if table else {}
    black_and_white = present == {0, IGNORED}
    if table is None:
        if not (black_and_white or present == {0, 1} or present == {0, 1, IGNORED}):
            kind = f"the values {ranges_in_words(present)}" if present else "colours"
            raise UserError(
                f"{folder}: labels have {kind}, and no file names the classes; give --classes FILE "
                "with a name a line for each value from 0 on, or for colours a line "
                "name,red,green,blue for each"
            )
        names = {0: BACKGROUND, 1: OBJECT}
        job.note(f"{folder}: no file names the classes, which are {BACKGROUND} and {OBJECT}")
    elif BACKGROUND not in names.values() and len(names) == 1:
        names = {0: BACKGROUND, 1: next(iter(names.values()))}
    last = max(names)
    if black_and_white:
        if len(names) != 2 or LEFT_OUT in names.values():
            raise UserError(
                f"{folder}: no label has other values than 0 and 255, but {table and table.file} "
                f"names {len(names)}; name the two there"
            )
        first, second = (names[value] for value in sorted(names))
        job.note(
            f"{folder}: 255 is taken for {second}, as no label has other values than 0 and 255"
        )
        return {0: first, IGNORED: second}
    unnamed = present - names.keys() - {IGNORED}
    if unnamed == {last + 1} and min(names) == 0 and BACKGROUND not in names.values():
        shifted = {value + 1: name for value, name in names.items()}
        if 0 not in present:
            job.note(f"{folder}: values start at 1, which is taken for {names[0]}")
            return shifted
        job.note(f"{folder}: value 0 is taken for {BACKGROUND}, and 1 for {names[0]}")
        return {0: BACKGROUND} | shifted
    return names


def read_picture(item: Item, size: Size, meaning: Meaning) -> np.ndarray:
    """See ``Source.read``, for labels that are pictures."""
    assert item.annotation is not None
    read_by = _by_colour if meaning.colours else _by_value
    label = read_by(item.annotation, meaning)
    refuse_size(item.annotation, label.shape, size)
    return label


def _by_value(path: Path, meaning: Meaning) -> np.ndarray:
    stored = _stored(path)
    label, unknown = _looked_up(stored, meaning.values)
    if unknown:
        values = values_in_words(values_outside(meaning.values, stored))
        raise UserError(
            f"{path}: label values {values}, which {meaning.where} has no class for; add it there "
            "(__ignore__ for pixels to leave out), correct the label, or give --void VALUE"
        )
    return label


def _by_colour(path: Path, meaning: Meaning) -> np.ndarray:
    """The label by the colours of a table; a grey value v is the colour v,v,v.

    If the table is not all grey, a grey label with other colours than the table's is taken to have
    values.
    """
    grey, colours = _mode(path) in GREY_MODES, meaning.colours
    classes: Mapping[Colour, int] = {WHITE: IGNORED} | colours if grey else colours
    packed = {red << 16 | green << 8 | blue: n for (red, green, blue), n in classes.items()}
    label, unknown = _looked_up(_packed_rgb(path, grey), packed)
    if not unknown:
        return label
    has_hues = any(len(set(colour)) > 1 for colour in colours.keys() - {VOC_VOID})
    if grey and has_hues and WHITE not in colours:
        return _by_value(path, meaning)
    colour = f"{unknown[0] >> 16},{unknown[0] >> 8 & 255},{unknown[0] & 255}"
    raise UserError(
        f"{path}: colour {colour} is no class of {meaning.where}; add it there, or save the label "
        "as PNG, not smoothed or resized"
    )


def _looked_up(stored: np.ndarray, classes: Mapping[int, int]) -> tuple[np.ndarray, list[int]]:
    """The class [H, W] uint8 of each value, IGNORED without one; and the values without one."""
    present, inverse = np.unique(stored, return_inverse=True)
    values = present.tolist()
    numbers = np.array([classes.get(value, IGNORED) for value in values], np.uint8)
    unknown = [value for value in values if value not in classes]
    return numbers[inverse.reshape(stored.shape)], unknown


def _mode(path: Path) -> str:
    """Pillow's mode of a picture."""
    try:
        with open_picture(path) as image:
            return image.mode
    # A damaged file is reported, with a better message, when it is read.
    except (OSError, SyntaxError, ValueError):
        return "L"


def _packed_rgb(path: Path, grey: bool) -> np.ndarray:
    """The colours [H, W] as red * 65536 + green * 256 + blue, int64."""
    if grey and (wide := read_label(path)).dtype != np.uint8:  # RGB would lose the lower 8 bits
        return wide.astype(np.int64) * 0x010101
    # This also turns palette indices into the palette's colours.
    bgr = LoadCheckedImage().transform({"img_path": str(path)})["img"]
    return bgr.astype(np.int64) @ np.array([1, 1 << 8, 1 << 16])
