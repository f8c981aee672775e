"""Build a release from the commit alone, into dist/: ``make dist``. Nothing is uploaded.

The version stands in fcn_plugin/version.py: X.Y.Z.dev0, and X.Y.Z in the commit with the tag
vX.Y.Z. This command compares it with the tag and the CHANGELOG. setuptools-scm would take it from
the tag, but needs the history that a shallow clone or an archive does not have, keeps an editable
install at the version of the day it was installed, and puts all files of git into the sdist.
"""

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

EXTRA = "openmmlab"  # the family of mmseg in the bill of materials


def fault(version: str, tags: list[str], changelog: str, changes: str) -> str | None:
    """Why the commit must not be built, and the remedy; None if all agree.

    Args:
        version: of fcn_plugin/version.py.
        tags: of the commit, those that begin with v.
        changelog: its text, whose first heading is "1.2.0 (2031-01-31)" or "1.2.0 (unreleased)".
        changes: as from ``git status --short``.
    """
    parsed, heading = Version(version), re.findall(r"^## (.*)", changelog, re.MULTILINE)[0]
    wanted, dated = [f"v{version}"], rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)"
    if parsed.is_devrelease:
        wanted, dated = [], rf"{re.escape(parsed.base_version)} \(unreleased\)"
    if changes:
        return f"what is not committed would be left out; commit, stash or remove:\n{changes}"
    if tags != wanted:
        return (
            f"fcn_plugin/version.py says {version}, and the commit's tags are {tags}; "
            f"X.Y.Z needs the tag vX.Y.Z alone, and X.Y.Z.dev0 none"
        )
    if not re.fullmatch(dated, heading):
        return (
            f"fcn_plugin/version.py says {version}, and CHANGELOG.md opens with {heading}; "
            "X.Y.Z needs a date, as in X.Y.Z (2031-01-31), and X.Y.Z.dev0 X.Y.Z (unreleased)"
        )
    return None


def output(*command: object) -> str:
    done = subprocess.run(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nmake dist: the command above failed: {' '.join(done.args)}")
    return done.stdout.strip()


def build(repository: Path, target: Path, scratch: Path) -> None:
    """Write sdist and wheel of the commit to ``target``, and check their metadata.

    A clone has neither ignored files nor what an earlier build left. The wheel is built from the
    sdist, which so proves to be whole.
    """
    os.environ["SOURCE_DATE_EPOCH"] = output("git", "log", "-1", "--format=%ct")
    output("git", "clone", repository, scratch / "tree")
    output(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, scratch / "tree")
    output(sys.executable, "-m", "twine", "check", "--strict", *target.iterdir())


def list_materials(wheel: Path, target: Path, scratch: Path) -> None:
    """Write the software bill of materials: all that pip installs with the wheel, and nothing else.

    It has the versions of constraints.txt for this Python and platform, and the licences that the
    packages declare. The wheel itself contains no code of others.
    """
    python, root = scratch / "env/bin/python", scratch / "pyproject.toml"
    pip = (sys.executable, "-m", "pip", "--python", python)
    output(sys.executable, "-m", "venv", "--without-pip", scratch / "env")
    output(*pip, "install", "-c", "constraints.txt", f"{wheel}[{EXTRA}]")
    output(*pip, "check")
    (folder,) = (scratch / "env").glob("lib/*/site-packages/fcn_plugin-*.dist-info")
    installed = metadata.Distribution.at(folder)
    markers = {line: Requirement(line).marker for line in installed.requires}
    project = dict(
        name=installed.metadata["Name"],
        version=installed.version,
        license=installed.metadata["License-Expression"],
        dependencies=[
            line
            for line, marker in markers.items()
            if not marker or marker.evaluate(dict(extra=EXTRA))
        ],
    )
    entries = [f"{key} = {json.dumps(value)}\n" for key, value in project.items()]
    root.write_text("".join(["[project]\n", *entries]))
    output(
        *(sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"),
        *("--mc-type", "library", "--pyproject", root, "-o", target, python),
    )


def main() -> None:
    repository = Path(__file__).parent
    os.chdir(repository)
    version = runpy.run_path("fcn_plugin/version.py")["__version__"]
    tags = output("git", "tag", "--points-at", "HEAD", "--list", "v*").split()
    changes = output("git", "status", "--short")
    if reason := fault(version, tags, Path("CHANGELOG.md").read_text(), changes):
        sys.exit(f"make dist: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        scratch, made = Path(folder), Path(folder, "dist")
        print("Building sdist and wheel ...", flush=True)
        build(repository, made, scratch)
        print("Installing the wheel to list what comes with it ...", flush=True)
        (wheel,) = made.glob("*.whl")
        list_materials(wheel, made / f"fcn_plugin-{version}-{EXTRA}.cdx.json", scratch)
        sums = "".join(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted(made.iterdir())
        )
        (made / "SHA256SUMS").write_text(sums)
        shutil.rmtree("dist", ignore_errors=True)
        shutil.move(made, "dist")
    print(f"dist/ has {version}, of commit {output('git', 'rev-parse', 'HEAD')}:\n{sums}", end="")


if __name__ == "__main__":
    main()
