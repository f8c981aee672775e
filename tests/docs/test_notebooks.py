"""The notebooks: clean as they are kept, right in what they name, and running in an empty folder.

The quick tests and Sphinx by itself run none; ``make docs`` does, too.
"""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="the extra docs asks for Python 3.11")

import nbformat
from docs.walk import commands
from IPython.core.inputtransformer2 import TransformerManager
from mmengine.config import Config
from nbclient import NotebookClient
from tools.running import ENVIRONMENT, REPOSITORY, as_module

from fcn_plugin.system.configs import config_file, dotted_settings
from fcn_plugin_command import TOOLS

FOLDER = REPOSITORY / "docs/notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
SHELL = "%%bash\n"
PATIENCE = 600  # seconds of one cell

assert NOTEBOOKS
pytestmark = pytest.mark.parametrize("name", NOTEBOOKS)


def code(name: str) -> list[str]:
    """The code cells of a notebook."""
    cells = nbformat.read(FOLDER / name, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def test_is_kept_without_outputs(name):
    """So that a change of it shows what was changed; ids are words for the same reason."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len({*ids}) > 5
    for cell in notebook.cells:
        assert re.fullmatch(r"[a-z][a-z-]+", cell.id) and cell.metadata == {}
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), cell.id


def test_python_compiles(name):
    python = [text for text in code(name) if not text.startswith(SHELL)]
    assert len(python) > 2
    for text in python:
        compile(TransformerManager().transform_cell(text), name, "exec")


def test_names_tools_options_configs_and_settings_that_exist(name, monkeypatch):
    shell = [text.removeprefix(SHELL) for text in code(name) if text.startswith(SHELL)]
    given = [command.partition("|")[0] for text in shell for command in commands(text)]
    assert len(given) > 2
    for command in given:
        python, file, *words = shlex.split(command)
        tool = Path(file)
        assert python == "python" and tool.name in TOOLS, command
        with as_module(tool.stem) as module:
            monkeypatch.setattr(sys, "argv", [tool.name, *words])
            args = module.parse_args()  # exits where an option is unknown
        if "config" in args:
            cfg = Config.fromfile(config_file(args.config))
            there = {setting for key in cfg for setting, _ in dotted_settings(cfg[key], key)}
            changed = {option.partition("=")[0] for option in args.cfg_options or ()}
            assert changed - there == set(), command


@pytest.mark.slow
def test_runs_in_an_empty_folder(name, tmp_path, monkeypatch):
    """With fcn_plugin there, so that nothing is installed."""
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    shutil.copy(FOLDER / name, tmp_path)
    notebook = nbformat.read(tmp_path / name, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=PATIENCE, resources=resources).execute()
    outputs = {c.id: c.outputs for c in notebook.cells if c.cell_type == "code"}
    assert outputs["install"] == []
    pictures = [o for each in outputs.values() for o in each if "image/png" in o.get("data", {})]
    assert len(pictures) >= 3
