"""Labels that are pictures already: VOC's folders, as CVAT exports them too, or two flat ones.

A label picture has class indices, grey or palette, or the colours of ``labelmap.txt``.
"""

from functools import partial
from pathlib import Path

import numpy as np

from fcn_plugin.data.loading import (
    IGNORED,
    LoadCheckedImage,
    open_picture,
    read_label,
    values_in_words,
)
from fcn_plugin.data.own_source import (
    BACKGROUND,
    LABELME_IGNORED,
    Item,
    Size,
    Source,
    default_palette,
    pictures,
    read_classes,
    refuse_classes,
    refuse_size,
)
from fcn_plugin.errors import UserError

# folder of images -> folders of labels, the first that has any
LAYOUTS = {
    "JPEGImages": ("SegmentationClass", "SegmentationClassPNG"),
    "images": ("labels", "masks", "annotations"),
}
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
LABELMAP = "labelmap.txt"
CLASS_FILES = ("classes.txt", "class_names.txt")
INDEX_MODES = ("1", "L", "I", "I;16")  # grey: never the colours of a labelmap
VOC_VOID = (224, 224, 192)
Colour = tuple[int, int, int]


def mask_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and labels in ``folder``; None if they are not there."""
    for images, candidates in LAYOUTS.items():
        for labels in candidates:
            if pictures(folder / images) and pictures(folder / labels, LABEL_SUFFIXES):
                return folder / images, folder / labels
    return None


def mask_source(folder: Path, classes_file: Path | None) -> Source:
    """A folder of VOC's layout, or with ``images`` and ``labels``, paired by name.

    Its classes are those of ``labelmap.txt`` (lines ``name:red,green,blue::``), by their colours,
    or the lines of ``classes_file``, ``classes.txt`` or ``class_names.txt``, by their indices,
    where a line ``__ignore__`` stands for pixels that are left out, as 255 always does.

    Raises:
        UserError: a label without its image, or the classes are not said.
    """
    found = mask_folders(folder)
    assert found is not None
    images, labels = pictures(found[0]), pictures(found[1], LABEL_SUFFIXES)
    for name, label in labels.items():
        if name not in images:
            raise UserError(f"{label}: no image {name} in {found[0]}; add it, or move this away")
    settings = _settings(folder, classes_file)
    colours: dict[Colour, int] | None = None
    if settings.name == LABELMAP:
        table = read_labelmap(settings)
        classes, palette = list(table), [list(colour) for colour in table.values()]
        colours = {VOC_VOID: IGNORED} | {c: i for i, c in enumerate(table.values())}
        meaning = np.arange(IGNORED + 1)
    else:
        names = read_classes(settings)
        classes = [name for name in names if name != LABELME_IGNORED]
        palette = default_palette(classes)
        meaning = np.array(
            [IGNORED if name == LABELME_IGNORED else classes.index(name) for name in names]
        )
    return Source(
        items=[Item(name, images[name], label) for name, label in labels.items()],
        unlabelled=[image for name, image in images.items() if name not in labels],
        classes=classes,
        palette=palette,
        read=partial(_read, meaning=meaning, classes=len(classes), colours=colours, by=settings),
        settings=[settings],
    )


def _settings(folder: Path, classes_file: Path | None) -> Path:
    """The file that says what the labels mean."""
    if classes_file is not None:
        return classes_file
    for name in (LABELMAP, *CLASS_FILES):
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"{folder}: nothing says what its labels are; give --classes FILE, a line with a name for "
        f"each value from 0 on, or put a {LABELMAP} (name:red,green,blue::) there for colours"
    )


def read_labelmap(path: Path) -> dict[str, Colour]:
    """The colour of each class in CVAT's ``labelmap.txt``, background first.

    Raises:
        UserError: a line is no class, or a colour is there twice.
    """
    table: dict[str, Colour] = {}
    names = []
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = bytes(map(int, rest.partition(":")[0].split(",")))  # 0-255
        except ValueError:
            raise UserError(f"{path}: {line!r} is not name:red,green,blue::; correct it") from None
        if (red, green, blue) in table.values():
            raise UserError(f"{path}: {line!r} has another class's colour; give it its own")
        names.append(name.strip())
        table[names[-1]] = (red, green, blue)
    refuse_classes(path, names)
    first = {BACKGROUND: table[BACKGROUND]} if BACKGROUND in table else {}
    return first | table


def _read(
    item: Item,
    size: Size,
    meaning: np.ndarray,
    classes: int,
    colours: dict[Colour, int] | None,
    by: Path,
) -> np.ndarray:
    """See ``Source.read``.

    Args:
        meaning: the class of each stored value; 255 is always left out.
        colours: the class of each colour, if they tell it.
        by: the file that says so.
    """
    path = item.annotation
    assert path is not None
    if colours is not None and not _is_grey(path):
        label = _by_colour(path, colours, by)
    else:
        label = _by_index(path, meaning, classes, by)
    refuse_size(path, label.shape, size)
    return label


def _is_grey(path: Path) -> bool:
    try:
        with open_picture(path) as image:
            return image.mode in INDEX_MODES
    # What is damaged is found, and told better, when it is read.
    except (OSError, SyntaxError, ValueError):
        return True


def _by_index(path: Path, meaning: np.ndarray, classes: int, by: Path) -> np.ndarray:
    stored = read_label(path).astype(np.int64)
    known = (stored >= 0) & (stored < len(meaning))
    label = np.where(known, meaning[np.where(known, stored, 0)], stored)
    wrong = (label != IGNORED) & ~(known & (label < classes))
    if wrong.any():
        values = values_in_words(*np.unique(stored[wrong], return_counts=True))
        raise UserError(
            f"{path}: label values {values}, which {by} has no class for; add it there "
            "(__ignore__ for pixels to leave out), or correct the label"
        )
    return label.astype(np.uint8)


def _by_colour(path: Path, colours: dict[Colour, int], by: Path) -> np.ndarray:
    # A palette's colours, too, whatever numbers they have there.
    bgr = LoadCheckedImage().transform({"img_path": str(path)})["img"]
    packed = bgr.astype(np.int64) @ np.array([1, 1 << 8, 1 << 16])
    values, where = np.unique(packed, return_inverse=True)
    shown = [(value >> 16, value >> 8 & 255, value & 255) for value in values.tolist()]
    if strangers := [colour for colour in shown if colour not in colours]:
        raise UserError(
            f"{path}: colour {','.join(map(str, strangers[0]))} is no class of {by}; add it there, "
            "or save the label as PNG, not smoothed or resized"
        )
    numbers = np.array([colours[colour] for colour in shown], np.uint8)
    return numbers[where.reshape(packed.shape)]
