"""The examples in the package's docstrings."""

import doctest
import importlib
import pkgutil

import fcn_plugin


def test_do_as_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_examples = 0
    for module in pkgutil.walk_packages(fcn_plugin.__path__, "fcn_plugin."):
        failed, attempted = doctest.testmod(importlib.import_module(module.name))
        assert failed == 0, module.name
        with_examples += attempted > 0
    assert with_examples >= 12
