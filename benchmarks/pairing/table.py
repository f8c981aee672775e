"""The tables of pairs: which there are, their Markdown, and their place in a file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten

from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.system.files import replacing
from pairing.backbones import BACKBONES
from pairing.heads import HEADS, OTHERS
from pairing.pair import Pair, Row

# By the title of their table.
GROUPS: dict[str, list[Pair]] = {
    "backbone": BACKBONES,
    "head": [head.on("ConvolutionalizedVGG") for head in HEADS],
}
BEGIN, END = "<!-- pairs: begin -->", "<!-- pairs: end -->"
COLUMNS = ("channels @ stride", "parameters, M", "GFLOP", "forward", "backward", "ONNX")
WIDEST = 120  # characters that a table has for what a check found


def choose(names: Sequence[str]) -> list[Pair]:
    """The pairs with one of ``names``; all without names."""
    pairs = {pair.name: pair for group in GROUPS.values() for pair in group}
    for name in names:
        if name not in pairs:
            hint = did_you_mean(name, pairs, "--list shows all")
            raise UserError(f"{name!r}: no such pair; {hint}")
    return [pair for pair in pairs.values() if not names or pair.name in names]


def as_markdown(rows: Mapping[str, Row]) -> str:
    """The tables of the pairs that ``rows`` has by name, and of the heads that are not paired."""
    tables = []
    for title, group in GROUPS.items():
        if tried := [rows[pair.name] for pair in group if pair.name in rows]:
            lines = [_line([title, *COLUMNS]), "|---|---|---:|---:|---|---|---|"]
            tables.append([*lines, *(_line(_cells(row)) for row in tried)])
    tables.append([_line(["heads left out", "why"]), "|---|---|", *map(_line, OTHERS.items())])
    return "\n\n".join("\n".join(lines) for lines in tables)


def _cells(row: Row) -> list[str]:
    levels = zip(*row.levels, strict=True) if row.levels else ()
    return [
        row.name,
        ", ".join(f"{channels} @ {stride:.3g}" for channels, stride in levels),
        "" if row.parameters is None else f"{row.parameters / 1e6:.3g}",
        "" if row.operations is None else f"{row.operations / 1e9:.3g}",
        *(shorten(found, WIDEST, placeholder=" ...") for found in row.checks),
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") or "-" for cell in cells) + " |"


def write(file: Path, text: str) -> None:
    """Put ``text`` between the markers in ``file``, in place of what is there.

    Raises:
        UserError: the file has not one pair of markers.
    """
    before, after = around_tables(file)
    with replacing(file) as part:
        part.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def around_tables(file: Path) -> tuple[str, str]:
    if not file.is_file():
        raise UserError(f"{file}: no such file; make it, with the lines {BEGIN} and {END}")
    content = file.read_text(encoding="utf-8")
    if re.findall(f"{BEGIN}|{END}", content) != [BEGIN, END]:
        raise UserError(f"{file}: the lines {BEGIN} and {END} must be in it once, in this order")
    before, _, after = re.split(f"{BEGIN}|{END}", content)
    return before, after
