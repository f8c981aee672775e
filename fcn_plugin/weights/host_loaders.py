"""mmengine's checkpoint loaders, replaced so that no file is executed.

mmengine's runner, ``init_model``, the inferencer and ``init_cfg=dict(type="Pretrained")`` load
through its ``CheckpointLoader``, which has one function for each kind of address. Those of mmengine
0.10.7 execute the pickles that come from http, and the local ones where the environment says so.
Ours end in ``files.read_content``, and keep mmengine's function names, for it logs ``name[10:]``.

A config is Python and is executed when it is read. So is the one that a checkpoint holds where
mmseg is given a checkpoint alone: ``MMSegInferencer(weights=FILE)``; give it the config as well.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlparse

import torch
from mmengine.runner import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.system.download import download
from fcn_plugin.system.ranks import once_per_machine
from fcn_plugin.weights.files import read_content, verify


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_local(filename: str, map_location: Any = None) -> Any:
    """A file of this machine, compared with its checksums."""
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{filename}: no such checkpoint; check its name")
    content = read_content(path, map_location)
    verify(path)
    return content


@CheckpointLoader.register_scheme(prefixes=("http://", "https://"), force=True)
def load_from_http(filename: str, map_location: Any = None) -> Any:
    """A file of another machine, kept in torch's own cache as mmengine does."""
    target = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(filename).path).name)
    once_per_machine(lambda: download(filename, target, None))
    try:
        return load_from_local(str(target), map_location)
    except UserError as error:
        raise UserError(f"{error} (from {filename}; delete the file to fetch it again)") from error


@CheckpointLoader.register_scheme(prefixes=("modelzoo://", "torchvision://"), force=True)
def load_from_torchvision(filename: str, map_location: Any = None) -> Any:
    """One of torchvision's files, by its model's name; torchvision knows their addresses."""
    try:
        models = get_torchvision_models()
    except ImportError as error:
        raise UserError(
            f"{filename}: only torchvision knows the address, and it cannot be imported ({error}); "
            "install it, or give the address itself"
        ) from error
    return load_from_http(_address(filename, models), map_location)


@CheckpointLoader.register_scheme(prefixes=("open-mmlab://", "openmmlab://"), force=True)
def load_from_openmmlab(filename: str, map_location: Any = None) -> Any:
    """One of OpenMMLab's files, or of the user's own list ``open_mmlab.json``."""
    scheme, _, name = filename.partition("://")
    name = get_deprecated_model_names().get(name, name)
    address = _address(f"{scheme}://{name}", get_external_models())
    if address.startswith(("http://", "https://")):
        return load_from_http(address, map_location)
    # Where mmengine looks for that list.
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("MMENGINE_HOME", f"{cache}/mmengine"))
    return load_from_local(str(home / address), map_location)


@CheckpointLoader.register_scheme(prefixes="mmcls://", force=True)
def load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    """The backbone of one of MMClassification's files."""
    content = load_from_http(_address(filename, get_mmcls_models()), map_location)
    state = content.get("state_dict", content)
    prefix = "backbone."
    tensors = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    return dict(state_dict=tensors)


@CheckpointLoader.register_scheme(
    prefixes=["pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://"], force=True
)
def load_from_elsewhere(filename: str, map_location: Any = None) -> NoReturn:
    """Model clouds and object stores, which mmengine reads by clients of theirs."""
    raise UserError(f"{filename}: no files are read from there; copy it here and give its path")


def _address(name: str, models: Mapping[str, str]) -> str:
    """Where the model is that "SCHEME://MODEL" names."""
    scheme, _, model = name.partition("://")
    if model not in models:
        names = [f"{scheme}://{model}" for model in models]
        hint = did_you_mean(name, names, "give a file or its address")
        raise UserError(f"{name}: no model that mmengine knows; {hint}")
    return models[model]
