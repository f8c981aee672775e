"""Print the table of figures, and convert it to JSON."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from figures.framework import Figure, Result, Row


def heading(machine: dict[str, Any], dtype: str) -> str:
    """The lines above the figures: the machine, the versions, the precision of networks."""
    cpu = f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads"
    products = machine["matrix_products"].items()
    rates = (f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in products)
    lines = (
        machine.get("gpu"),
        f"{cpu}, load {machine['load']} before" if machine.get("load") else cpu,
        f"Python {machine['python']}, torch {machine['torch']}, networks in {dtype}",
        f"matrix products: {', '.join(rates)}\n",
        f"  {'quantity':<20}{'ours':>14}{'theirs':>14}{'ratio':>8}",
    )
    return "\n".join(filter(None, lines))


def section(figure: Figure, result: Result, matrix_rate: float) -> str:
    """The lines of one figure."""
    lines = [f"{figure.name}  {figure.against}", *map(_line, result.rows)]
    notes = [result.word]
    if rates := result.details.get("operations_per_second"):
        sides = ("ours ", "theirs ") if len(rates) > 1 else ("",)
        shares = (
            f"{side}{100 * rate / matrix_rate:.0f} %"
            for side, rate in zip(sides, rates, strict=True)
        )
        notes.append(f"{', '.join(shares)} of the machine's rate of matrix products")
    if result.skipped:
        notes.append(f"skipped: {result.skipped}")
    if result.disagreement:
        notes.append(f"the two sides disagree: {result.disagreement}")
    return "\n".join([*lines, *(f"  {note}" for note in notes if note)])


def _line(row: Row) -> str:
    theirs = "" if row.theirs is None else number(row.theirs, row.unit)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"  {row.quantity:<20}{number(row.ours, row.unit):>14}{theirs:>14}{ratio:>8}".rstrip()


def number(value: float, unit: str) -> str:
    """A value with three digits, or with all digits before the point."""
    return f"{value:,.0f} {unit}" if abs(value) >= 1000 else f"{value:.3g} {unit}".strip()


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


def to_json(
    results: Sequence[tuple[Figure, Result]], machine: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    """Everything that was measured, in types that JSON has."""
    plain = (bool, int, str, list, type(None))
    figures = []
    for figure, result in results:
        named = dict(name=figure.name, group=figure.group, against=figure.against)
        rows = [asdict(row) | dict(ratio=row.ratio) for row in result.rows]
        figures.append(named | asdict(result) | dict(rows=rows))
    return {
        "machine": machine,
        "options": {k: v if isinstance(v, plain) else str(v) for k, v in options.items()},
        "figures": figures,
    }
