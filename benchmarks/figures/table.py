"""What the user sees of the figures, and the same for programs."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid

from figures.framework import Figure, Result, Row

WIDTH = 100  # of what is not a terminal
# Title, width, and how the column is aligned.
COLUMNS = (
    ("  quantity", 20, "left"),
    ("ours", 14, "right"),
    ("theirs", 14, "right"),
    ("ratio", 8, "right"),
    ("bar", 16, "left"),
)
VERDICTS = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}


class Table:
    """Printed on stdout figure by figure, as they come."""

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
        """The machine, its matrix products and the titles of the columns."""
        cpu = f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads"
        if load := machine.get("load"):
            cpu += f", load {load} before"
        for line in filter(
            None,
            (
                machine.get("gpu"),
                cpu,
                f"Python {machine['python']}, torch {machine['torch']}, networks in {dtype}",
                "matrix products: "
                + ", ".join(
                    f"{rate / 1e9:,.0f} GFLOP/s in {name}"
                    for name, rate in machine["matrix_products"].items()
                ),
            ),
        ):
            self.console.print(line, markup=False)
        self.console.print()
        grid = self._grid()
        grid.add_row(*(title for title, _, _ in COLUMNS), style="dim")
        self.console.print(grid)

    def add(self, result: Result, matrix_rate: float) -> None:
        """Its name, a line for each quantity, and what else there is to say."""
        self.console.print(f"[bold]{result.figure.name}[/]  {result.figure.against}")
        grid = self._grid()
        for row in result.rows:
            grid.add_row(*_cells(row))
        if result.rows:
            self.console.print(grid)
        for note in _notes(result, matrix_rate):
            self.console.print(Padding(note, (0, 0, 0, 2)), style="dim")
        if result.skipped:
            note = Padding(f"skipped: {result.skipped}", (0, 0, 0, 2))
            self.console.print(note, style="yellow")
        if result.disagreement:
            note = Padding(f"the two sides disagree: {result.disagreement}", (0, 0, 0, 2))
            self.console.print(note, style="red")

    def foot(self, results: Sequence[Result], quick: bool) -> None:
        """The last line: how many bars were met."""
        met = [row.met for result in results for row in result.rows if row.met is not None]
        skipped = sum(bool(result.skipped) for result in results)
        words = [f"{sum(met)} of {len(met)} bars met"]
        if quick:
            words = ["--quick: the sizes are tiny, no bar is judged"]
        elif not met:
            words = ["no bars for these figures on this device"]
        if skipped:
            words.append(f"{skipped} skipped")
        if differ := sum(bool(result.disagreement) for result in results):
            words.append(f"{differ} with sides that disagree")
        self.console.print()
        self.console.print("; ".join(words))

    @contextmanager
    def progress(self, what: str) -> Iterator[None]:
        """Says on stderr what is being measured; on a terminal only meanwhile."""
        terminal = sys.stderr.isatty()
        print(f"measuring {what}", end="" if terminal else "\n", file=sys.stderr, flush=True)
        try:
            yield
        finally:
            if terminal:
                print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _grid(self) -> Grid:
        grid = Grid(box=None, show_header=False, padding=(0, 2, 0, 0))
        for _, width, justify in COLUMNS:
            grid.add_column(width=width, justify=justify)
        return grid


def _cells(row: Row) -> tuple[str, ...]:
    bar = "" if row.bar is None else f"≤ {row.bar:g} {VERDICTS[row.met]}"
    theirs = "" if row.theirs is None else number(row.theirs, row.unit)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"  {row.quantity}", number(row.ours, row.unit), theirs, ratio, bar


def number(value: float, unit: str) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f} {unit}" if abs(value) >= 1000 else f"{value:.3g} {unit}".strip()


def _notes(result: Result, matrix_rate: float) -> list[str]:
    notes = [result.word] if result.word else []
    if rates := result.details.get("operations_per_second"):
        sides = ["ours ", "theirs "] if len(rates) > 1 else [""]
        shares = [100 * rate / matrix_rate for rate in rates]
        said = ", ".join(f"{s}{share:.0f} %" for s, share in zip(sides, shares, strict=True))
        notes.append(f"{said} of the machine's rate of matrix products")
    return notes


def to_json(
    results: Sequence[Result], machine: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    """Everything that was found, in plain types."""
    met = [row.met for result in results for row in result.rows if row.met is not None]
    return {
        "machine": machine,
        "options": {
            key: value if isinstance(value, bool | int | str | list | None) else str(value)
            for key, value in options.items()
        },
        "bars": {"met": sum(met), "of": len(met)},
        "figures": [_figure_json(result) for result in results],
    }


def _figure_json(result: Result) -> dict[str, Any]:
    return {
        "name": result.figure.name,
        "group": result.figure.group,
        "against": result.figure.against,
        "skipped": result.skipped,
        "disagreement": result.disagreement,
        "agreement": result.word,
        "rows": [
            {
                "quantity": row.quantity,
                "unit": row.unit,
                "ours": row.ours,
                "theirs": row.theirs,
                "ratio": row.ratio,
                "bar": row.bar,
                "met": row.met,
                "quartiles": row.quartiles,
            }
            for row in result.rows
        ],
        "details": result.details,
    }
