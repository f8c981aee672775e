"""What makes a release: version, tag and CHANGELOG agree; SECURITY.md and CITATION.cff are true."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

import fcn_plugin

REPO = Path(__file__).parents[1]
NOT_IN_SDIST = pytest.mark.skipif(not (REPO / "release.py").exists(), reason="not a checkout")


def fault(*arguments) -> str | None:
    return runpy.run_path(str(REPO / "release.py"))["fault"](*arguments)


@NOT_IN_SDIST
def test_version_and_changelog_agree():
    version = fcn_plugin.__version__
    tags = [] if ".dev" in version else [f"v{version}"]
    assert fault(version, tags, (REPO / "CHANGELOG.md").read_text(), "") is None


@NOT_IN_SDIST
@pytest.mark.parametrize(
    ("version", "tags", "heading", "changes", "words"),
    [
        ("1.2.0", ["v1.2.0"], "1.2.0 (2031-01-31)", "", None),
        ("1.2.0rc1", ["v1.2.0rc1"], "1.2.0rc1 (2031-01-31)", "", None),
        ("1.2.0.dev0", [], "1.2.0 (unreleased)", "", None),
        ("1.2.0", ["v1.2.0"], "1.2.0 (2031-01-31)", "?? a.py", "not committed"),
        ("1.2.0", [], "1.2.0 (2031-01-31)", "", "needs the tag"),
        ("1.2.0", ["v1.2.1"], "1.2.0 (2031-01-31)", "", "needs the tag"),
        ("1.2.0.dev0", ["v1.2.0"], "1.2.0 (unreleased)", "", "needs the tag"),
        ("1.2.0", ["v1.2.0"], "1.2.0 (unreleased)", "", "needs a date"),
        ("1.2.0", ["v1.2.0"], "1.1.0 (2031-01-31)", "", "needs a date"),
        ("1.2.0.dev0", [], "1.2.0 (2031-01-31)", "", "needs a date"),
        ("1.2.0.dev0", [], "1.1.0 (unreleased)", "", "needs a date"),
    ],
)
def test_nothing_is_built_that_is_not_what_it_says(version, tags, heading, changes, words):
    changelog = f"# Changelog\n\n## {heading}\n\n- New.\n\n## 1.2.0 (2031-01-31)\n"
    reason = fault(version, tags, changelog, changes)
    assert reason is None if words is None else words in reason


def test_each_promise_about_security_has_tests():
    promises = (REPO / "SECURITY.md").read_text().partition("## What is not")[0].split("\n- ")[1:]
    assert len(promises) == 5
    for promise in promises:
        (comment,) = re.findall(r"<!--(.*?)-->", promise, re.DOTALL)
        assert comment.split() and all((REPO / name).is_file() for name in comment.split())


def test_citation_is_the_readmes():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert f"license_expression = {citation['license']}\n" in (REPO / "setup.cfg").read_text()
    readme = (REPO / "README.md").read_text().partition("## Citation")[2]
    for paper in (citation["preferred-citation"], *citation["references"]):
        assert paper["title"] in " ".join(readme.split())
        assert paper["url"].rpartition("/")[2] in readme and str(paper["year"]) in readme
