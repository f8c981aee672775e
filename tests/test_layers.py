"""The layers of the package, lowest first: a module imports only from its own layer and lower ones.

Within a layer no two modules import each other, by whatever detour.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "fcn_plugin"
# Each line is a layer: files at the top of the package, or a folder with all below it.
LAYERS = (
    ("version", "errors", "geometry"),
    ("system", "registry"),
    ("data",),
    ("weights",),
    ("compat",),
    ("models",),
    ("conversion",),
    ("evaluation",),
    ("engine",),
    ("checks",),
    ("prediction",),
    ("report",),
    ("export",),
    ("prepare",),
    ("__main__",),
)
# The package itself imports what registers something.
REGISTRATION = "fcn_plugin"


def module_name(path: Path) -> str:
    names = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
LEVEL = {f"fcn_plugin.{name}": level for level, layer in enumerate(LAYERS) for name in layer}


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            module = name if name in MODULES else name.rpartition(".")[0]
            if module in MODULES:
                found.add(module)
    return found - {REGISTRATION}


GRAPH = {name: imports(path) for name, path in MODULES.items() if name != REGISTRATION}


def level(module: str) -> int:
    return LEVEL[".".join(module.split(".")[:2])]


def upward(graph: dict[str, set[str]]) -> list[str]:
    return [
        f"{module} imports {used}"
        for module, uses in graph.items()
        for used in sorted(uses)
        if level(used) > level(module)
    ]


def test_every_module_has_a_layer() -> None:
    assert len(GRAPH) > 100
    assert {".".join(module.split(".")[:2]) for module in GRAPH} == set(LEVEL)


def test_no_import_goes_upwards() -> None:
    assert upward(GRAPH) == []
    assert upward({"fcn_plugin.data.x": {"fcn_plugin.models.y"}}) != []


def test_no_circle() -> None:
    TopologicalSorter(GRAPH).prepare()
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
