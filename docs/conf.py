"""Sphinx builds the pages beside this file, by ``make docs``; no network is needed.

That also runs the notebooks; by itself Sphinx shows them without outputs, in seconds.
"""

import sys
from pathlib import Path

import fcn_plugin

sys.path.append(str(Path(__file__).parent))  # for accessible

project = "fcn_plugin"
author = "The fcn_plugin authors"
project_copyright = "The fcn_plugin authors, Apache-2.0"
version = release = fcn_plugin.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "accessible"]
exclude_patterns = ["_build", "**.ipynb_checkpoints", "notebooks/data", "notebooks/work_dirs"]
myst_heading_anchors = 3

nb_execution_mode = "off"  # make docs sets "auto"
nb_execution_in_temp = True
nb_execution_timeout = 600  # seconds of one cell
nb_execution_raise_on_error = True

highlight_language = "none"  # of literal text in docstrings, which is seldom Python

html_theme = "furo"
html_title = f"fcn_plugin {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]

autodoc_member_order = "bysource"
maximum_signature_line_length = 88  # longer ones have a line for each argument
# In signatures, the text of a default instead of what it evaluates to.
autodoc_preserve_defaults = True
# Attributes of a docstring's section are members of the class already.
napoleon_use_ivar = True


def indented_is_literal(app, what, name, obj, options, lines: list[str]) -> None:
    """Keep tables and drawings in docstrings as they are typed.

    Our docstrings are plain text, in which an indented paragraph after a blank line means that; in
    reStructuredText it would be a quotation.
    """
    for i in range(len(lines) - 1, 1, -1):
        begins = lines[i].startswith("    ") and not lines[i - 1]
        before = lines[i - 2]
        if begins and before and not before.startswith((" ", ":", "..")) and before[-2:] != "::":
            lines[i:i] = ["::", ""]


def setup(app) -> None:
    app.connect("autodoc-process-docstring", indented_is_literal)
