"""Text that comes from files, fit for a terminal: it shows what is there and obeys none of it."""

from unicodedata import category

# Not printable by Python's rule, but part of names in Persian, Hindi and others.
JOINERS = "\u200c\u200d"


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


def _shown(letter: str) -> bool:
    return letter.isprintable() or letter in JOINERS or category(letter) == "Zs"
