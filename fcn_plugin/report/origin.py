"""Describe where an evaluation comes from: data set, versions, device."""

import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from itertools import chain
from pathlib import Path

import torch
from mmengine.config import Config

from fcn_plugin.compat import FAMILIES
from fcn_plugin.system.configs import innermost, type_name
from fcn_plugin.system.machine import processor_name
from fcn_plugin.version import __version__

PACKAGES = ("torch", *chain.from_iterable(family.names for family in FAMILIES), "numpy")
SHORTENED = 12  # digits shown of a commit's hash


def dataset_title(cfg: Config, dataset: dict) -> str:
    """A data set of a config in words: "CamVidDataset in data/camvid, val"; several joined.

    The last part is a name in the config's table ``splits``, else a list or a folder.
    """
    splits = cfg.get("splits", {})
    titles = [_title(part, splits) for part in innermost(dataset)]
    return " and ".join(dict.fromkeys(titles))


def _title(dataset: dict, splits: dict[str, dict]) -> str:
    names = [
        name
        for name, settings in splits.items()
        if all(dataset.get(key) == value for key, value in settings.items())
    ]
    folder = (dataset.get("data_prefix") or {}).get("img_path")
    part = next(filter(None, [*names, dataset.get("ann_file"), folder]), None)
    where = f" in {dataset['data_root']}" if dataset.get("data_root") else ""
    return f"{type_name(dataset)}{where}" + (f", {part}" if part else "")


def versions() -> dict[str, str]:
    """Versions of Python and packages; for fcn_plugin in a git checkout, with the commit."""
    installed = {"fcn_plugin": __version__ + _commit(), "Python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def _commit() -> str:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    ask = ["git", "-C", str(root), "describe", "--always", "--dirty", f"--abbrev={SHORTENED}"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # git is missing or refuses the folder
        return ""
    return f", commit {done.stdout.strip().replace('-dirty', ' with changes')}"


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()}, {processor_name()}"
