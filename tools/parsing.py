"""The option parser of every tool: a --help that fits a screen and ends with examples.

A tool writes ``ToolParser(__doc__)``; its docstring is then what --help says of it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from typing import Any, TextIO

WIDEST = 100  # columns; longer lines are hard to read
HELP_COLUMN = 26  # at most; where the help of options begins
COMMANDS = ("fcn-plugin ", "python benchmarks/")
# "usage:", and a line that ends with a colon above one that is indented.
HEADING = re.compile(r"^(usage:|\S.*:(?=\n  ))", re.MULTILINE)


class ToolParser(argparse.ArgumentParser):
    """Shows usage, a description, options in groups, and examples.

    Options belong into a ``group``; those added to the parser itself stand under "options". Parsers
    of subcommands are of this class, too.

    Args:
        text: the description, and in a last paragraph the examples, a command to a line.
        forms: what follows the name in the usage, a line each; default: the arguments that must be
            given.
        settings: as of argparse's parser.
    """

    def __init__(self, text: str, forms: tuple[str, ...] = (), **settings: Any) -> None:
        # The name of the tool also under Python 3.14, which would show "python -m".
        settings.setdefault("prog", os.path.basename(sys.argv[0]))
        description, _, examples = text.rstrip().rpartition("\n\n")
        if not examples.startswith(COMMANDS):
            description, examples = text, ""
        self.examples, self.forms = examples.splitlines(), forms
        super().__init__(
            description=description,
            formatter_class=Screen,
            add_help=False,
            **settings,
        )
        self.color = False  # of Python 3.14's own, unlike those of earlier versions
        # Who reads its line has found it already.
        self.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)

    def group(self, title: str) -> argparse._ArgumentGroup:
        """The group of options of that title, a new one if there is none."""
        groups = {group.title: group for group in self._action_groups}
        return groups.get(title) or self.add_argument_group(title)

    def format_usage(self) -> str:
        forms = self.forms or (" ".join(map(_as_word, filter(_must_be_given, self._actions))),)
        lines = (" ".join(filter(None, (self.prog, form, "[options]"))) for form in forms)
        return "usage: " + "\n       ".join(lines) + "\n"

    def format_help(self) -> str:
        self.usage = argparse.SUPPRESS  # argparse's own, which names every option
        parts = [self.format_usage(), super().format_help()]
        if self.examples:
            parts.append("examples:\n" + "".join(f"  {line}\n" for line in self.examples))
        return "\n".join(parts)

    def print_help(self, file: TextIO | None = None) -> None:
        file = file or sys.stdout
        file.write(with_headings(self.format_help(), file))


class Screen(argparse.HelpFormatter):
    """As wide as the terminal, up to ``WIDEST``; several values are "NAME ..."."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns, WIDEST) - 2
        super().__init__(prog, max_help_position=HELP_COLUMN, width=width)

    def add_argument(self, action: argparse.Action) -> None:
        if isinstance(action, argparse._SubParsersAction):  # list them as options are listed
            self.add_arguments(action._get_subactions())
        else:
            super().add_argument(action)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs in ("+", "*"):
            return f"{_name(action)} ..."
        return super()._format_args(action, default_metavar)


def _must_be_given(action: argparse.Action) -> bool:
    return action.required or not action.option_strings


def _as_word(action: argparse.Action) -> str:
    """An argument in the usage: NAME, NAME ..., [NAME] or --option NAME."""
    name = f"{_name(action)} ..." if action.nargs in ("+", "*") else _name(action)
    if action.option_strings:
        return f"{action.option_strings[0]} {name}"
    return f"[{name}]" if action.nargs in ("?", "*") else name


def _name(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def coloured(stream: TextIO) -> bool:
    """Whether colours may be written: to a terminal that knows them, unless NO_COLOR is set."""
    known = os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
    return known and stream.isatty()


def with_headings(text: str, stream: TextIO) -> str:
    """A help with its headings bold and cyan, if the stream may have colours."""
    return HEADING.sub("\x1b[1;36m\\g<0>\x1b[0m", text) if coloured(stream) else text
