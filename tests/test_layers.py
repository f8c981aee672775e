"""The layers of the package, lowest first: a module imports only from its own layer and lower ones.

Within a layer no two modules import each other, by whatever detour.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

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
    ("publish",),
    ("export",),
    ("prepare",),
    ("__main__",),
)


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
        found |= {name if name in MODULES else name.rpartition(".")[0] for name in names}
    return found & MODULES.keys() - {"fcn_plugin"}


# The package itself imports what registers something.
GRAPH = {name: imports(path) for name, path in MODULES.items() if name != "fcn_plugin"}


def level(module: str) -> int:
    return LEVEL[".".join(module.split(".")[:2])]


def test_no_import_goes_upwards_or_in_a_circle():
    assert len(GRAPH) > 100 and level("fcn_plugin.data.labels") < level("fcn_plugin.models.loss")
    assert [(m, used) for m in GRAPH for used in GRAPH[m] if level(used) > level(m)] == []
    assert "fcn_plugin.errors" in GRAPH["fcn_plugin.data.labels"]
    TopologicalSorter(GRAPH).prepare()  # raises on a circle
