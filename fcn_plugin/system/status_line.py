"""A line at the bottom of a terminal; what a program prints scrolls above it.

rich's own ``Live`` hides the cursor, and ends badly where nobody stops it, as in a training that an
error ends: mmengine's hooks do not hear of it. Here each output first erases the line, and only
whoever holds the line, or its logger, draws it again. So there is nothing to be left behind.
"""

import atexit
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import RLock
from typing import Any, TextIO

from rich.console import Console, ConsoleRenderable
from rich.control import Control
from rich.segment import ControlType, Segment, Segments

START = Control(ControlType.CARRIAGE_RETURN)
ERASE_HERE = Control((ControlType.ERASE_IN_LINE, 2))
ERASE = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


class StatusLine:
    """The line; to be made and ended by one process, while nothing else has replaced sys.stdout.

    Args:
        logger: its lines on the terminal scroll above, and the line is drawn again at once.
    """

    def __init__(self, logger: logging.Logger) -> None:
        # A stream of its own, for what records sys.stdout, as W&B does, is not to have the line.
        copy = os.dup(sys.stdout.fileno())
        self._file = os.fdopen(copy, "w", encoding=sys.stdout.encoding)
        self.console = Console(file=self._file)
        self._process = os.getpid()
        self._lock = RLock()
        self._line: list[Segment] = []
        self._drawn = False
        self._gone = False  # the terminal
        self._between = True  # in a worker: no line is begun
        self._replaced: list[Callable[[], object]] = []  # what puts back each stream
        self._replace(logger)
        atexit.register(self.end)

    @staticmethod
    def possible() -> bool:
        """Whether stdout is a terminal that can move its cursor."""
        console = Console()  # which obeys variables such as TERM and TTY_COMPATIBLE
        return sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal

    def _replace(self, logger: logging.Logger) -> None:
        for handler in logger.handlers:
            stream: Any = getattr(handler, "stream", None)
            if isinstance(handler, logging.StreamHandler) and _is_terminal(stream):
                handler.setStream(_Above(stream, self, again=True))
                self._replaced.append(partial(handler.setStream, stream))
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if _is_terminal(stream):
                setattr(sys, name, _Above(stream, self))
                self._replaced.append(partial(setattr, sys, name, stream))

    def draw(self, parts: Sequence[ConsoleRenderable]) -> None:
        """Show what the parts look like one after the other, cut to the terminal's width."""
        line = [piece for part in parts for piece in self._rendered(part)]
        with self._lock:
            # The last column stays free: some terminals begin a new line after it.
            self._line = Segment.adjust_line_length(line, self.console.width - 1, pad=False)
            self._draw()

    def _rendered(self, part: ConsoleRenderable) -> list[Segment]:
        options = self.console.options.update(no_wrap=True)
        lines = self.console.render_lines(part, options, pad=False)
        # Without colours, an empty bar is no line at all.
        return Segment.adjust_line_length(
            lines[0] if lines else [], self.console.measure(part).maximum
        )

    def _draw(self) -> None:
        # The cursor waits at the start: what knows nothing of the line begins there.
        self._show(Segments([ERASE.segment, *self._line, START.segment]))
        self._drawn = not self._gone

    def _erase(self) -> None:
        if self._drawn:
            self._show(ERASE)
        self._drawn = False

    def _show(self, what: ConsoleRenderable | Control) -> None:
        """Write it at once, so that it does not flicker; a terminal may have been closed."""
        if not self._gone:
            try:
                self.console.print(what, no_wrap=True, end="")
            except OSError:
                self._gone = True

    def write_above(self, stream: TextIO, text: str, again: bool) -> int:
        """Write to ``stream`` in place of the line; ``again``: and draw it once more below."""
        if os.getpid() != self._process:  # a worker of a data loader, which shares the terminal
            # Python then writes all up to the line's end at once, which a "\r" would spoil.
            erase = ERASE_HERE.segment.text if self._between and text else ""
            self._between = text.endswith("\n")
            return stream.write(erase + text) - len(erase)
        with self._lock:
            again &= self._drawn and text.endswith("\n")
            self._erase()
            written = stream.write(text)
            stream.flush()
            if again:
                self._draw()
            return written

    def end(self) -> None:
        """Erase the line, and put back all streams; may be called again."""
        if self._file.closed or os.getpid() != self._process:
            return
        self._erase()
        while self._replaced:
            self._replaced.pop()()
        with suppress(OSError):
            self._file.close()
        atexit.unregister(self.end)


class _Above:
    """A stream whose output goes above the line; all else is the stream's own."""

    def __init__(self, stream: TextIO, line: StatusLine, again: bool = False) -> None:
        self._stream, self._status_line, self._again = stream, line, again

    def write(self, text: str) -> int:
        return self._status_line.write_above(self._stream, text, self._again)

    def writelines(self, lines: Sequence[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _is_terminal(stream: Any) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
