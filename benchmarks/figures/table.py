"""Print the table of figures, and convert it to JSON."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid

from figures.framework import Figure, Result, Row

WIDTH = 100  # columns if the output is not a terminal
# Title -> (width, alignment) of a column.
COLUMNS = {
    "  quantity": (20, "left"),
    "ours": (14, "right"),
    "theirs": (14, "right"),
    "ratio": (8, "right"),
    "bar": (16, "left"),
}
VERDICTS = {True: "[green]met[/]", False: "[red]missed[/]"}


class Table:
    """Prints the table on stdout, figure by figure."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = WIDTH

    def list(self, figures: Sequence[Figure]) -> None:
        grid = Grid("group", "name", "against", box=box.SIMPLE_HEAD)
        for figure in figures:
            grid.add_row(figure.group, figure.name, figure.against)
        self.console.print(grid)

    def head(self, machine: dict[str, Any], dtype: str) -> None:
        cpu = f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads"
        products = machine["matrix_products"].items()
        rates = (f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in products)
        lines = (
            machine.get("gpu"),
            f"{cpu}, load {machine['load']} before" if machine.get("load") else cpu,
            f"Python {machine['python']}, torch {machine['torch']}, networks in {dtype}",
            f"matrix products: {', '.join(rates)}\n",
        )
        for line in filter(None, lines):
            self.console.print(line, markup=False)
        self._grid([COLUMNS], style="dim")

    def add(self, figure: Figure, result: Result, matrix_rate: float) -> None:
        self.console.print(f"[bold]{figure.name}[/]  {figure.against}")
        self._grid(map(_cells, result.rows))
        self._note(result.word, "dim")
        if rates := result.details.get("operations_per_second"):
            sides = ("ours ", "theirs ") if len(rates) > 1 else ("",)
            shares = [f"{100 * rate / matrix_rate:.0f} %" for rate in rates]
            words = ", ".join(map("".join, zip(sides, shares, strict=True)))
            self._note(f"{words} of the machine's rate of matrix products", "dim")
        if result.skipped:
            self._note(f"skipped: {result.skipped}", "yellow")
        if result.disagreement:
            self._note(f"the two sides disagree: {result.disagreement}", "red")

    def foot(self, results: Sequence[Result], quick: bool) -> None:
        met = judged(results)
        words = [f"{sum(met)} of {len(met)} bars met"]
        if quick:
            words = ["--quick: the sizes are tiny, no bar is judged"]
        elif not met:
            words = ["no bars for these figures on this device"]
        if skipped := sum(bool(result.skipped) for result in results):
            words.append(f"{skipped} skipped")
        if differ := sum(bool(result.disagreement) for result in results):
            words.append(f"{differ} with sides that disagree")
        self.console.print(f"\n{'; '.join(words)}")

    def _grid(self, rows: Any, style: str = "") -> None:
        grid = Grid(box=None, show_header=False, padding=(0, 2, 0, 0))
        for width, justify in COLUMNS.values():
            grid.add_column(width=width, justify=justify)
        for row in rows:
            grid.add_row(*row, style=style)
        if grid.row_count:
            self.console.print(grid)

    def _note(self, text: str, style: str) -> None:
        if text:
            self.console.print(Padding(text, (0, 0, 0, 2)), style=style)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Say on stderr what is being measured; on a terminal, erase it afterwards."""
    terminal = sys.stderr.isatty()
    print(f"measuring {what}", end="" if terminal else "\n", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def judged(results: Sequence[Result]) -> list[bool]:
    return [row.met for result in results for row in result.rows if row.met is not None]


def _cells(row: Row) -> tuple[str, ...]:
    bar = "" if row.met is None else f"≤ {row.bar:g} {VERDICTS[row.met]}"
    theirs = "" if row.theirs is None else number(row.theirs, row.unit)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"  {row.quantity}", number(row.ours, row.unit), theirs, ratio, bar


def number(value: float, unit: str) -> str:
    """A value with three digits, or with all digits before the point."""
    return f"{value:,.0f} {unit}" if abs(value) >= 1000 else f"{value:.3g} {unit}".strip()


def to_json(
    results: Sequence[tuple[Figure, Result]], machine: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    """Everything that was measured, in types that JSON has."""
    met = judged([result for _, result in results])
    plain = (bool, int, str, list, type(None))
    figures = []
    for figure, result in results:
        entry = asdict(result)
        entry["agreement"] = entry.pop("word")
        entry["rows"] = [asdict(row) | dict(ratio=row.ratio, met=row.met) for row in result.rows]
        named = dict(name=figure.name, group=figure.group, against=figure.against)
        figures.append(named | entry)
    return {
        "machine": machine,
        "options": {k: v if isinstance(v, plain) else str(v) for k, v in options.items()},
        "bars": {"met": sum(met), "of": len(met)},
        "figures": figures,
    }
