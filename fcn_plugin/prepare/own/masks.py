"""Labels that are pictures: in VOC's folders, which CVAT exports, too, or in two plain folders.

A label picture has class indices (grey or palette), or the colours of ``labelmap.txt``, some of
which may be grey.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.labels import read_label, values_in_words, values_outside, voc_palette
from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.data.picture_files import WIDE_MODES, open_picture
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.classes import (
    BACKGROUND,
    LABELME_BACKGROUND,
    LEFT_OUT,
    classes_beside,
    read_classes,
    refuse_classes,
)
from fcn_plugin.prepare.own.source import Item, Job, Size, Source, pictures, refuse_size, text_of

# folder of images -> folders of labels, of which the first with pictures is used
LAYOUTS = {
    "JPEGImages": ("SegmentationClass", "SegmentationClassPNG"),
    "images": ("labels", "masks", "annotations"),
}
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
LABELMAP = "labelmap.txt"
GREY_MODES = ("1", "L", *WIDE_MODES)
VOC_VOID = (224, 224, 192)
WHITE = (255, 255, 255)
NO_CLASS = 256
Colour = tuple[int, int, int]


class Meaning(NamedTuple):
    """The class of each value or colour in labels; IGNORED for pixels to leave out.

    Attributes:
        file: the file that defines the classes.
        numbers: the class, or NO_CLASS, of each value from 0 to 255 or more.
        colours: the class of each colour; empty if labels have indices.
    """

    file: Path
    numbers: np.ndarray
    colours: dict[Colour, int]


def recognises(folder: Path) -> bool:
    return mask_folders(folder) is not None


def mask_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and labels in ``folder``; None if they are not there."""
    for images, candidates in LAYOUTS.items():
        for labels in candidates:
            if pictures(folder / images) and pictures(folder / labels, LABEL_SUFFIXES):
                return folder / images, folder / labels
    return None


def read(job: Job) -> Source:
    """The pictures of a folder in VOC's layout, or with ``images`` and ``labels``, paired by name.

    The classes are those of ``labelmap.txt`` (lines ``name:red,green,blue::``), by colour, or the
    lines of ``Job.classes_file`` or of a file of ``CLASS_FILES``, by index. Pixels of the name
    ``__ignore__`` are left out, and so are pixels of 255 unless that value has a name.

    Raises:
        UserError: a label has no image, or no file names the classes.
    """
    folders = mask_folders(job.folder)
    assert folders is not None
    images, labels = pictures(folders[0]), pictures(folders[1], LABEL_SUFFIXES)
    for name, label in labels.items():
        if name not in images:
            raise UserError(f"{label}: no image {name} in {folders[0]}; add it, or move this away")
    file = _settings(job)
    if file.name == LABELMAP and job.classes_file is None:
        classes, palette, meaning = _by_labelmap(file)
    else:
        names = read_classes(file)
        classes = [name for name in names if name != LEFT_OUT]
        palette = voc_palette()[: len(classes)]
        meaning = Meaning(file, _numbers(names), {})
        if _black_and_white(labels.values()):
            meaning = _white_is_second(folders[1], file, names, job)
    return Source(
        items=[Item(name, images[name], label) for name, label in labels.items()],
        unlabelled=[image for name, image in images.items() if name not in labels],
        classes=classes,
        palette=palette,
        read=partial(_read, meaning=meaning),
        settings=[file],
    )


def _settings(job: Job) -> Path:
    """The file that defines the classes."""
    if job.classes_file is not None:
        return job.classes_file
    labelmap, names = job.folder / LABELMAP, classes_beside(job.folder)
    if labelmap.is_file():
        if names:
            job.note(f"{names}: not read, for {LABELMAP} names the classes")
        return labelmap
    if names:
        return names
    raise UserError(
        f"{job.folder}: no file names the classes; give --classes FILE with a name a line for each "
        f"value from 0 on, or for colours put a {LABELMAP} there (lines name:red,green,blue::)"
    )


def _numbers(names: Sequence[str]) -> np.ndarray:
    """The class of each value, where value i has name number i."""
    classes = [name for name in names if name != LEFT_OUT]
    numbers = np.full(max(len(names), NO_CLASS), NO_CLASS)
    numbers[IGNORED] = IGNORED
    for value, name in enumerate(names):
        numbers[value] = IGNORED if name == LEFT_OUT else classes.index(name)
    return numbers


def _by_labelmap(file: Path) -> tuple[list[str], list[list[int]], Meaning]:
    """The classes, background first, their palette, and the meaning of the labels."""
    names = read_labelmap(file)
    colours = {name: list(colour) for colour, name in names.items() if name != LEFT_OUT}
    classes = sorted(colours, key=lambda name: name != BACKGROUND)
    meaning = {VOC_VOID: IGNORED} | {
        colour: IGNORED if name == LEFT_OUT else classes.index(name)
        for colour, name in names.items()
    }
    return classes, [colours[name] for name in classes], Meaning(file, _numbers(classes), meaning)


def read_labelmap(path: Path) -> dict[Colour, str]:
    """The class names in CVAT's ``labelmap.txt`` by colour; several may be ``__ignore__``.

    Raises:
        UserError: a line does not define a class, or a colour or another name is there twice.
    """
    names: dict[Colour, str] = {}
    for line in text_of(path).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = bytes(map(int, rest.partition(":")[0].split(",")))  # 0-255
        except ValueError:
            raise UserError(f"{path}: {line!r} is not name:red,green,blue::; correct it") from None
        if (red, green, blue) in names:
            raise UserError(f"{path}: {line!r} has another class's colour; give it its own")
        name = name.strip()
        names[red, green, blue] = BACKGROUND if name == LABELME_BACKGROUND else name
    refuse_classes(path, list(names.values()))
    return names


def _black_and_white(labels: Iterable[Path]) -> bool:
    """Whether the labels have white (255), and no other values than 0 and 255."""
    white = False
    for path in labels:
        try:
            values = set(np.unique(read_label(path)).tolist())
        except UserError:  # reported with all other faults when labels are read
            continue
        if values - {0, IGNORED}:
            return False
        white |= IGNORED in values
    return white


def _white_is_second(labels: Path, file: Path, names: Sequence[str], job: Job) -> Meaning:
    """The meaning of labels that have only 0 and 255: the first and the second class."""
    if len(names) != 2 or LEFT_OUT in names:
        raise UserError(
            f"{labels}: no label has other values than 0 and 255, but {file} names {len(names)}; "
            f"name the two there, or in a {LABELMAP} (background:0,0,0:: and object:255,255,255::)"
        )
    job.note(f"{labels}: 255 is taken for {names[1]}, as no label has other values than 0 and 255")
    numbers = np.full(NO_CLASS, NO_CLASS)
    numbers[[0, IGNORED]] = 0, 1
    return Meaning(file, numbers, {})


def _read(item: Item, size: Size, meaning: Meaning) -> np.ndarray:
    """See ``Source.read``."""
    assert item.annotation is not None
    read_by = _by_colour if meaning.colours else _by_number
    label = read_by(item.annotation, meaning)
    refuse_size(item.annotation, label.shape, size)
    return label


def _by_number(path: Path, meaning: Meaning) -> np.ndarray:
    stored = read_label(path).astype(np.int64)
    inside = (stored >= 0) & (stored < len(meaning.numbers))
    label = np.where(inside, meaning.numbers[np.where(inside, stored, 0)], NO_CLASS)
    wrong = label == NO_CLASS
    if wrong.any():
        values = values_in_words(values_outside((), stored[wrong]))
        raise UserError(
            f"{path}: label values {values}, which {meaning.file} has no class for; add it there "
            "(__ignore__ for pixels to leave out), or correct the label"
        )
    return label.astype(np.uint8)


def _by_colour(path: Path, meaning: Meaning) -> np.ndarray:
    """The label by the colours of a labelmap; a grey value v is the colour v,v,v.

    If the labelmap is not all grey, a grey label with other colours than the labelmap's is taken
    to have indices.
    """
    grey, colours = _is_grey(path), meaning.colours
    packed = _packed_rgb(path, grey)
    values, inverse = np.unique(packed, return_inverse=True)
    present = [(value >> 16, value >> 8 & 255, value & 255) for value in values.tolist()]
    classes = {WHITE: IGNORED} | colours if grey else colours
    unknown = [colour for colour in present if colour not in classes]
    if not unknown:
        numbers = np.array([classes[colour] for colour in present], np.uint8)
        return numbers[inverse.reshape(packed.shape)]
    has_hues = any(len(set(colour)) > 1 for colour in colours.keys() - {VOC_VOID})
    if grey and has_hues and WHITE not in colours:
        return _by_number(path, meaning)
    raise UserError(
        f"{path}: colour {','.join(map(str, unknown[0]))} is no class of {meaning.file}; add it "
        "there, or save the label as PNG, not smoothed or resized"
    )


def _is_grey(path: Path) -> bool:
    try:
        with open_picture(path) as image:
            return image.mode in GREY_MODES
    # A damaged file is reported, with a better message, when it is read.
    except (OSError, SyntaxError, ValueError):
        return True


def _packed_rgb(path: Path, grey: bool) -> np.ndarray:
    """The colours [H, W] as red * 65536 + green * 256 + blue, int64."""
    if grey and (wide := read_label(path)).dtype != np.uint8:  # RGB would lose the lower 8 bits
        return wide.astype(np.int64) * 0x010101
    # This also turns palette indices into the palette's colours.
    bgr = LoadCheckedImage().transform({"img_path": str(path)})["img"]
    return bgr.astype(np.int64) @ np.array([1, 1 << 8, 1 << 16])
