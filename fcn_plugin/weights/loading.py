"""Honest loading: every tensor of a file is used or dropped by name, nothing passes unseen."""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from fcn_plugin.errors import UserError


@dataclass
class Report:
    """What became of the tensors of a file, and of the parameters of a module."""

    used: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)  # name -> reason
    new: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{len(self.used)} tensors used"]
        lines += [f"dropped {name}: {reason}" for name, reason in self.dropped.items()]
        lines += [f"newly initialised {name}" for name in self.new]
        return "\n  ".join(lines)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file, which is never executed as a pickle.

    A checkpoint's ``state_dict`` is unwrapped.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; check init_cfg.checkpoint in the config")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a PyTorch file, or one that holds more than tensors and is not opened; "
            "download it again, or save its state_dict alone"
        ) from error
    # What torch.load raises on arbitrary bytes is not documented.
    except Exception as error:
        raise UserError(f"{path}: damaged or truncated; download it again") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise UserError(f"{path}: holds no state_dict; save model.state_dict() into it")
    return content


def check_checkpoint(path: Path) -> None:
    """Refuse what is no checkpoint before anything is built; its tensors are not read."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; train one first with tools/train.py")
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    # What torch.load raises on arbitrary bytes is not documented.
    except Exception as error:
        raise UserError(
            f"{path}: not a PyTorch checkpoint, damaged, or one that holds code; give a file that "
            "tools/train.py wrote"
        ) from error


def load_strictly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    targets: Mapping[str, str | None],
    reasons: Mapping[str, str],
    file: Path,
) -> Report:
    """Copy ``tensors`` into ``module``.

    Args:
        targets: for each name in the file the name in the module, or None to drop it.
        reasons: why, for each name dropped.
        file: for messages.

    Returns:
        The report; parameters for which the file has nothing are ``new`` and left as they are.

    Raises:
        UserError: a tensor that ``targets`` does not know, or one that does not fit. The module
            is then unchanged.
    """
    if unknown := sorted(set(tensors) - set(targets)):
        raise UserError(
            f"{file}: has {len(unknown)} tensors that this backbone has no place for, e.g. "
            f"{unknown[0]}; check depth and norm_cfg against the file"
        )
    own = module.state_dict()
    report = Report()
    fitted = {}
    for name, tensor in tensors.items():
        target = targets[name]
        if target is None:
            report.dropped[name] = reasons[name]
            continue
        # A fully connected layer is a convolution over its whole input (CVPR section 3.1):
        # 4096 x 25088 is 4096 x 512 x 7 x 7, channels first in both.
        if tensor.dim() == 2 and tensor.numel() == own[target].numel():
            tensor = tensor.reshape(own[target].shape)
        if tensor.shape != own[target].shape:
            raise UserError(
                f"{file}: {name} is {tuple(tensor.shape)}, but {target} is "
                f"{tuple(own[target].shape)}; check depth, in_channels, base_channels and "
                "fc_channels against the file"
            )
        fitted[target] = tensor
        report.used.append(name)
    report.new = sorted(set(own) - set(fitted))
    module.load_state_dict({**own, **fitted})
    return report
