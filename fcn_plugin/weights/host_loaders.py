"""mmengine's checkpoint loaders, replaced so that no file is executed.

mmengine's runner, ``init_model``, the inferencer and ``init_cfg=dict(type="Pretrained")`` load
through its ``CheckpointLoader``, which has one function for each kind of address. In mmengine
0.10.7 these execute pickles from http, and local ones if the environment says so. Ours call
``files.read_content``. They keep mmengine's function names, because it logs ``name[10:]``.

A config is Python and is executed when it is read. ``MMSegInferencer(weights=FILE)`` without a
config executes the config inside the checkpoint, so always give it a config as well.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mmengine.runner import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.weights.addresses import HUB, WEB, fetched, is_address
from fcn_plugin.weights.files import read_content, verify


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_local(filename: str, map_location: Any = None) -> Any:
    """The content of a local file, whose checksums are compared."""
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{filename}: no such checkpoint; check its name")
    content = read_content(path, map_location)
    verify(path)
    return content


@CheckpointLoader.register_scheme(prefixes=(*WEB, HUB), force=True)
def load_from_http(filename: str, map_location: Any = None) -> Any:
    """The content of a file by its address."""
    with fetched(filename) as file:
        return load_from_local(str(file), map_location)


@CheckpointLoader.register_scheme(prefixes=("modelzoo://", "torchvision://"), force=True)
def load_from_torchvision(filename: str, map_location: Any = None) -> Any:
    """The content of torchvision's file for a model; torchvision knows the address."""
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
    """The content of a file in OpenMMLab's list, or in the user's own ``open_mmlab.json``."""
    scheme, _, name = filename.partition("://")
    name = get_deprecated_model_names().get(name, name)
    address = _address(f"{scheme}://{name}", get_external_models())
    if is_address(address):
        return load_from_http(address, map_location)
    # mmengine looks for the user's list here.
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("MMENGINE_HOME", f"{cache}/mmengine"))
    return load_from_local(str(home / address), map_location)


@CheckpointLoader.register_scheme(prefixes="mmcls://", force=True)
def load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    """The backbone in one of MMClassification's files."""
    content = load_from_http(_address(filename, get_mmcls_models()), map_location)
    state = content.get("state_dict", content)
    prefix = "backbone."
    tensors = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    return dict(state_dict=tensors)


@CheckpointLoader.register_scheme(
    prefixes=["pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://"], force=True
)
def load_from_elsewhere(filename: str, map_location: Any = None) -> NoReturn:
    """Refuse object stores and model clouds, for which mmengine needs further packages."""
    raise UserError(f"{filename}: cannot be read from there; copy it here and give its path")


def _address(name: str, models: Mapping[str, str]) -> str:
    scheme, _, model = name.partition("://")
    if model not in models:
        names = [f"{scheme}://{model}" for model in models]
        hint = did_you_mean(name, names, "give a file or its address")
        raise UserError(f"{name}: mmengine knows no such model; {hint}")
    return models[model]
