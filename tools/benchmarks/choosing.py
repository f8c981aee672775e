"""All figures, and those that names or groups choose."""

import pkgutil
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

import benchmarks
from benchmarks.framework import Figure
from fcn_plugin.errors import UserError

GROUPS = ("network", "loss", "labels", "evaluation", "pipeline", "tools", "shared")


def all_figures() -> list[Figure]:
    """Of all modules beside this one, by group."""
    modules = [
        import_module(f"{benchmarks.__name__}.{module.name}")
        for module in pkgutil.iter_modules(benchmarks.__path__)
    ]
    figures = [figure for module in modules for figure in getattr(module, "FIGURES", ())]
    return sorted(figures, key=lambda figure: GROUPS.index(figure.group))


def choose(figures: Sequence[Figure], names: Sequence[str]) -> list[Figure]:
    """Those that have one of ``names`` as their name or group; all without names."""
    known = {figure.name for figure in figures} | {figure.group for figure in figures}
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else "--list shows all"
            raise UserError(f"{name!r}: no such figure or group; {hint}")
    return [f for f in figures if not names or f.name in names or f.group in names]
