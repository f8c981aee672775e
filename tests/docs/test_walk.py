"""The harness itself: what it must refuse, it refuses."""

import pytest
from docs.walk import Walk, commands, shows

# a page -> what is said of it
BAD = {
    "```shell\nfalse | cat\n```": "page.md:1: false | cat",
    "```shell\necho 41\n```\n```text\n42\n```": "page.md:4: expected",
    "```bash\nls\n```": "page.md:1: ```bash",
    "1. so\n\n   ```shell\n   false\n   ```": "page.md:3: an indented",
    "```shell\ntrue\n```shell\ntrue\n```": "page.md:3: the block",
    "```python\nfrom mmseg.apis import a\n```": "page.md:1: imports mmseg",
}


@pytest.mark.parametrize("page", BAD)
def test_is_refused(page, tmp_path):
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(AssertionError) as fault:
        Walk(tmp_path / "page.md", tmp_path).follow()
    assert str(fault.value).startswith(BAD[page])


def test_commands_and_what_they_show():
    assert commands("# first\na --x \\\n    b  # why\n\nc #f\n") == ["a --x b", "c #f"]
    assert commands("A=1 fcn-plugin dist_test B\n") == ["A=1 tools/dist_test.sh B"]
    assert commands("python -m fcn_plugin train A\n") == ["python tools/train.py A"]
    assert commands("fcn-plugin --help\n") == ["fcn-plugin --help"]
    for expected, found in {
        "a b": " a   b\n",
        "a ... d": "a b d",
        "a\n...\nd": "a\nb\nc\nd",
    }.items():
        assert shows(expected, found)
    for expected, found in {"...\nd": "a d", "a": "a\nb", "A": "a", "a.c (x)*": "abc x"}.items():
        assert not shows(expected, found)
    # Only numbers may differ where something was run in small.
    shown, printed = "| sky | 91.96 |\n+-----+-------+", "| sky |  7 |\n+-----+----+"
    assert shows(shown, printed, exact=False) and not shows(shown, printed)
    assert not shows(shown, printed.replace("sky", "car"), exact=False)
