"""The examples in the package's docstrings."""

import doctest
import importlib
import pkgutil

import pytest

import fcn_plugin

MODULES = [
    module.name for module in pkgutil.walk_packages(fcn_plugin.__path__, f"{fcn_plugin.__name__}.")
]
LEAST = 12  # modules with examples


def test_do_as_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_examples = 0
    for name in MODULES:
        failed, attempted = doctest.testmod(importlib.import_module(name))
        assert failed == 0, name
        with_examples += attempted > 0
    assert with_examples >= LEAST


def test_one_that_is_wrong_is_found(tmp_path, monkeypatch):
    (tmp_path / "wrong.py").write_text('"""\n>>> 6 * 7\n41\n"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(doctest.DocTestFailure):
        doctest.testmod(importlib.import_module("wrong"), raise_on_error=True)
