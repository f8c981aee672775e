"""The figures of tools/benchmark.py: each module but framework and machine has a list FIGURES."""

import fcn_plugin  # noqa: F401  # makes the host importable, whichever module comes first
