"""Write a checkpoint whole, in the format that its name asks for."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from fcn_plugin.errors import UserError, quoted
from fcn_plugin.system.files import replacing
from fcn_plugin.system.progress import Progress
from fcn_plugin.weights.safetensors_files import SUFFIX, write_safetensors


def write(checkpoint: dict[str, Any], target: Path, progress: Progress) -> None:
    """Write "state_dict" and "meta" of ``checkpoint`` to ``target``, as ``convert`` does.

    Raises:
        UserError: the disk is full, or the folder cannot be written to.
    """
    save = write_safetensors if target.suffix == SUFFIX else torch.save
    size = sum(t.numel() * t.element_size() for t in checkpoint["state_dict"].values())
    try:
        with replacing(target) as part:
            progress("writing", 0, size)
            save(checkpoint, part)
        progress("writing", size, size)
    # On a full disk PyTorch raises RuntimeError, safetensors SafetensorError.
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{target}: cannot be written ({quoted(error)}); it takes {size / 1e6:.0f} MB, choose "
            "another folder or free space"
        ) from error
