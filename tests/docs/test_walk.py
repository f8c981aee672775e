"""The harness itself: what it must refuse, it refuses."""

import textwrap
from pathlib import Path

import pytest
from docs.walk import Walk, blocks, commands, shows


def walk(folder: Path, text: str) -> Walk:
    page = folder / "page.md"
    page.write_text(textwrap.dedent(text))
    return Walk(page, folder)


GOOD = """
    # A page

    ```shell
    echo "six  times" seven  # a comment
    printf '%s ' a \\
        b
    python -c "print(6 * 7)" > answer.txt && cat answer.txt
    ```

    ```text
    six times seven
    ...42
    ```

    ```python
    answer = int(open("answer.txt").read())
    ```

    ```python
    # part/of/it.py
    VALUE = 1
    ```

    ```python
    print(answer - 1, open("part/of/it.py").readlines()[1])
    ```

    ```text
    41 VALUE = 1
    ```
    """


def test_all_blocks_are_run_in_order_in_the_folder(tmp_path):
    before = Path.cwd()
    counts = walk(tmp_path, GOOD).follow()
    assert counts == dict(run=5, written=1, compared=2)
    assert Path.cwd() == before


# what is wrong -> (the page, what is said of it)
BAD = {
    "a command that fails": ("```shell\nfalse\n```", "page.md:1: false"),
    "a command in a pipe that fails": ("```shell\nfalse | cat\n```", "page.md:1: false | cat"),
    "another output": ("```shell\necho 41\n```\n```text\n42\n```", "page.md:4: expected"),
    "more output": ("```shell\necho 4; echo 2\n```\n```text\n4\n```", "page.md:4: expected"),
    "output of nothing": ("```text\n42\n```", "page.md:1: expected"),
    "an unknown language": ("```bash\nls\n```", "page.md:1: ```bash"),
    "no language": ("```\nls\n```", "page.md:1: ```"),
    "an indented fence": ("1. so\n\n   ```shell\n   false\n   ```", "page.md:3: an indented"),
    "a fence that is not closed": ("```shell\ntrue\n", "page.md: the last block"),
    "a fence closed by another": ("```shell\ntrue\n```shell\ntrue\n```", "page.md:3: the block"),
    "the host first": ("```python\nfrom mmseg.apis import a\n```", "page.md:1: imports mmseg"),
}


@pytest.mark.parametrize("case", BAD)
def test_is_refused(case, tmp_path):
    text, expected = BAD[case]
    with pytest.raises(AssertionError) as fault:
        walk(tmp_path, text).follow()
    assert str(fault.value).startswith(expected)


def test_python_that_fails_names_its_line(tmp_path):
    with pytest.raises(ZeroDivisionError) as fault:
        walk(tmp_path, "text\n\n```python\na = 0\n1 / a\n```").follow()
    assert fault.traceback[-1].lineno + 1 == 5


def test_commands_are_joined_and_lose_comments():
    assert commands("# first\na --x \\\n    b  # why\n\nc #f\n") == ["a --x b", "c #f"]


def test_only_numbers_may_differ_where_something_was_run_in_small():
    shown, printed = "| sky | 91.96 |\n+-----+-------+", "| sky |  7 |\n+-----+----+"
    assert shows(shown, printed, exact=False) and not shows(shown, printed, exact=True)
    assert not shows(shown, printed.replace("sky", "car"), exact=False)


# what a page shows -> what is found, and whether that is the same
SHOWN = {
    "a line": ("a b", " a   b\n", True),
    "a part of a line": ("a ... d", "a b c d", True),
    "any lines": ("a\n...\nd", "a\nb\nc\nd", True),
    "no lines": ("...\na\n...", "a", True),
    "the end of the last line": ("... d", "a\nb\nc d", True),
    "lines, not a part of one": ("...\nd", "a d", False),
    "less": ("a", "a\nb", False),
    "more": ("a\nb", "a", False),
    "another case": ("A", "a", False),
    "what looks like a pattern": ("a.c (x)*", "abc x", False),
}


@pytest.mark.parametrize("case", SHOWN)
def test_shows(case):
    expected, found, same = SHOWN[case]
    assert shows(expected, found) is same


def test_the_lines_of_blocks(tmp_path):
    (tmp_path / "a.md").write_text("x\n```shell\nls\n```\n\n```python\n```\n")
    assert [(b.line, b.language, b.text) for b in blocks(tmp_path / "a.md")] == [
        (2, "shell", "ls\n"),
        (6, "python", ""),
    ]
