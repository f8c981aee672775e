"""Read and write checkpoints as safetensors.

Such a file begins with the length of its header (8 bytes, little-endian) and the header, which is
JSON. Its ``__metadata__`` holds strings only, so a checkpoint's meta data are one string of JSON.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fcn_plugin.errors import UserError, quoted

SUFFIX = ".safetensors"
META = "fcn_plugin"  # key in __metadata__
# These are tuples in our meta data; JSON would return lists.
TUPLES = ("classes", "mean", "std")
BY_NUMBER = ("label_map",)  # tables whose keys are numbers; JSON would return texts


def looks_like_safetensors(start: bytes) -> bool:
    """Whether these are the first bytes of a safetensors file."""
    return start[4:8] == bytes(4) and start[8:9] == b"{"


def read_safetensors(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Of our checkpoints "state_dict" and "meta", of other files the tensors by name.

    Raises:
        UserError: the file is damaged or truncated.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            stored = file.metadata() or {}
            names = file.keys()  # a list: the file itself cannot be iterated over
            tensors = {name: file.get_tensor(name) for name in names}
        meta = json.loads(stored.get(META, "null"), object_hook=_as_stored)
        if meta is not None and not isinstance(meta, dict):
            raise ValueError(f"its {META} is not a table")
    # What the library raises on arbitrary bytes is not documented.
    except Exception as error:
        reason = quoted(error)
        raise UserError(f"{path}: damaged or truncated ({reason}); download it again") from error
    if isinstance(map_location, str | torch.device):
        tensors = {name: tensor.to(map_location) for name, tensor in tensors.items()}
    return tensors if meta is None else dict(meta=meta, state_dict=tensors)


def write_safetensors(checkpoint: dict[str, Any], path: Path) -> None:
    """Write "state_dict" and "meta" of ``checkpoint``.

    Args:
        checkpoint: tensors may be shared and have any memory layout; meta data may be strings,
            numbers, and dicts and sequences of these.
    """
    path.touch()  # for its mode: the library writes files that only the owner can read
    mode = path.stat().st_mode
    # Data sets' meta data may contain numpy arrays and numbers.
    text = json.dumps(checkpoint["meta"], default=lambda value: value.tolist())
    # One entry: the library writes several in any order, and the file's hash would vary.
    save_file(_apart(checkpoint["state_dict"]), path, metadata={META: text})
    path.chmod(mode)


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, contiguous and without shared memory, as the library requires."""
    storages: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        if tensor.untyped_storage().data_ptr() in storages:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        apart[name] = tensor
    return apart


def _as_stored(table: dict[str, Any]) -> dict[str, Any]:
    return {key: _of_kind(key, value) for key, value in table.items()}


def _of_kind(key: str, value: Any) -> Any:
    if key in TUPLES and isinstance(value, list):
        return tuple(value)
    if key in BY_NUMBER and isinstance(value, dict):
        return {int(number): entry for number, entry in value.items()}
    return value
