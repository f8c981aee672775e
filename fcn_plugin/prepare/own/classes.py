"""A user's own classes: which names there are, which number each gets, which are refused."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.numbering import BACKGROUND, IGNORED, LABELME_BACKGROUND, LEFT_OUT
from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.prepare.own.class_tables import table_beside
from fcn_plugin.prepare.own.source import MAX_NOTED, Classes, Colour, Job

ALL_OTHERS = "*"  # in --map


def drawn_classes(
    files: Mapping[str, Path], job: Job, colours: Mapping[str, Colour] = MappingProxyType({})
) -> Classes:
    """The classes of labels that are drawn object by object; background, number 0, is the rest.

    Args:
        files: each name that occurs -> a file that has it. Without a ``table_beside``, which has
            the order of the classes, they are numbered in this order.
        colours: of the names, for the palette.

    Raises:
        UserError: a name is not in that file; see also ``numbered``.
    """
    present = [BACKGROUND if name == LABELME_BACKGROUND else name for name in files]
    table = table_beside(job)
    order = [name for _, name in sorted(table.values.items())] if table else []
    renamed = _renamed([*order, *present], job)
    for name in files if table else ():
        if not {name, renamed.get(name)} & {*order, BACKGROUND, LABELME_BACKGROUND, LEFT_OUT}:
            remedy = f"add it there, correct the label, or give --map {name!r}={BACKGROUND}"
            raise UserError(
                f"{files[name]}: label {name!r} is not in {table and table.file}; "
                f"{did_you_mean(name, order, remedy)}"
            )
    # Without a background, a file that names what is left out has that for the rest.
    first = [] if {BACKGROUND, LEFT_OUT} & set(order) else [BACKGROUND]
    file = table.file if table else None
    classes = numbered([*first, *order, *present], job, colours, file)
    classes.numbers.setdefault(BACKGROUND, IGNORED)
    return classes


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
