"""docs/troubleshooting.md quotes fcn_plugin's messages as the source words them.

A heading of an entry that begins with a message in backticks quotes one of ours, and so does a line
that begins with "Also: "; before another package's message stands the name of the package. In a
quote, "...", numbers and the words of ``VARIES`` stand for what the code fills in, and "..." at the
end for the rest of the message.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import product

import pytest
from tools.running import REPOSITORY

PAGE = (REPOSITORY / "docs/troubleshooting.md").read_text()
OTHERS = ("mmengine", "mmseg", "pip", "Python", "torch", "torchvision")
GAP = "\0"  # what the code fills in
VARIES = re.compile(r"\.\.\.|\b(?:ADDRESS|FILE|FOLDER|NAME|SETTING|N)\b|\d+")
FIELD = re.compile(r"\{[^{}]*\}|%[sd]")  # of str.format, and of the log
LETTERS = 15  # at least as many must be fixed in a quote, or it would fit anything


def quotes() -> list[str]:
    """The messages of ours that the page quotes, in its order."""
    lines = [line for line in PAGE.splitlines() if line.startswith(("### `", "Also: `"))]
    return [quote for line in lines for quote in re.findall(r"`([^`]+)`", line)]


def normal(text: str) -> str:
    """A message with ``GAP`` for all that varies."""
    return re.sub(f"{GAP}+", GAP, VARIES.sub(GAP, text))


@cache
def messages() -> frozenset[str]:
    """All texts in the source but docstrings, normal."""
    files = [*(REPOSITORY / "fcn_plugin").rglob("*.py"), *(REPOSITORY / "tools").glob("*.py")]
    assert len(files) > 100
    return frozenset(normal(text) for file in files for text in texts(ast.parse(file.read_text())))


def texts(tree: ast.AST) -> Iterator[str]:
    nodes = list(ast.walk(tree))
    docstrings = [node.value for node in nodes if isinstance(node, ast.Expr)]
    parts = [part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values]
    apart = set(map(id, (*docstrings, *parts)))
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield from map("".join, product(*map(choices, node.values)))
        elif is_text(node) and id(node) not in apart:
            yield FIELD.sub(GAP, node.value)


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def choices(part: ast.expr) -> list[str]:
    """What a part of an f-string may be: {"a" if b else "c"} is one of two words."""
    value = part.value if isinstance(part, ast.FormattedValue) else part
    ends = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
    return [end.value for end in ends] if all(map(is_text, ends)) else [GAP]


def stands(quote: str) -> bool:
    """Whether the source has the message."""
    if quote.endswith("..."):
        return any(text.startswith(normal(quote[:-3])) for text in messages())
    return normal(quote) in messages()


def test_quotes_are_the_sources():
    found = quotes()
    assert len(found) >= 12 and len(found) == len(set(found))
    short = [quote for quote in found if len(re.findall("[A-Za-z]", normal(quote))) < LETTERS]
    assert short == []
    assert [quote for quote in found if not stands(quote)] == []


@pytest.mark.parametrize("quote", quotes())
def test_a_reworded_message_is_noticed(quote):
    """Each word of a quote but those that vary."""
    words = re.findall("[a-z]{3,}", normal(quote))
    assert words
    for word in words:
        assert not stands(quote.replace(word, f"{word}x"))


def test_gaps_and_choices():
    source = """a = f"{a}: the {'x' if b else 'y'} of {c}{d} is {e:.1f}" "%"; b = "b {} c %s" """
    found = [normal(text) for text in texts(ast.parse(source))]
    assert normal("FILE: the x of ... is 0%") in found and normal("FILE: the y of N is N%") in found
    assert normal("b 3 c NAME") in found
    assert normal("FILE: the z of ... is 0%") not in found


def test_the_other_headings_name_a_package_or_a_symptom():
    headings = re.findall("^### (.+)$", PAGE, re.MULTILINE)
    assert len(headings) > 20
    for heading in headings:
        if "`" in heading and not heading.startswith("`"):
            assert heading.partition(": `")[0] in OTHERS, heading
    assert all(line.count("`") % 2 == 0 for line in PAGE.splitlines() if line.startswith("Also: "))
