"""The names of a user's own classes: which files hold them, and which names are refused."""

from collections.abc import Sequence
from pathlib import Path

from fcn_plugin.data.numbering import BACKGROUND, IGNORED, LABELME_BACKGROUND, LEFT_OUT
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.source import MAX_NOTED, text_of

# Files that may hold the class names; labelme's documentation uses the last.
CLASS_FILES = ("classes.txt", "class_names.txt", "labels.txt")


def classes_beside(folder: Path) -> Path | None:
    """The file in ``folder`` that names the classes, if there is one."""
    files = (folder / name for name in CLASS_FILES)
    return next((file for file in files if file.is_file()), None)


def read_classes(path: Path) -> list[str]:
    """The class names in a file with one name a line; labelme's lists are read, too.

    ``_background_`` becomes background; ``__ignore__`` stays, and stands for pixels to leave out.

    Raises:
        UserError: the file does not exist, or ``refuse_classes`` refuses its names.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of class names; write one, with one name a line")
    names = [line.strip() for line in text_of(path).splitlines() if line.strip()]
    names = [BACKGROUND if name == LABELME_BACKGROUND else name for name in names]
    # labelme gives this name the number -1, and background 0.
    if names[:2] == [LEFT_OUT, BACKGROUND]:
        del names[0]
    refuse_classes(path, names)
    return names


def refuse_classes(file: Path, names: Sequence[str]) -> None:
    """Raise a `UserError` if class names, ``__ignore__`` aside, cannot be trained on."""
    classes = [name for name in names if name != LEFT_OUT]
    for name in classes:
        if classes.count(name) > 1:
            raise UserError(f"{file}: class {name!r} is there twice; take one out")
        # classes.txt would not keep such a name, or a config would replace its {{ }}.
        if not name.strip() or not name.isprintable() or "{{" in name:
            raise UserError(f"{file}: {name!r} cannot be the name of a class; rename it")
    if not 2 <= len(classes) <= IGNORED:
        listed = ", ".join(classes[:MAX_NOTED]) or "no name at all"
        raise UserError(
            f"{file}: {len(classes)} classes, {listed}; there have to be 2 to {IGNORED}, "
            "background included"
        )
