"""Choose pairs, format their tables in Markdown, and write them into a file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten

from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.system.files import replacing
from pairing.backbones import BACKBONES
from pairing.heads import HEADS, OTHERS
from pairing.pair import Pair, Row

# Title of a table -> its pairs.
GROUPS: dict[str, list[Pair]] = {
    "backbone": BACKBONES,
    "head": [head.on("ConvolutionalizedVGG") for head in HEADS],
}
BEGIN, END = "<!-- pairs: begin -->", "<!-- pairs: end -->"
COLUMNS = ("channels @ stride", "parameters, M", "GFLOP", "forward", "backward", "ONNX")
WIDEST = 120  # most characters of a check's result


def choose(names: Sequence[str]) -> list[Pair]:
    """The pairs with these names; all if there are no names."""
    pairs = {pair.name: pair for group in GROUPS.values() for pair in group}
    for name in names:
        if name not in pairs:
            hint = did_you_mean(name, pairs, "--list shows all")
            raise UserError(f"{name!r}: no such pair; {hint}")
    return [pair for pair in pairs.values() if not names or pair.name in names]


def as_markdown(rows: Mapping[str, Row]) -> str:
    """Markdown tables of the pairs in ``rows`` (name -> row), and of the heads left out."""
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
        *(shorten(result, WIDEST, placeholder=" ...") for result in row.checks),
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") or "-" for cell in cells) + " |"


def write(file: Path, text: str) -> None:
    """Replace the text between the two markers in ``file``.

    Raises:
        UserError: the file does not have each marker once.
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
