"""What MMSegmentation needs on a current PyTorch, before it loads.

Two families of packages share the import names mmengine, mmcv and mmseg: OpenMMLab's last releases
and OneDL's maintained fork. ``FAMILIES`` has what each must be; ``prepare`` closes the gaps without
changing their code:

=====================  ============================================  ============================
measure                reason                                        unnecessary when
=====================  ============================================  ============================
``check_host``         a wrong version fails far from its cause      never
``_check_opencv``      OpenCV's window build needs libGL             mmcv requires the headless one
``ExtensionFinder``    OpenMMLab's ``import mmseg.models`` asks for  OneDL, or a compiled mmcv, is
                       compiled operators that mmcv-lite lacks       installed
``TorchvisionFinder``  mmengine ends a run whose torchvision does    it looks for ImportError
                       not fit torch, which nothing here needs
``_allow_checkpoints`` ``torch.load`` refuses the logs in a          mmengine's checkpoints hold
                       checkpoint of mmengine                        tensors alone
``_import_quietly``    OneDL's mmseg prints into the output of a     it logs in place of printing
                       tool, and warns, of what is not installed
=====================  ============================================  ============================

Nothing here imports torchvision: a build that does not match torch fails on import.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from contextlib import redirect_stdout
from importlib import metadata
from io import StringIO
from typing import NamedTuple

Version = tuple[int, ...]
# Requirements as pip takes them, repeated from setup.cfg because a clone that is not installed has
# no metadata; tests/test_packaging.py compares the two.
COMMON = (
    # CVE-2026-24747: in older versions a hostile checkpoint corrupts memory in torch.load,
    # even with weights_only=True. Before 2.6 torch.load also executes the file (CVE-2025-32434).
    "torch>=2.10",
    "numpy>=1.26,<3",
)


class Family(NamedTuple):
    """One of the two sets of packages that provide mmengine, mmcv and mmseg.

    Attributes:
        name: for people.
        about: what to know when choosing.
        extra: the extra of fcn-plugin that installs it.
        python_below: the first version of Python on which it does not run.
        requirements: as pip takes them.
        names: the distributions that are this family's alone.
    """

    name: str
    about: str
    extra: str
    python_below: Version
    requirements: tuple[str, ...]
    names: tuple[str, ...]


MMCV = ("mmcv-lite", "mmcv")
OPENMMLAB = Family(
    name="OpenMMLab",
    about="OpenMMLab's last releases",
    extra="openmmlab",
    # mmengine 0.10.7 calls pkgutil.find_loader, which Python 3.14 removed.
    python_below=(3, 14),
    requirements=(
        "mmengine>=0.10.7,<0.11",
        # mmsegmentation 1.2.2 itself refuses 2.2; mmcv needs a compiler, mmcv-lite does not.
        "mmcv-lite>=2.1,<2.2",
        "mmsegmentation>=1.2.2,<1.2.3",
        # mmengine reads configs of other packages through pkg_resources, gone in setuptools 82.
        "setuptools>=77.0.3,<82",
        # mmsegmentation imports these two without requiring them.
        "ftfy",
        "regex",
    ),
    names=("mmengine", *MMCV, "mmsegmentation"),
)
ONEDL = Family(
    name="OneDL",
    about="OneDL's maintained fork",
    extra="onedl",
    python_below=(3, 15),
    requirements=(
        "onedl-mmengine>=0.10.12,<0.11",
        "onedl-mmcv>=2.3.6,<2.4",
        "onedl-mmsegmentation>=1.4.2,<1.5",
    ),
    names=("onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation"),
)
FAMILIES = (OPENMMLAB, ONEDL)
# Private names of mmengine that have no public way to the same effect, and what needs them. They
# are there in mmengine 0.10.7 and in onedl-mmengine 0.10.12; a test fails if a release renames one.
PRIVATE_NAMES = {
    "mmengine.hooks.CheckpointHook._save_checkpoint_with_step": "engine/snapshots.py overrides it",
    "mmengine.logging.HistoryBuffer()._log_history": "in files that weights/tokens.py reads",
    "mmengine.logging.HistoryBuffer()._count_history": "in files that weights/tokens.py reads",
    "mmengine.optim.OneCycleParamScheduler._annealing_cos": "in files that weights/tokens.py reads",
    "mmengine.optim.OneCycleParamScheduler._annealing_linear": "in the same files",
}


def prepare() -> None:
    """Check the installed packages and make mmseg importable; call it before importing mmseg.

    Calling it again does nothing more.

    Raises:
        ImportError: a package is absent, too old or too new; the message says what to install.
    """
    # Not above, since fcn-plugin doctor reads this file where the package cannot be imported.
    from fcn_plugin.system.finders import EXTENSION_FINDER, TORCHVISION_FINDER

    family = check_host()
    _check_opencv()
    if TORCHVISION_FINDER not in sys.meta_path:
        sys.meta_path.insert(0, TORCHVISION_FINDER)
    # OneDL's mmseg has its own way without operators, which the stand-in would hide.
    # Last in the list: a real mmcv._ext is found first, and if it fails to load it says why.
    if family is OPENMMLAB and EXTENSION_FINDER not in sys.meta_path:
        sys.meta_path.append(EXTENSION_FINDER)
    _allow_checkpoints()
    if family is ONEDL:
        _import_quietly()


def check_host() -> Family:
    """The installed family, whose packages fit; imports none of them.

    Raises:
        ImportError: one line with all that is wrong and the command that corrects it.
    """
    found = [family for family in FAMILIES if any(map(_installed, family.names))]
    if not found:
        raise ImportError(
            "fcn_plugin needs MMSegmentation, which is not installed. Remedy: "
            + " or ".join(f"{_install(family)} ({family.about})" for family in FAMILIES)
        )
    if len(found) > 1:
        both = [name for family in found for name in family.names if _installed(name)]
        raise ImportError(
            "fcn_plugin cannot use OpenMMLab's and OneDL's packages together, since they overwrite "
            f"each other's files. Remedy: pip uninstall -y {' '.join(both)}, then "
            + " or ".join(map(_install, found))
        )
    (family,) = found
    if sys.version_info[:2] >= family.python_below:
        raise ImportError(
            f"fcn_plugin does not run on Python {sys.version_info[0]}.{sys.version_info[1]} with "
            f"{family.name}'s packages. Remedy: use Python 3.10 to "
            f"{family.python_below[0]}.{family.python_below[1] - 1}"
        )
    requirements = (*COMMON, *family.requirements)
    faults = {requirement: fault for requirement in requirements if (fault := _fault(requirement))}
    if faults:
        raise ImportError(
            f"fcn_plugin cannot use the packages it finds: {'; '.join(faults.values())}. Remedy: "
            "pip install " + " ".join(f'"{requirement}"' for requirement in faults)
        )
    if all(map(_installed, MMCV)):
        # They share every Python file, so they work together while the versions agree.
        warnings.warn(
            "mmcv and mmcv-lite are both installed into the same folder, so that removing "
            "either breaks the other; to keep one: pip uninstall mmcv mmcv-lite, then install it",
            stacklevel=2,
        )
    return family


def _install(family: Family) -> str:
    return f"pip install 'fcn-plugin[{family.extra}]'"


def _fault(requirement: str) -> str | None:
    """What is wrong with the installed package; None if nothing."""
    name, *bounds = re.split(">=|,<", requirement)
    names = MMCV if name in MMCV else (name,)
    installed = [(name, version) for name in names if (version := _installed(name))]
    if not installed:
        return f"{' or '.join(names)} is not installed"
    for name, version in installed:
        if bounds and _release(version) < _release(bounds[0]):
            return f"{name} {version} is too old"
        if len(bounds) > 1 and _release(version) >= _release(bounds[1]):
            return f"{name} {version} is too new"
    return None


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _release(version: str) -> Version:
    """The numbers before any suffix: "2.13.0+cpu" gives (2, 13, 0).

    The suffix is ignored on purpose: vendors ship PyTorch 2.10 as "2.10.0a0+b4e4ee8", which would
    sort before 2.10.
    """
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _check_opencv() -> None:
    """Import OpenCV: mmcv requires its GUI build, which servers often cannot load."""
    try:
        import cv2  # noqa: F401  # only to see whether it loads
    except ImportError as error:
        raise ImportError(
            f"fcn_plugin needs OpenCV, which does not load ({error}). Remedy without a screen: "
            "pip install --force-reinstall --no-deps opencv-python-headless"
        ) from error


def _allow_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read what mmengine 0.10.7 writes, and no more.

    It reads numpy's and mmengine's objects as tokens (``weights.tokens``); our loaders
    (``weights.files``) replace these with numbers, arrays and logs.
    """
    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "").lower() in ("1", "y", "yes", "true"):
        warnings.warn(
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set: torch.load executes the code in any file, "
            "except where fcn_plugin reads it; unset it, nothing here needs it",
            stacklevel=2,
        )

    import torch

    from fcn_plugin.weights.tokens import ALLOWED

    torch.serialization.add_safe_globals([*ALLOWED])


def _import_quietly() -> None:
    """Import mmseg without what it prints of a missing package, and warns of missing operators."""
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Fail to import ``MultiScaleDeformableAttention``"
        )
        import mmseg.datasets
        import mmseg.models  # noqa: F401  # only to have them imported
