"""The harness itself: what it must refuse, it refuses."""

import textwrap
from pathlib import Path

import pytest
from docs.walk import Walk, commands, shows


def walk(folder: Path, text: str) -> Walk:
    page = folder / "page.md"
    page.write_text(textwrap.dedent(text))
    return Walk(page, folder)


GOOD = """
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
    page = walk(tmp_path, GOOD)
    page.follow()
    assert page.names["answer"] == 42 and (tmp_path / "part/of/it.py").is_file()
    assert Path.cwd() == before


# a page -> what is said of it
BAD = {
    "```shell\nfalse\n```": "page.md:1: false",
    "```shell\nfalse | cat\n```": "page.md:1: false | cat",
    "```shell\necho 41\n```\n```text\n42\n```": "page.md:4: expected",
    "```text\n42\n```": "page.md:1: expected",
    "```bash\nls\n```": "page.md:1: ```bash",
    "```\nls\n```": "page.md:1: ```",
    "1. so\n\n   ```shell\n   false\n   ```": "page.md:3: an indented",
    "```shell\ntrue\n": "page.md: the last block",
    "```shell\ntrue\n```shell\ntrue\n```": "page.md:3: the block",
    "```python\nfrom mmseg.apis import a\n```": "page.md:1: imports mmseg",
}


@pytest.mark.parametrize("page", BAD)
def test_is_refused(page, tmp_path):
    with pytest.raises(AssertionError) as fault:
        walk(tmp_path, page).follow()
    assert str(fault.value).startswith(BAD[page])


def test_python_that_fails_names_its_line(tmp_path):
    with pytest.raises(ZeroDivisionError) as fault:
        walk(tmp_path, "text\n\n```python\na = 0\n1 / a\n```").follow()
    assert fault.traceback[-1].lineno + 1 == 5


def test_commands_are_joined_and_lose_comments():
    assert commands("# first\na --x \\\n    b  # why\n\nc #f\n") == ["a --x b", "c #f"]


def test_shows():
    same = {"a b": " a   b\n", "a ... d": "a b c d", "a\n...\nd": "a\nb\nc\nd", "...\na\n...": "a"}
    for expected, found in {**same, "... d": "a\nb\nc d"}.items():
        assert shows(expected, found)
    other = {"...\nd": "a d", "a": "a\nb", "a\nb": "a", "A": "a", "a.c (x)*": "abc x"}
    for expected, found in other.items():
        assert not shows(expected, found)
    # Only numbers may differ where something was run in small.
    shown, printed = "| sky | 91.96 |\n+-----+-------+", "| sky |  7 |\n+-----+----+"
    assert shows(shown, printed, exact=False) and not shows(shown, printed)
    assert not shows(shown, printed.replace("sky", "car"), exact=False)
