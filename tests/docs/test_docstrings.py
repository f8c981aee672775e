"""The examples in the package's docstrings."""

import doctest
import importlib
import pkgutil

import pytest

import fcn_plugin

MODULES = [
    module.name for module in pkgutil.walk_packages(fcn_plugin.__path__, f"{fcn_plugin.__name__}.")
]
# Where examples are; others may get some, none of these may lose all.
WITH_EXAMPLES = {
    "fcn_plugin.data.catalogue",
    "fcn_plugin.data.labels",
    "fcn_plugin.data.lists",
    "fcn_plugin.data.numbering",
    "fcn_plugin.evaluation.folders",
    "fcn_plugin.evaluation.scores",
    "fcn_plugin.evaluation.tables",
    "fcn_plugin.system.files",
    "fcn_plugin.geometry",
    "fcn_plugin.models.coarse",
    "fcn_plugin.weights.networks",
}


def test_do_as_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {}
    for name in MODULES:
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0, name
        found[name] = result.attempted
    assert {name for name, number in found.items() if number} >= WITH_EXAMPLES


def test_one_that_is_wrong_is_found(tmp_path, monkeypatch):
    (tmp_path / "wrong.py").write_text('"""\n>>> 6 * 7\n41\n"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(doctest.DocTestFailure):
        doctest.testmod(importlib.import_module("wrong"), raise_on_error=True)
