"""The curves of benchmarks/growth.py, from the lists ``CURVES`` of this package's modules."""

from collections.abc import Sequence
from importlib import import_module

from fcn_plugin.errors import UserError, did_you_mean  # makes mmseg importable
from figures.growth.curve import Curve

MODULES = ("networks", "counting", "data", "starting")


def choose(names: Sequence[str]) -> list[Curve]:
    """The curves whose name or group is in ``names``, or all without names."""
    curves = [curve for name in MODULES for curve in import_module(f"{__name__}.{name}").CURVES]
    choices = {name for curve in curves for name in (curve.name, curve.group)}
    for name in set(names) - choices:
        hint = did_you_mean(name, choices, "--list shows all")
        raise UserError(f"{name!r}: no such curve or group; {hint}")
    return [c for c in curves if not names or c.name in names or c.group in names]
