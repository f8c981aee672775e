"""Report the progress of long work: a callback type, and a bar that implements it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar

LINE_PAUSE, DRAW_PAUSE = 10, 0.1  # seconds between lines of a log, and updates of a bar

# Called with the name of the step, the amount done, and the total amount (0 if unknown).
Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """A ``Progress`` that shows nothing."""


@contextmanager
def progress_bar(of_bytes: bool = False) -> Iterator[Progress]:
    """A ``Progress`` that draws a bar on stderr if that is a terminal.

    Otherwise, as in the log of a batch job, it writes a line every ten seconds, and names a step
    that is one piece (0 of 1) when it begins.

    Args:
        of_bytes: amounts are bytes, as in a download: show the speed too.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _in_lines()
        return
    amounts = [DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(), *amounts] if of_bytes else []
    # No thread of rich, because the work may fork.
    with Bar(*columns, console=console, transient=not of_bytes, auto_refresh=False) as bar:
        task = bar.add_task("", total=None)
        drawn = 0.0

        def draw(step: str, done: int, total: int) -> None:
            nonlocal drawn
            bar.update(task, description=step, completed=done, total=total or None)
            if time.monotonic() - drawn > DRAW_PAUSE:
                drawn = time.monotonic()
                bar.refresh()

        yield draw


def _in_lines() -> Progress:
    written = time.monotonic()

    def progress(step: str, done: int, total: int) -> None:
        nonlocal written
        if (done, total) == (0, 1):
            print(f"{step} ...", file=sys.stderr, flush=True)
        elif time.monotonic() - written > LINE_PAUSE:
            written = time.monotonic()
            print(
                f"{step}: {done:,}" if not total else f"{step}: {100 * done // total} %",
                file=sys.stderr,
                flush=True,
            )

    return progress
