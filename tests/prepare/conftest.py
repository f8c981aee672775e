"""The archives of all data sets, packed once, and the tree that three of them make."""

import shutil
from pathlib import Path

import pytest
from prepare.archives_of_sets import SETS, write_archives

from fcn_plugin.prepare.job import Preparation
from fcn_plugin.prepare.own import budget, configs
from fcn_plugin.prepare.published import only_one_preparation, prepare
from fcn_plugin.system.progress import silent


@pytest.fixture(autouse=True)
def _one_machine(monkeypatch):
    """Configs are written for a machine with a large GPU and a network, whatever this one has."""
    machine = budget.Machine(gpu=True, memory=24 * 10**9, cores=2)
    monkeypatch.setattr(budget.Machine, "here", lambda: machine)
    monkeypatch.setattr(configs, "why_unreachable", lambda url, patience: "")


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """By data set."""
    return write_archives(tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="session")
def make(archives):
    def make(root, name, files=None, subset=True, progress=silent) -> list[str]:
        """Prepare a data set of its archives, or of others; the last lines, then the notes."""
        notes: list[str] = []
        files = archives[name] if files is None else files
        with only_one_preparation(root):
            job = Preparation(root, name, subset, notes.append, progress)
            return [*prepare(job, files), *notes]

    return make


@pytest.fixture(scope="session")
def whole(make, tmp_path_factory):
    """The tree that VOC 2011, VOC 2012 and SBD make."""
    root = tmp_path_factory.mktemp("whole") / "data"
    for name in SETS:
        make(root, name)
    return root


@pytest.fixture
def root(whole, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "data")
