"""The figures of benchmarks/speed.py: a module that measures some has a list ``FIGURES``."""

import pkgutil
from collections.abc import Sequence
from importlib import import_module

from fcn_plugin.errors import UserError, did_you_mean  # mmseg can be imported from here on
from figures.framework import Figure

GROUPS = ("network", "loss", "labels", "evaluation", "pipeline", "tools", "shared")


def choose(names: Sequence[str]) -> list[Figure]:
    """The figures, by group, that have one of ``names`` as their name or group; all without."""
    modules = [
        import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    ]
    figures = [figure for module in modules for figure in getattr(module, "FIGURES", ())]
    figures.sort(key=lambda figure: GROUPS.index(figure.group))
    known = {name for figure in figures for name in (figure.name, figure.group)}
    for name in set(names) - known:
        hint = did_you_mean(name, known, "--list shows all")
        raise UserError(f"{name!r}: no such figure or group; {hint}")
    return [f for f in figures if not names or f.name in names or f.group in names]
