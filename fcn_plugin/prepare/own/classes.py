"""The names of a user's own classes: the files they are in, and those that cannot be trained on."""

from collections.abc import Sequence
from pathlib import Path

from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.source import MAX_NOTED, text_of

# labelme's names for pixels that are no object, and for those that are left out.
BACKGROUND, LABELME_BACKGROUND, LEFT_OUT = "background", "_background_", "__ignore__"
# Files of class names in a source; the last is what labelme's documentation calls its own.
CLASS_FILES = ("classes.txt", "class_names.txt", "labels.txt")


def classes_beside(folder: Path) -> Path | None:
    """The file in ``folder`` that names the classes, if there is one."""
    files = (folder / name for name in CLASS_FILES)
    return next((file for file in files if file.is_file()), None)


def read_classes(path: Path) -> list[str]:
    """The names in a file of one class a line, as labelme's lists too.

    ``_background_`` becomes background; ``__ignore__`` stays, to stand for what is left out.

    Raises:
        UserError: there is no such file, no name in it, or one twice.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of class names; write one, with one name a line")
    names = [line.strip() for line in text_of(path).splitlines() if line.strip()]
    names = [BACKGROUND if name == LABELME_BACKGROUND else name for name in names]
    # Where labelme numbers classes, this is number -1.
    if names[:2] == [LEFT_OUT, BACKGROUND]:
        del names[0]
    refuse_classes(path, names)
    return names


def refuse_classes(file: Path, names: Sequence[str]) -> None:
    """Class names that cannot be trained on, ``__ignore__`` aside."""
    classes = [name for name in names if name != LEFT_OUT]
    for name in classes:
        if classes.count(name) > 1:
            raise UserError(f"{file}: class {name!r} is there twice; take one out")
        # Such a one would be another in classes.txt, or in a config with {{ }} filled in.
        if not name.strip() or not name.isprintable() or "{{" in name:
            raise UserError(f"{file}: {name!r} cannot be the name of a class; rename it")
    if not 2 <= len(classes) <= IGNORED:
        listed = ", ".join(classes[:MAX_NOTED]) or "no name at all"
        raise UserError(
            f"{file}: {len(classes)} classes, {listed}; there have to be 2 to {IGNORED}, "
            "background included"
        )
