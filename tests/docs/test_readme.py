"""README: short, its first screen, and its pictures."""

import re

from tools.running import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
LINES = 160
FIRST_SCREEN = 30  # lines, by which a reader has seen what to type
PICTURE = 150_000  # bytes


def test_is_short_and_begins_with_what_to_type():
    lines = README.splitlines()
    assert len(lines) <= LINES
    typed = [line.partition("#")[0].strip() for line in lines[:FIRST_SCREEN]]
    checked = (REPOSITORY / ".ci/run").read_text()
    assert "make demo" in typed and "make test" in typed and "make test " in checked


def test_what_it_links_to_is_there():
    """Files of the repository; the pages' own links are Sphinx's to check."""
    links = re.findall(r"(!?)\[[^]]+\]\((?!https?:)([^)#]+)[^)]*\)", README)
    assert len(links) > 20
    for picture, path in links:
        assert (REPOSITORY / path).is_file(), path
        assert not picture or (REPOSITORY / path).stat().st_size < PICTURE, path
