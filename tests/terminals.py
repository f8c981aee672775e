"""Pseudo terminals, and what a person would see on them."""

import os
import pty
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

PATIENCE = 60  # seconds for the rest of an output
COLUMNS = 70
BAR = "━"
# All that the bar may use: to erase a line, and colours. They leave nothing to be put right.
PIECES = re.compile(r"\x1b\[2K|\x1b\[[\d;]*m|[^\x1b]")
COLOUR = re.compile(rb"\x1b\[[\d;]*m")


class Terminal:
    """A pseudo terminal; ``output`` grows with what is written to its end ``theirs``."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.output = b""
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self.ours, 1 << 16)
            except OSError:  # nobody has the other end any more
                return
            self.output += part

    def close(self) -> None:
        """Wait for the rest of the output."""
        os.close(self.theirs)
        self.reader.join(PATIENCE)
        os.close(self.ours)

    def screens(self) -> Iterator[list[str]]:
        """All lines as a person sees them, each time before one is erased or begun anew."""
        lines, column, text = [""], 0, self.output.decode()
        pieces = PIECES.findall(text)
        assert "".join(pieces) == text
        for piece in pieces:
            if piece in ("\r", "\n", "\x1b[2K"):
                yield lines
            if piece == "\x1b[2K":
                lines[-1] = ""
            elif piece == "\r":
                column = 0
            elif piece == "\n":
                lines.append("")
            elif len(piece) == 1:
                before = lines[-1].ljust(column)
                lines[-1] = before[:column] + piece + before[column + 1 :]
                column += 1
        yield lines

    def check(self) -> tuple[list[str], set[str]]:
        """The lines at the end, and the words before each bar; no other line ever has one."""
        bars = set()
        for lines in self.screens():
            assert not any(BAR in line for line in lines[:-1])
            if BAR in lines[-1]:
                assert len(lines[-1]) < COLUMNS
                bars.add(lines[-1].partition(BAR)[0].strip())
        assert lines[-1] == ""
        return lines, bars


@contextmanager
def on_terminal(**environment: str) -> Iterator[Terminal]:
    """stdout and stderr are a terminal."""
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        streams = [os.fdopen(os.dup(terminal.theirs), "w", encoding="utf-8") for _ in range(2)]
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            patch.delenv(name, raising=False)
        for name, value in (dict(TERM="xterm", COLUMNS=str(COLUMNS)) | environment).items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        yield terminal
        assert [sys.stdout, sys.stderr] == streams
        for stream in streams:
            stream.close()
    terminal.close()
