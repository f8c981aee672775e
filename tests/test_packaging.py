"""What a user installs: metadata, ranges, and the files in wheel, sdist and editable install."""

import configparser
import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import fcn_plugin
from fcn_plugin import compat

REPO = Path(__file__).parents[1]
FOLDERS = ("fcn_plugin", "configs", "tools")
SOURCES = [
    path.relative_to(REPO)
    for folder in FOLDERS
    for path in sorted((REPO / folder).rglob("*"))
    if path.is_file() and path.suffix != ".pyc" and ".mim" not in path.parts
]


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPO / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def required(setup_cfg) -> dict[str, Requirement]:
    """All that setup.cfg requires, extras included, by lower-case name."""
    extras = setup_cfg["options.extras_require"].values()
    lists = [setup_cfg["options"]["install_requires"], *extras]
    found = [Requirement(line) for text in lists for line in text.split("\n") if line]
    assert len(found) > 10
    return {requirement.name.lower(): requirement for requirement in found}


def run(*command: object, cwd: Path = REPO) -> None:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ranges_are_the_same_in_setup_cfg_and_in_the_check_of_the_host(setup_cfg, required):
    for stated in map(Requirement, compat.HOST):
        assert stated.specifier == required[stated.name].specifier
        bounds = [bound.operator for bound in stated.specifier]
        assert sorted(bounds, reverse=True) in ([], [">="], [">=", "<"])  # what is compared
    below = ".".join(map(str, compat.PYTHON_BELOW))
    assert setup_cfg["options"]["python_requires"] == f">=3.10,<{below}"
    assert "(3, 10) <= sys.version_info[:2] < (3, 14)" in (REPO / "Makefile").read_text()


@pytest.mark.parametrize("python", ["3.10.13", "3.11.7", "3.12.1", "3.13.0"])
def test_ranges_hold_what_constraints_pin(python, required):
    environment = dict(sys_platform="linux", platform_python_implementation="CPython")
    environment |= dict(python_version=python.rpartition(".")[0], python_full_version=python)

    def applies(requirement: Requirement) -> bool:
        return requirement.marker is None or requirement.marker.evaluate(environment)

    pinned: dict[str, Version] = {}
    lines = (REPO / "constraints.txt").read_text().splitlines()
    for pin in (Requirement(line) for line in lines if not line.startswith("#")):
        if applies(pin):
            assert pin.name.lower() not in pinned, f"two versions of {pin.name}"
            (exact,) = pin.specifier
            pinned[pin.name.lower()] = Version(exact.version)
    needed = {name: requirement for name, requirement in required.items() if applies(requirement)}
    assert needed.keys() <= pinned.keys()
    for name, requirement in needed.items():
        assert requirement.specifier.contains(pinned[name]), name


def test_the_changelog_opens_with_this_version():
    text = (REPO / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (\S+)", text, re.MULTILINE)[0] == fcn_plugin.__version__


@pytest.mark.skipif(not (REPO / ".git").exists(), reason="not a git checkout")
def test_git_ignores_no_source():
    """A pattern such as "data/" would leave fcn_plugin/data out of every commit and clone."""
    names = "\n".join(map(str, [*SOURCES, *REPO.joinpath("tests").rglob("*.py")]))
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(command, input=names, cwd=REPO, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy to build from, because setuptools writes beside the sources."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in (*FOLDERS, "tests"):
        ignored = shutil.ignore_patterns("__pycache__", ".mim")
        shutil.copytree(REPO / folder, tree / folder, ignore=ignored)
    for path in REPO.iterdir():
        if path.is_file():
            shutil.copy(path, tree)
    return tree


def built(tree: Path, kind: str, target: Path) -> Path:
    """A wheel, sdist or editable install."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    run(sys.executable, "-c", code, target, cwd=tree)
    (archive,) = target.iterdir()
    return archive


def test_wheel_holds_package_configs_and_tools(tree, tmp_path):
    # Left by an editable install and an earlier build; neither may get into the wheel.
    (tree / "fcn_plugin/.mim").mkdir()
    (tree / "fcn_plugin/.mim/configs").symlink_to(tree / "configs")
    stale = tree / "build/lib/fcn_plugin/.mim/configs/removed.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    with zipfile.ZipFile(built(tree, "wheel", tmp_path)) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    # Where an OpenMMLab package keeps a source file once it is installed.
    mim = Path("fcn_plugin/.mim")
    shipped = {path if path.parts[0] == "fcn_plugin" else mim / path for path in SOURCES}
    command = "fcn_plugin_command.py"
    assert names == set(map(str, [*shipped, mim / "model-index.yml", command]))
    assert "fcn_plugin/py.typed" in names
    run(sys.executable, "-m", "zipfile", "-e", tmp_path / wheel.filename, tmp_path / "site")
    run(sys.executable, "-m", "fcn_plugin", "configs", "camvid", cwd=tmp_path / "site")
    (points,) = (tmp_path / "site").glob("*.dist-info/entry_points.txt")
    assert "fcn-plugin = fcn_plugin_command:main" in points.read_text()


def test_sdist_holds_every_source(tree, tmp_path):
    with tarfile.open(built(tree, "sdist", tmp_path)) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {str(path) for path in SOURCES} <= names
    assert {"LICENSE", "Makefile", "constraints.txt", "setup.cfg", "setup.py"} <= names
    assert not any(".mim" in name for name in names)


def test_editable_install_links_configs_and_tools(tree, tmp_path):
    built(tree, "editable", tmp_path)
    for folder in ("configs", "tools"):
        link = tree / "fcn_plugin/.mim" / folder
        assert link.is_symlink() and link.resolve() == (tree / folder).resolve()


def test_no_module_compiles_or_imports_with_a_warning():
    """What mmseg and mmengine warn of is theirs, so that the filter names our modules only."""
    sources = [path for path in SOURCES if path.suffix == ".py"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in sources:
            compile((REPO / path).read_bytes(), str(path), "exec", dont_inherit=True)
    modules = [module.name for module in pkgutil.walk_packages(fcn_plugin.__path__, "fcn_plugin.")]
    assert len(sources) > len(modules) > 50
    code = (
        "import warnings, importlib, sys\n"
        "warnings.filterwarnings('error', '', DeprecationWarning, r'fcn_plugin(\\.|$)')\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    run(sys.executable, "-c", code, "fcn_plugin", *modules)
