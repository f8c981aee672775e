"""The pages as Sphinx builds them: whole, without a warning, and without the network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the extra docs asks for Python 3.11")

from mmengine import registry as roots
from sphinx.util.inventory import InventoryFile
from tools.running import REPOSITORY

DOCS = REPOSITORY / "docs"
FILES = (*DOCS.rglob("*.md"), *(DOCS / "notebooks").glob("*.ipynb"))
PAGES = sorted(path.relative_to(DOCS) for path in FILES if "_build" not in path.parts)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """By a process of its own, since Sphinx alters signatures and logging."""
    target = tmp_path_factory.mktemp("html")
    options = ["-q", "-W", "--keep-going", "-E", "-b", "html"]
    subprocess.run([sys.executable, "-m", "sphinx", *options, DOCS, target], check=True)
    return target


def test_every_page_can_be_reached_and_nothing_is_fetched(built):
    """Links may lead elsewhere; what a browser loads by itself lies beside the page."""
    assert len(PAGES) > 10
    index = "".join((built / path).read_text() for path in ("index.html", "api/index.html"))
    for page in PAGES:
        assert (built / page.with_suffix(".html")).is_file()
        assert page.name == "index.md" or page.with_suffix(".html").name in index
    loaded = re.compile(r'(?:src="|<link[^>]*rel="stylesheet"[^>]*href=")(\w+:)?//')
    assert [file for file in built.rglob("*.html") if loaded.search(file.read_text())] == []
    assert loaded.search('<script src="https://cdn.example.org/x.js">')


def test_screen_readers_and_keyboards_find_what_they_need(built):
    """What axe asks for, on each page, and that none of it is asked in vain."""
    found = dict.fromkeys(("headings", "asides", "blocks", "tables", "signatures"), 0)
    for file in built.rglob("*.html"):
        page = file.read_text()
        headings = re.findall(r'<[^>]* role="heading"[^>]*>', page)
        asides = re.findall(r"<aside[^>]*>", page)
        blocks = re.findall(r'<pre[^>]*>|<div class="table-wrapper[^>]*>', page)
        assert all("aria-level" in heading for heading in headings), file
        assert all("aria-label" in aside for aside in asides), file
        assert len(set(asides)) == len(asides), file
        assert all('tabindex="0"' in block for block in blocks), file
        assert re.findall(r"<th[^>]*>(?:<p></p>)?</th>", page) == [], file
        assert re.findall(r"<dl[^>]*>\s*<dd", page) == [], file
        assert "<h1" in page, file
        arguments = re.findall('<span class="argument">', page)
        counts = (headings, asides, blocks, re.findall("<th ", page), arguments)
        for name, things in zip(found, counts, strict=True):
            found[name] += len(things)
    assert min(found.values()) > 10, found


def test_every_registered_class_is_in_the_reference(built):
    inventory = InventoryFile.loads((built / "objects.inv").read_bytes(), uri="")
    documented = {name.rpartition(".")[2] for name in inventory.data["py:class"]}
    registered = {
        kind.__name__
        for root in vars(roots).values()
        if isinstance(root, roots.Registry)
        for part in (root, *root.children.values())
        for kind in part.module_dict.values()
        if kind.__module__.startswith("fcn_plugin.")
    }
    assert {"SkipFusionHead", "ConfusionMatrixMetric", "SnapshotHook"} <= registered
    assert registered <= documented
