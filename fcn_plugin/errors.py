"""``UserError``, the exception for what a user can correct, and helpers for its messages."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from unicodedata import category

# Not printable by Python's rule, but part of names in Persian, Hindi and others.
JOINERS = "\u200c\u200d"
PASSWORD = re.compile(r"(://)[^/?#\s]*@")  # USER:PASSWORD@ of an address
# Signed addresses have their key there. It ends where the address does, in a sentence or a config.
QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*?(?=[:;,.)]*(?:[\s'\"]|\Z))")


class UserError(ValueError):
    """A mistake in a config, a file or the installation.

    The message is one line: it names the file or setting and ends with the remedy. Control
    characters are escaped, since names and texts come from files, and addresses lose what may be
    secret in them. The tools print it without a traceback.
    """

    def __init__(self, message: str) -> None:
        # A data loader's worker passes its whole traceback as the message.
        if message.startswith("Caught ") and "\n" in message:
            message = re.split(r"\b(?:UserError|DamagedFile): ", message)[-1].splitlines()[0]
        super().__init__(printable(without_secrets(message.strip())))


class DamagedFile(UserError):
    """A file whose content cannot be read; training can be set to skip it."""


def printable(text: str, keep: str = "") -> str:
    r"""``text`` with control characters, line ends and marks of writing direction escaped.

    Args:
        keep: characters that are not escaped, e.g. the line ends of a table.

    >>> print(printable("a\x1b[31m\n"))
    a\x1b[31m\n
    """
    if text.isprintable():
        return text
    return "".join(
        letter if _shown(letter) or letter in keep else ascii(letter)[1:-1] for letter in text
    )


def without_secrets(text: str) -> str:
    """``text`` without passwords and queries in its addresses: who reads them may use them.

    >>> without_secrets("https://me:word@host/a.pth?X-Amz-Signature=1f: what arrived (http://b?c=d)")
    'https://host/a.pth: what arrived (http://b)'
    """
    return QUERY.sub(r"\1", PASSWORD.sub(r"\1", text))


def quoted(message: str | Exception, length: int = 100) -> str:
    """The first line of a text or an error, cut to ``length`` and escaped, for a message."""
    text = str(message).strip() or type(message).__name__
    return printable(text.splitlines()[0][:length])


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A hint for a misspelt word; ``otherwise`` if no known word is similar.

    >>> did_you_mean("Rode", ["road", "sky"], "choose another")
    "did you mean 'road'?"
    """
    spellings = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), spellings, n=1)
    return f"did you mean {spellings[close[0]]!r}?" if close else otherwise


def check_choice(owner: object, setting: str, value: object, choices: Sequence) -> None:
    """Raise ``UserError`` if ``value``, a setting of ``owner``, is not one of ``choices``."""
    if value not in choices:
        raise UserError(
            f"{type(owner).__name__}: {setting} {value!r}, must be one of {list(choices)}"
        )


def some(names: Sequence[str], most: int = 8, between: str = ", ") -> str:
    """The first ``most`` names, and how many more there are.

    >>> some(["a", "b", "c", "d"], most=2)
    'a, b and 2 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return between.join(names[:most]) + more


def width_by_height(shape: Sequence[int]) -> str:
    """The size of an image of shape (H, W, ...), width first.

    >>> width_by_height((480, 640))
    '640x480'
    """
    return f"{shape[1]}x{shape[0]}"


def _shown(letter: str) -> bool:
    return letter.isprintable() or letter in JOINERS or category(letter) == "Zs"
