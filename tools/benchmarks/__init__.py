"""The figures of tools/benchmark.py: a module that measures some has a list FIGURES."""

import fcn_plugin  # noqa: F401  # makes the host importable, whichever module comes first
