"""Checkpoints as safetensors: tensors, and what else there is as text.

Such a file begins with the length of its header (8 bytes, little-endian), then the header itself,
which is JSON. Its ``__metadata__`` holds texts only: a checkpoint's meta data are JSON there.
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
START_BYTES = 9
META = "fcn_plugin"  # key in __metadata__
# What is a tuple in our meta data, and would come back as a list.
TUPLES = ("classes", "mean", "std")


def looks_like_safetensors(start: bytes) -> bool:
    """Whether a file with these first bytes is one, whatever its name and whatever follows."""
    return start[4:8] == bytes(4) and start[8:9] == b"{"


def read_safetensors(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint with "state_dict" and "meta" if ours, else the tensors by name.

    Raises:
        UserError: it is damaged or truncated.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            stored = file.metadata() or {}
            names = file.keys()  # a list: the file itself cannot be iterated over
            tensors = {name: file.get_tensor(name) for name in names}
        meta = json.loads(stored.get(META, "null"), object_hook=_with_tuples)
        if meta is not None and not isinstance(meta, dict):
            raise ValueError(f"its {META} is no table")
    # What the library raises on arbitrary bytes is not documented.
    except Exception as error:
        reason = quoted(error)
        raise UserError(f"{path}: damaged or truncated ({reason}); download it again") from error
    if isinstance(map_location, str | torch.device):
        tensors = {name: tensor.to(map_location) for name, tensor in tensors.items()}
    return tensors if meta is None else dict(meta=meta, state_dict=tensors)


def write_safetensors(checkpoint: dict[str, Any], path: Path) -> None:
    """Write "state_dict" and "meta" of ``checkpoint``; any memory layout, tensors may be shared.

    Args:
        checkpoint: meta data are text, numbers, and tables and sequences of these.
    """
    path.touch()  # for its mode: the library makes files that only their owner reads
    mode = path.stat().st_mode
    # Data sets have arrays and numbers of numpy in their meta data.
    text = json.dumps(checkpoint["meta"], default=lambda value: value.tolist())
    save_file(_apart(checkpoint["state_dict"]), path, metadata={"format": "pt", META: text})
    path.chmod(mode)


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors contiguous, each in memory of its own, as the library demands."""
    storages: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        if tensor.untyped_storage().data_ptr() in storages:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        apart[name] = tensor
    return apart


def _with_tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if key in TUPLES and isinstance(value, list) else value
        for key, value in table.items()
    }
