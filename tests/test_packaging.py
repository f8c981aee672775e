"""What a user installs: metadata, ranges, and the files in wheel, sdist and editable install."""

import configparser
import os
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
from packaging.metadata import Metadata
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
    names = {requirement.name.lower(): requirement for requirement in found}
    del names["fcn-plugin"]  # an extra that names another
    return names


def run(*command: object, cwd: Path = REPO) -> None:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ranges_are_the_same_in_setup_cfg_and_in_the_check_of_the_host(setup_cfg, required):
    for family in compat.FAMILIES:
        extra = setup_cfg["options.extras_require"][family.extra].split("\n")
        assert set(family.requirements) == set(filter(None, extra))
    for stated in map(Requirement, [*compat.COMMON, *compat.OPENMMLAB.requirements]):
        assert stated.specifier == required[stated.name].specifier
        bounds = [bound.operator for bound in stated.specifier]
        assert sorted(bounds, reverse=True) in ([], [">="], [">=", "<"])  # what is compared
    below = max(family.python_below for family in compat.FAMILIES)
    assert setup_cfg["options"]["python_requires"] == f">=3.10,<{'.'.join(map(str, below))}"
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
        files = {name.partition("/")[2]: sdist.extractfile(name) for name in sdist.getnames()}
        metadata = Metadata.from_email(files["PKG-INFO"].read())  # raises if it is not valid
    assert {str(path) for path in SOURCES} <= files.keys()
    assert {"LICENSE", "Makefile", "constraints.txt", "setup.cfg", "setup.py"} <= files.keys()
    assert {"CITATION.cff", "SECURITY.md"} <= files.keys() and "release.py" not in files
    assert not any(".mim" in name for name in files)
    # The page of a package index: README without links that would lead nowhere there.
    links = re.findall(r"\]\((.*?)\)", metadata.description)
    assert links and all(link.startswith("https://") for link in links)
    assert "![" not in metadata.description
    assert metadata.description.startswith("# fcn_plugin\n")
    assert metadata.description_content_type == "text/markdown"


def test_the_same_files_give_the_same_bytes(tree, tmp_path, monkeypatch):
    """Whenever, wherever and by whomever they were copied; the wheel as it comes from the sdist."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    archives = []
    for number, umask in enumerate((0o002, 0o077)):
        clone, made = tmp_path / f"clone{number}", tmp_path / f"made{number}"
        previous = os.umask(umask)
        try:
            shutil.copytree(
                tree, clone, ignore=shutil.ignore_patterns(".mim", "build", "*.egg-info")
            )
            for path in clone.rglob("*"):
                path.chmod(path.stat().st_mode & ~0o077 | (0o077 & ~umask))
                os.utime(path, (1.5e9 + number, 1.5e9 + number))
            sdist = built(clone, "sdist", made / "sdist")
            with tarfile.open(sdist) as archive:
                archive.extractall(made, filter="data")
            (unpacked,) = made.glob("fcn_plugin-*")
            wheel = built(unpacked, "wheel", made / "wheel")
        finally:
            os.umask(previous)
        archives.append((sdist.read_bytes(), wheel.read_bytes()))
    assert archives[0] == archives[1]


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
