"""Tables of classes: names, with a value or a colour each, in any order.

CVAT's ``labelmap.txt`` and ``label_colors.txt``, Roboflow's ``_classes.csv``, ``class_dict.csv``,
``colormap.txt``, plain lists of names, and JSON.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fcn_plugin.data.numbering import BACKGROUND, LABELME_BACKGROUND, LEFT_OUT
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.folder import Folder, read_json
from fcn_plugin.prepare.own.source import Colour, Job, text_of

# Names of files with tables, in lower case.
NAMES = re.compile(
    r"_?(class(es)?|labels?|colou?rs?|palette|legend)([_-]?(names|dict|map|colou?rs?|table|list))?"
    r"\.(txt|csv|json)|readme\.md"
)
README = ".md"
# Lists of names, which labels that name their classes themselves may have beside them; labelme's
# documentation uses the last.
LISTS = ("classes.txt", "class_names.txt", "labels.txt")
BETWEEN = r"\s*[\s,;:=]\s*"
RGB = BETWEEN.join(rf"(?P<{channel}>\d{{1,3}})" for channel in ("red", "green", "blue"))
RGB = rf"[\[(]?\s*{RGB}\s*[\])]?"
# What a line may hold; the first pattern that fits all lines counts.
PATTERNS = {
    "red green blue name": re.compile(rf"{RGB}{BETWEEN}(?P<name>\S.*)"),
    "value, name, red, green, blue": re.compile(
        rf"(?P<value>\d+){BETWEEN}(?P<name>\D.*?){BETWEEN}{RGB}"
    ),
    "name:red,green,blue::": re.compile(rf"(?P<name>.+?){BETWEEN}{RGB}(:.*)?"),
    "value, name": re.compile(rf"(?P<value>\d+){BETWEEN}(?P<name>\D.*)"),
}
KEYS = {
    "name": ("name", "label", "title", "class"),
    "value": ("value", "id", "index"),
    "colour": ("color", "colour", "rgb"),
    "table": ("classes", "labels", "categories"),
}
# What the first line of a .csv calls its columns.
COLUMNS = {*KEYS["name"], *KEYS["value"], "pixel value", "r", "g", "b", "red", "green", "blue"}


class Entry(NamedTuple):
    """A line of a table."""

    name: str
    value: int | None = None
    colour: Colour | None = None


class Table(NamedTuple):
    """The entries of a file; without values and colours, entry i stands for value i."""

    file: Path
    entries: list[Entry]

    @property
    def colours(self) -> dict[Colour, str]:
        """The name of each colour; empty if the table has none."""
        return {entry.colour: entry.name for entry in self.entries if entry.colour}

    @property
    def values(self) -> dict[int, str]:
        """The name of each value."""
        return {
            number if entry.value is None else entry.value: entry.name
            for number, entry in enumerate(self.entries)
        }


def table_beside(job: Job) -> Table | None:
    """The table in ``Job.classes_file``, or in one of ``LISTS`` in the folder; None without one.

    Raises:
        UserError: see ``read_table``; or the file has no class.
    """
    lists = (job.folder / name for name in LISTS)
    file = job.classes_file or next((file for file in lists if file.is_file()), None)
    if file is None:
        return None
    table = read_table(file)
    if not table.entries:
        raise UserError(f"{file}: names no class; write one name a line, in the order of values")
    return table


def find_table(folder: Folder, job: Job) -> Table | None:
    """The table in ``Job.classes_file``, or in the folder or a folder in it; None without one.

    Of several, the first with colours is taken, else the first.

    Raises:
        UserError: see ``read_table``; or two files of one name differ.
    """
    if job.classes_file is not None:
        return table_beside(job)
    files = [
        folder.path / file
        for file in sorted(folder.files, key=lambda file: len(file.parts))
        if NAMES.fullmatch(file.name.lower()) and len(file.parts) < 3
    ]
    tables = [table for table in map(read_table, files) if table.entries]
    tables.sort(key=lambda table: (table.file.suffix == README, not table.colours))
    for table in tables[1:]:
        first = tables[0]
        if table.entries == first.entries:
            continue
        if table.file.name == first.file.name:
            raise UserError(f"{table.file}: {first.file} has other classes; make them the same")
        job.note(f"{table.file}: not read, for {first.file.name} names the classes")
    return tables[0] if tables else None


def read_table(path: Path) -> Table:
    """The table in a file.

    Of a README (.md), the lines that give a name and a colour are taken.

    Raises:
        UserError: a line is not like the others, a level is above 255, or a colour, value or name
            is there twice.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of class names; write one, with one name a line")
    if path.suffix.lower() == ".json":
        entries = list(_json_entries(path, read_json(path)))
    else:
        entries = _text_entries(path)
    for kind in ("colour", "value"):
        present = [value for entry in entries if (value := getattr(entry, kind)) is not None]
        for value in present:
            if present.count(value) > 1:
                raise UserError(f"{path}: {kind} {value} is there twice; give each class its own")
    valued = [entry.value is not None for entry in entries]
    if any(valued) and not all(valued):
        name = entries[valued.index(False)].name
        raise UserError(f"{path}: {name} has no value, but others have; give it one")
    names = [entry.name for entry in entries if entry.name != LEFT_OUT]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: class {name!r} is there twice; take one out")
    return Table(path, entries)


def _text_entries(path: Path) -> list[Entry]:
    lines = [line.strip() for line in text_of(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if path.suffix == README:
        rows = map(PATTERNS["name:red,green,blue::"].fullmatch, lines)
        entries = [_entry(path, match) for match in rows if match and _is_colour(match)]
        return entries if len(entries) > 1 else []
    if path.suffix.lower() == ".csv" and lines and _columns(lines[0]) <= COLUMNS:
        del lines[0]
    for pattern in PATTERNS.values():
        matches = [pattern.fullmatch(line) for line in lines]
        if lines and all(matches):
            return [_entry(path, match) for match in matches if match]
    colours = PATTERNS["name:red,green,blue::"]
    if any(map(colours.fullmatch, lines)):
        line = next(line for line in lines if not colours.fullmatch(line))
        raise UserError(
            f"{path}: {line!r} is not like the other lines, {' or '.join(PATTERNS)}; correct it"
        )
    names = [_plain(line) for line in lines]
    # labelme gives this name the number -1, and background 0.
    return [Entry(name) for name in names[names[:2] == [LEFT_OUT, BACKGROUND] :]]


def _columns(line: str) -> set[str]:
    return {word.strip().strip("\"'").lower() for word in re.split("[,;]", line)}


def _entry(path: Path, match: re.Match[str]) -> Entry:
    fields = match.groupdict()
    colour, value = None, fields.get("value")
    if "red" in fields:
        if not _is_colour(match):
            raise UserError(f"{path}: {match[0]!r} has a level above 255; correct the colour")
        colour = int(fields["red"]), int(fields["green"]), int(fields["blue"])
    name = _plain(fields["name"].strip().strip("\"'"))
    return Entry(name, None if value is None else int(value), colour)


def _is_colour(match: re.Match[str]) -> bool:
    return max(int(match[channel]) for channel in ("red", "green", "blue")) < 256


def _json_entries(path: Path, document: Any) -> Iterator[Entry]:
    """The entries of a list of names or of objects, or of an object from or to names."""
    if isinstance(document, dict) and (inner := _field(document, "table")) is not None:
        document = inner
    if isinstance(document, dict):
        document = [
            dict(name=value, value=int(key)) if key.isdigit() else {"name": key} | _worth(value)
            for key, value in document.items()
        ]
    for row in document if isinstance(document, list) else [None]:
        if isinstance(row, str):
            row = {"name": row}
        if not isinstance(row, dict) or not isinstance(name := _field(row, "name"), str):
            raise UserError(
                f"{path}: no table of classes; write a list of objects with name, and value or "
                "color"
            )
        value = _field(row, "value")
        if value is not None and not str(value).lstrip("-").isdigit():
            raise UserError(f"{path}: {name} has the value {value!r}; give a whole number")
        yield Entry(
            _plain(name),
            None if value is None else int(value),
            _colour(path, _field(row, "colour")),
        )


def _worth(value: Any) -> dict[str, Any]:
    return (
        dict(value)
        if isinstance(value, dict)
        else {"value" if isinstance(value, int) else "color": value}
    )


def _field(row: dict[str, Any], kind: str) -> Any:
    return next((row[key] for key in KEYS[kind] if key in row), None)


def _colour(path: Path, colour: Any) -> Colour | None:
    """A colour of three numbers or as #rrggbb."""
    if colour is None:
        return None
    try:
        levels = bytes.fromhex(colour.lstrip("#")) if isinstance(colour, str) else bytes(colour)
        red, green, blue, *_ = levels
    except (TypeError, ValueError):
        raise UserError(f"{path}: {colour!r} is no colour; give [red, green, blue]") from None
    return red, green, blue


def _plain(name: str) -> str:
    return BACKGROUND if name == LABELME_BACKGROUND else name
