"""A user's own classes: which names there are, which number each gets, which are refused."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.numbering import BACKGROUND, IGNORED, LABELME_BACKGROUND, LEFT_OUT
from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.prepare.own.source import MAX_NOTED, Job, text_of

ALL_OTHERS = "*"  # in --map
# Files that may hold the class names; labelme's documentation uses the last.
CLASS_FILES = ("classes.txt", "class_names.txt", "labels.txt")
Colour = tuple[int, int, int]


class Classes(NamedTuple):
    """The classes to train on.

    Attributes:
        names, palette: of the classes, by number; colours are RGB in 0-255.
        numbers: the class of each name in the labels; IGNORED for pixels to leave out.
        file: the file that names the classes; None if the labels do.
    """

    names: list[str]
    palette: list[list[int]]
    numbers: dict[str, int]
    file: Path | None

    @property
    def settings(self) -> list[Path]:
        """See ``Source.settings``."""
        return [self.file] if self.file else []


def classes_beside(folder: Path) -> Path | None:
    """The file in ``folder`` that names the classes, if there is one."""
    files = (folder / name for name in CLASS_FILES)
    return next((file for file in files if file.is_file()), None)


def read_classes(path: Path) -> list[str]:
    """The class names in a file with one name a line; labelme's lists are read, too.

    ``_background_`` becomes background; ``__ignore__`` stays, and stands for pixels to leave out.

    Raises:
        UserError: the file does not exist.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of class names; write one, with one name a line")
    names = [line.strip() for line in text_of(path).splitlines() if line.strip()]
    names = [BACKGROUND if name == LABELME_BACKGROUND else name for name in names]
    # labelme gives this name the number -1, and background 0.
    if names[:2] == [LEFT_OUT, BACKGROUND]:
        del names[0]
    for name in names:
        if names.count(name) > 1 and name != LEFT_OUT:
            raise UserError(f"{path}: class {name!r} is there twice; take one out")
    return names


def drawn_classes(
    files: Mapping[str, Path], job: Job, colours: Mapping[str, Colour] = MappingProxyType({})
) -> Classes:
    """The classes of labels that are drawn object by object; background, number 0, is the rest.

    Args:
        files: each name that occurs -> a file that has it. Without ``Job.classes_file`` or a file
            of ``CLASS_FILES`` in the folder, which has the order of the classes, they are numbered
            in this order.
        colours: of the names, for the palette.

    Raises:
        UserError: a name is not in that file; see also ``numbered``.
    """
    present = [BACKGROUND if name == LABELME_BACKGROUND else name for name in files]
    file = job.classes_file or classes_beside(job.folder)
    order = read_classes(file) if file else []
    renamed = _renamed([*order, *present], job)
    for name in files if file else ():
        if not {name, renamed.get(name)} & {*order, BACKGROUND, LABELME_BACKGROUND, LEFT_OUT}:
            remedy = f"add it there, correct the label, or give --map {name!r}={BACKGROUND}"
            raise UserError(
                f"{files[name]}: label {name!r} is not in {file}; "
                f"{did_you_mean(name, order, remedy)}"
            )
    first = [] if BACKGROUND in order else [BACKGROUND]
    return numbered([*first, *order, *present], job, colours, file)


def numbered(
    names: Iterable[str], job: Job, colours: Mapping[str, Colour], file: Path | None
) -> Classes:
    """The classes that names stand for, in the order of the names, renamed as ``--map`` says.

    Args:
        colours: of the names, for the palette; VOC's colours for names without one.
        file: has the names; None if the labels have them.

    Raises:
        UserError: ``--map`` renames what is not there, or the names cannot be trained on.
    """
    renamed = _renamed(names, job)
    classes = [name for name in dict.fromkeys(renamed.values()) if name != LEFT_OUT]
    refuse_classes(file or job.folder, classes)
    own = {new: colours[old] for old, new in reversed(renamed.items()) if old in colours}
    palette = [list(own.get(name, voc_palette()[i])) for i, name in enumerate(classes)]
    by_class = {name: number for number, name in enumerate(classes)} | {LEFT_OUT: IGNORED}
    numbers = {LEFT_OUT: IGNORED} | {old: by_class[new] for old, new in renamed.items()}
    if BACKGROUND in classes:
        numbers[LABELME_BACKGROUND] = by_class[BACKGROUND]
    return Classes(classes, palette, numbers, file)


def _renamed(names: Iterable[str], job: Job) -> dict[str, str]:
    """Each name -> its name after ``--map``."""
    names = list(dict.fromkeys(names))
    for old in job.renamed:
        if old not in (*names, ALL_OTHERS):
            hint = did_you_mean(old, names, f"classes are {', '.join(names[:MAX_NOTED])}")
            raise UserError(f"--map {old}={job.renamed[old]}: no class {old!r}; {hint}")
    kept = {*job.renamed.values(), BACKGROUND, LEFT_OUT}
    others = job.renamed.get(ALL_OTHERS)
    return {
        name: job.renamed.get(name, name if others is None or name in kept else others)
        for name in names
    }


def refuse_classes(file: Path, classes: Sequence[str]) -> None:
    """Raise a `UserError` if class names cannot be trained on."""
    for name in classes:
        # classes.txt would not keep such a name, or a config would replace its {{ }}.
        if not name.strip() or not name.isprintable() or "{{" in name:
            raise UserError(f"{file}: {name!r} cannot be the name of a class; rename it")
    if not 2 <= len(classes) <= IGNORED:
        listed = ", ".join(classes[:MAX_NOTED]) or "no name at all"
        raise UserError(
            f"{file}: {len(classes)} classes, {listed}; there have to be 2 to {IGNORED}, "
            "background included"
        )
