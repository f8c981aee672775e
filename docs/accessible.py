"""What Sphinx's and furo's pages lack for screen readers and keyboards, as axe names it.

Each is mended in the written page, since neither has a setting or a template for it.
"""

import re
from pathlib import Path

MENDED = {
    # aria-required-attr: captions in the list of pages
    r'role="heading">': 'role="heading" aria-level="2">',
    # landmark-unique: the list of pages, and the headings of one
    r'<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Pages">',
    r'<aside class="(toc-drawer[^"]*)">': r'<aside class="\1" aria-label="On this page">',
    # scrollable-region-focusable: the arrow keys scroll what has the focus
    r"<pre>": '<pre tabindex="0">',
    r'<div class="(table-wrapper[^"]*)">': r'<div class="\1" tabindex="0">',
    # empty-table-header: the corner of a table
    r'<th class="head">(<p></p>)?</th>': "<td></td>",
    # definition-list: arguments in a signature, one a line, are not definitions
    r'<dl>\n((?:<dd><em class="sig-param">.*</dd>\n)+)</dl>': r"<span>\n\1</span>",
    r'<dd>(<em class="sig-param">.*)</dd>': r'<span class="argument">\1</span>',
    # page-has-heading-one: the page of search results
    r'\n<div id="search-results">': '\n<h1>Search</h1><div id="search-results">',
}


def mend(page: str) -> str:
    for pattern, replacement in MENDED.items():
        page = re.sub(pattern, replacement, page)
    return page


def mend_all(app, exception: Exception | None) -> None:
    """Mend what was written; a page that was mended before stays as it is."""
    if exception is None and app.builder.name == "html":
        for file in Path(app.outdir).rglob("*.html"):
            if "_static" not in file.parts:
                file.write_text(mend(file.read_text()))


def setup(app) -> dict[str, bool]:
    app.connect("build-finished", mend_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
