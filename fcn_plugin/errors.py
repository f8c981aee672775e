"""The one exception for what a user can put right, and the words of its messages."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from unicodedata import category

# Not printable by Python's rule, but part of names in Persian, Hindi and others.
JOINERS = "\u200c\u200d"


class UserError(ValueError):
    """A mistake in a config, a file or the installation.

    The message is one line: it names the file or setting and ends with the remedy. What a terminal
    would obey is escaped in it, for names and texts come from files.
    The tools print it without a traceback; from Python it is a ``ValueError``.
    """

    def __init__(self, message: str) -> None:
        # A data loader's worker hands its whole traceback over as the message.
        if message.startswith("Caught ") and "\n" in message:
            message = re.split(r"\b(?:UserError|DamagedFile): ", message)[-1].splitlines()[0]
        super().__init__(printable(message.strip()))


class DamagedFile(UserError):
    """A file whose content cannot be read; training can be told to go on without it."""


def printable(text: str, keep: str = "") -> str:
    r"""``text`` with escapes for control characters, line ends and directions of writing.

    Args:
        keep: characters that stay, as the line ends of a table.

    >>> print(printable("a\x1b[31m\n"))
    a\x1b[31m\n
    """
    if text.isprintable():
        return text
    return "".join(
        letter if _shown(letter) or letter in keep else ascii(letter)[1:-1] for letter in text
    )


def quoted(said: str | Exception, length: int = 100) -> str:
    """The first line of what a file or an error says, fit for a message."""
    text = str(said).strip() or type(said).__name__
    return printable(text.splitlines()[0][:length])


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """What to do about a misspelt word; ``otherwise`` where no known one is like it.

    >>> did_you_mean("Rode", ["road", "sky"], "choose another")
    "did you mean 'road'?"
    """
    spellings = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), spellings, n=1)
    return f"did you mean {spellings[close[0]]!r}?" if close else otherwise


def check_choice(owner: object, setting: str, value: object, choices: Sequence) -> None:
    """Raise ``UserError`` if a setting of an object's constructor is not one of ``choices``."""
    if value not in choices:
        raise UserError(
            f"{type(owner).__name__}: {setting} {value!r}, must be one of {list(choices)}"
        )


def some(names: Sequence[str], most: int = 8, between: str = ", ") -> str:
    """The first few names.

    >>> some(["a", "b", "c", "d"], most=2)
    'a, b and 2 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return between.join(names[:most]) + more


def width_by_height(shape: Sequence[int]) -> str:
    """The size of an array of H rows and W columns.

    >>> width_by_height((480, 640))
    '640x480'
    """
    return f"{shape[1]}x{shape[0]}"


def _shown(letter: str) -> bool:
    return letter.isprintable() or letter in JOINERS or category(letter) == "Zs"
