"""The figures of benchmarks/speed.py, from the lists ``FIGURES`` of this package's modules."""

import pkgutil
from collections.abc import Sequence
from importlib import import_module

from fcn_plugin.errors import UserError, did_you_mean  # makes mmseg importable
from figures.framework import Figure

GROUPS = (
    "network",
    "convolution",
    "loss",
    "labels",
    "evaluation",
    "measures",
    "pipeline",
    "tools",
    "shared",
    "pages",
)


def choose(names: Sequence[str]) -> list[Figure]:
    """The figures whose name or group is in ``names``, or all without names; sorted by group."""
    modules = [
        import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    ]
    figures = [figure for module in modules for figure in getattr(module, "FIGURES", ())]
    figures.sort(key=lambda figure: GROUPS.index(figure.group))
    choices = {name for figure in figures for name in (figure.name, figure.group)}
    for name in set(names) - choices:
        hint = did_you_mean(name, choices, "--list shows all")
        raise UserError(f"{name!r}: no such figure or group; {hint}")
    return [f for f in figures if not names or f.name in names or f.group in names]
