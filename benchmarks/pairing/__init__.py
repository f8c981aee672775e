"""Pairs of backbone and head, one of them mmseg's, for benchmarks/pairs.py."""

import fcn_plugin  # noqa: F401  # makes mmseg importable
