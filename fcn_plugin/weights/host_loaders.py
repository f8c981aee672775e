"""The host's checkpoint loaders, replaced so that no file is executed.

mmengine's runner, ``init_model``, the inferencer and ``init_cfg=dict(type="Pretrained")`` load
through its ``CheckpointLoader``, which has one function for each kind of address. Those of mmengine
0.10.7 execute the pickles that come from http, and the local ones where the environment says so.
Ours have the same names, which the loader logs from the eleventh letter on, and differ only in
that each ends in ``files.read_tensors``.

A config is Python and is executed when it is read. So is the one that a checkpoint holds where the
host is given a checkpoint alone: ``MMSegInferencer(weights=FILE)``; give it the config as well.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine import dist
from mmengine.fileio import get_local_path
from mmengine.runner import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from fcn_plugin.errors import UserError
from fcn_plugin.system.download import download
from fcn_plugin.weights.caffemodel import looks_like_caffemodel
from fcn_plugin.weights.files import read_tensors, verify


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_local(filename: str, map_location: Any = None) -> Any:
    """A file of this machine, compared with its checksums."""
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{filename}: no such checkpoint; check its name")
    if looks_like_caffemodel(path):
        raise UserError(f"{path}: a Caffe model; make a checkpoint of it: tools/convert_weights.py")
    content = read_tensors(path, map_location)
    verify(path)
    return content


@CheckpointLoader.register_scheme(prefixes=("http://", "https://"), force=True)
def load_from_http(filename: str, map_location: Any = None) -> Any:
    """A file of another machine, kept in torch's own cache as the host does."""
    target = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(filename).path).name)
    # One process of each machine fetches, the others wait for the file.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        download(filename, target, None)
    dist.barrier()
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
    return load_from_local(str(_mmengine_home() / address), map_location)


@CheckpointLoader.register_scheme(prefixes="mmcls://", force=True)
def load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    """The backbone of one of MMClassification's files."""
    content = load_from_http(_address(filename, get_mmcls_models()), map_location)
    state = content.get("state_dict", content)
    prefix = "backbone."
    tensors = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    return dict(state_dict=tensors)


@CheckpointLoader.register_scheme(prefixes="pavi://", force=True)
def load_from_pavi(filename: str, map_location: Any = None) -> Any:
    """A file of the model cloud, which its own package fetches."""
    from pavi import modelcloud  # type: ignore[import-not-found]

    with TemporaryDirectory() as folder:
        path = Path(folder, "checkpoint.pth")
        modelcloud.get(filename.removeprefix("pavi://")).download(str(path))
        return load_from_local(str(path), map_location)


@CheckpointLoader.register_scheme(prefixes=[r"(\S+\:)?s3://", r"(\S+\:)?petrel://"], force=True)
def load_from_ceph(filename: str, map_location: Any = None, backend: str = "petrel") -> Any:
    """A file of an object store, which the host's file backend fetches."""
    with get_local_path(filename, backend_args=dict(backend=backend)) as path:
        return load_from_local(str(path), map_location)


def _address(name: str, known: Mapping[str, str]) -> str:
    """Where the model is that "SCHEME://MODEL" names."""
    scheme, _, model = name.partition("://")
    if model not in known:
        close = get_close_matches(model, known, n=1)
        hint = f"did you mean {scheme}://{close[0]}?" if close else "give a file or its address"
        raise UserError(f"{name}: no model that the host knows; {hint}")
    return known[model]


def _mmengine_home() -> Path:
    """Where mmengine looks for the user's own list, and for the files that it names."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("MMENGINE_HOME", f"{cache}/mmengine")).expanduser()
