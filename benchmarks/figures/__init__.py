"""The figures of benchmarks/speed.py: a module that measures some has a list ``FIGURES``."""

import pkgutil
from collections.abc import Sequence
from importlib import import_module

from fcn_plugin.errors import UserError, did_you_mean  # mmseg can be imported from here on
from figures.framework import Figure

GROUPS = ("network", "loss", "labels", "evaluation", "pipeline", "tools", "shared")


def all_figures() -> list[Figure]:
    """The figures of all modules of this folder, by group."""
    modules = [
        import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    ]
    figures = [figure for module in modules for figure in getattr(module, "FIGURES", ())]
    return sorted(figures, key=lambda figure: GROUPS.index(figure.group))


def choose(figures: Sequence[Figure], names: Sequence[str]) -> list[Figure]:
    """The figures that have one of ``names`` as their name or group; all without names."""
    known = {figure.name for figure in figures} | {figure.group for figure in figures}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, "--list shows all")
            raise UserError(f"{name!r}: no such figure or group; {hint}")
    return [f for f in figures if not names or f.name in names or f.group in names]
