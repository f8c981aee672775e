"""Labels that are pictures already: VOC's folders, as CVAT exports them too, or two flat ones.

A label picture has class indices, grey or palette, or the colours of ``labelmap.txt``, which may be
grey.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.labels import read_label, values_in_words, values_outside
from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.data.picture_files import WIDE_MODES, open_picture
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.source import (
    BACKGROUND,
    LABELME_BACKGROUND,
    LABELME_IGNORED,
    Item,
    Size,
    Source,
    Tell,
    classes_beside,
    default_palette,
    pictures,
    read_classes,
    refuse_classes,
    refuse_size,
    text_of,
)

# folder of images -> folders of labels, the first that has any
LAYOUTS = {
    "JPEGImages": ("SegmentationClass", "SegmentationClassPNG"),
    "images": ("labels", "masks", "annotations"),
}
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
LABELMAP = "labelmap.txt"
GREY_MODES = ("1", "L", *WIDE_MODES)
VOC_VOID = (224, 224, 192)
Colour = tuple[int, int, int]
Colours = dict[Colour, int]


def mask_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and labels in ``folder``; None if they are not there."""
    for images, candidates in LAYOUTS.items():
        for labels in candidates:
            if pictures(folder / images) and pictures(folder / labels, LABEL_SUFFIXES):
                return folder / images, folder / labels
    return None


def mask_source(folder: Path, classes_file: Path | None, tell: Tell) -> Source:
    """A folder of VOC's layout, or with ``images`` and ``labels``, paired by name.

    Its classes are those of ``labelmap.txt`` (lines ``name:red,green,blue::``), by their colours,
    or the lines of ``classes_file`` or of a file of ``CLASS_FILES``, by their indices. What has the
    name ``__ignore__`` in either is left out, as 255 is where it has no name.

    Raises:
        UserError: a label without its image, or the classes are not said.
    """
    found = mask_folders(folder)
    assert found is not None
    images, labels = pictures(found[0]), pictures(found[1], LABEL_SUFFIXES)
    for name, label in labels.items():
        if name not in images:
            raise UserError(f"{label}: no image {name} in {found[0]}; add it, or move this away")
    settings = _settings(folder, classes_file, tell)
    colours: Colours = {}
    if settings.name == LABELMAP and classes_file is None:
        names_of = read_labelmap(settings)
        classes, palette = _by_name(names_of)
        colours = {VOC_VOID: IGNORED} | {
            colour: IGNORED if name == LABELME_IGNORED else classes.index(name)
            for colour, name in names_of.items()
        }
        meaning = np.arange(IGNORED + 1)
    else:
        names = read_classes(settings)
        classes = [name for name in names if name != LABELME_IGNORED]
        palette = default_palette(classes)
        meaning = np.array(
            [IGNORED if name == LABELME_IGNORED else classes.index(name) for name in names]
        )
        if _black_and_white(labels.values()):
            meaning = _white_is_second(found[1], settings, names, tell)
    return Source(
        items=[Item(name, images[name], label) for name, label in labels.items()],
        unlabelled=[image for name, image in images.items() if name not in labels],
        classes=classes,
        palette=palette,
        read=partial(_read, meaning=meaning, classes=len(classes), colours=colours, by=settings),
        settings=[settings],
    )


def _settings(folder: Path, classes_file: Path | None, tell: Tell) -> Path:
    """The file that says what the labels mean."""
    if classes_file is not None:
        return classes_file
    labelmap, names = folder / LABELMAP, classes_beside(folder)
    if labelmap.is_file():
        if names:
            tell.note(f"{names}: not read, for {LABELMAP} names the classes")
        return labelmap
    if names:
        return names
    raise UserError(
        f"{folder}: nothing says what its labels are; give --classes FILE, a line with a name for "
        f"each value from 0 on, or put a {LABELMAP} (name:red,green,blue::) there for colours"
    )


def read_labelmap(path: Path) -> dict[Colour, str]:
    """The names in CVAT's ``labelmap.txt`` by their colours; several may be ``__ignore__``.

    Raises:
        UserError: a line is no class, or a colour or another name is there twice.
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
    refuse_classes(path, [name for name in names.values() if name != LABELME_IGNORED])
    return names


def _by_name(names: dict[Colour, str]) -> tuple[list[str], list[list[int]]]:
    """The classes, background first, and their palette."""
    colours = {name: list(c) for c, name in names.items() if name != LABELME_IGNORED}
    classes = sorted(colours, key=lambda name: name != BACKGROUND)
    return classes, [colours[name] for name in classes]


def _black_and_white(labels: Iterable[Path]) -> bool:
    """Whether the labels have white (255), and no other value besides but 0."""
    white = False
    for path in labels:
        try:
            values = set(np.unique(read_label(path)).tolist())
        except UserError:  # told with all other faults when it is read
            continue
        if values - {0, IGNORED}:
            return False
        white |= IGNORED in values
    return white


def _white_is_second(labels: Path, by: Path, names: Sequence[str], tell: Tell) -> np.ndarray:
    """The meaning of 0 and 255, of which all labels are, by the names of two classes."""
    if len(names) != 2 or LABELME_IGNORED in names:
        raise UserError(
            f"{labels}: no label has other values than 0 and 255, but {by} names {len(names)}; "
            f"name the two there, or in a {LABELMAP} (background:0,0,0:: and object:255,255,255::)"
        )
    tell.note(f"{labels}: 255 is taken for {names[1]}, as no label has other values than 0 and 255")
    meaning = np.full(IGNORED + 1, len(names))  # no class
    meaning[[0, IGNORED]] = 0, 1
    return meaning


def _read(
    item: Item, size: Size, meaning: np.ndarray, classes: int, colours: Colours, by: Path
) -> np.ndarray:
    """See ``Source.read``.

    Args:
        meaning: the class of each stored value; 255 is left out if it is not said.
        colours: the class of each colour, if they tell it.
        by: the file that says so.
    """
    path = item.annotation
    assert path is not None
    if colours:
        label = _by_colour(path, colours, classes, by)
    else:
        label = _by_index(path, meaning, classes, by)
    refuse_size(path, label.shape, size)
    return label


def _is_grey(path: Path) -> bool:
    try:
        with open_picture(path) as image:
            return image.mode in GREY_MODES
    # What is damaged is found, and told better, when it is read.
    except (OSError, SyntaxError, ValueError):
        return True


def _by_index(path: Path, meaning: np.ndarray, classes: int, by: Path) -> np.ndarray:
    stored = read_label(path).astype(np.int64)
    said = (stored >= 0) & (stored < len(meaning))
    label = np.where(said, meaning[np.where(said, stored, 0)], stored)
    wrong = (label != IGNORED) & ~(said & (label < classes))
    if wrong.any():
        values = values_in_words(values_outside((), stored[wrong]))
        raise UserError(
            f"{path}: label values {values}, which {by} has no class for; add it there "
            "(__ignore__ for pixels to leave out), or correct the label"
        )
    return label.astype(np.uint8)


def _by_colour(path: Path, colours: Colours, classes: int, by: Path) -> np.ndarray:
    """By the colours of a labelmap; grey of value v is the colour v,v,v.

    Where the labelmap has other colours than grey, a grey label that is not of its colours has
    indices.
    """
    grey, has_hues = _is_grey(path), any(len(set(c)) > 1 for c in colours.keys() - {VOC_VOID})
    packed = _packed_rgb(path, grey)
    values, where = np.unique(packed, return_inverse=True)
    shown = [(value >> 16, value >> 8 & 255, value & 255) for value in values.tolist()]
    known = {(IGNORED,) * 3: IGNORED} | colours if grey else colours
    strangers = [colour for colour in shown if colour not in known]
    if not strangers:
        return np.array([known[colour] for colour in shown], np.uint8)[where.reshape(packed.shape)]
    if grey and has_hues and (IGNORED,) * 3 not in colours:
        return _by_index(path, np.arange(IGNORED + 1), classes, by)
    raise UserError(
        f"{path}: colour {','.join(map(str, strangers[0]))} is no class of {by}; add it there, "
        "or save the label as PNG, not smoothed or resized"
    )


def _packed_rgb(path: Path, grey: bool) -> np.ndarray:
    """The colours [H, W] as red * 65536 + green * 256 + blue, int64."""
    if grey and (wide := read_label(path)).dtype != np.uint8:  # would lose its lower 8 bits
        return wide.astype(np.int64) * 0x010101
    # A palette's colours, too, whatever numbers they have there.
    bgr = LoadCheckedImage().transform({"img_path": str(path)})["img"]
    return bgr.astype(np.int64) @ np.array([1, 1 << 8, 1 << 16])
