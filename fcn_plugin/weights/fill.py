"""Honest loading: every tensor of a file is used or dropped by name, nothing passes unseen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fcn_plugin.errors import UserError
from fcn_plugin.weights.caffemodel import looks_like_caffemodel
from fcn_plugin.weights.files import read_tensors, verify
from fcn_plugin.weights.structure import EXTRA_STATE, NO_STATE_DICT, check_tensors


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


def read_torch_file(path: Path) -> dict[str, Any]:
    """The content of a PyTorch or safetensors file, which is never executed as a pickle.

    Its tensors lie in the file itself until they are used, where its format allows.
    """
    content = read_tensors(path, mmap=True)
    if not isinstance(content, dict):
        raise UserError(f"{path}: {NO_STATE_DICT}")
    return content


def state_dict(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file: all it holds, or what it has under the usual names.

    Raises:
        UserError: it holds none, or some that no network can be filled from.
    """
    for key in ("state_dict", "model_state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
    # What modules keep beside tensors is theirs.
    content = {k: v for k, v in content.items() if not str(k).endswith(EXTRA_STATE)}
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        raise UserError(f"{path}: {NO_STATE_DICT}")
    check_tensors(path, content, finite=False)
    if all(name.startswith("module.") for name in content):  # from within a wrapper
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return content


def check_checkpoint(path: Path, finite: bool = True) -> dict[str, Any]:
    """Refuse what is no checkpoint before anything is built, or has become damaged.

    The whole file is read once, for the checksums of its tensors.

    Args:
        finite: refuse NaN and inf among its weights as well.

    Returns:
        Its content; the tensors lie in the file until they are used.

    Raises:
        UserError: it is missing, hostile, damaged, truncated or of another kind, or has weights
            that are no numbers.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; train one first with tools/train.py")
    if looks_like_caffemodel(path):
        raise UserError(f"{path}: a Caffe model; make a checkpoint of it: tools/convert_weights.py")
    content = read_torch_file(path)
    tensors = state_dict(content, path)
    verify(path)
    check_tensors(path, tensors, finite)
    return content


@dataclass
class Filling:
    """Tensors on their way from a file into a module.

    Attributes:
        file: for messages.
        shapes: of the module's own tensors.
        remedy: for a tensor that has no place or does not fit.
    """

    file: Path
    shapes: Mapping[str, torch.Size]
    remedy: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    report: Report = field(default_factory=Report)

    def drain(
        self,
        source: Mapping[str, Tensor],
        names: Mapping[str, str],
        targets: Mapping[str, str],
        reason: Callable[[str], str | None],
    ) -> None:
        """Give every tensor of ``source`` its place, or drop it for ``reason``.

        Args:
            names: what each is called in the file.
            targets: the module's name for each that has a place.
            reason: why one without a place is dropped; None if it should have had one.

        Raises:
            UserError: a tensor that neither has a place nor may be dropped, or does not fit.
        """
        homeless = []
        for name, tensor in source.items():
            target = targets.get(name)
            if target is not None:
                self.tensors[target] = self._fit(tensor, names[name], target)
                self.report.used.append(names[name])
            elif why := reason(name):
                self.report.dropped[names[name]] = why
            else:
                homeless.append(names[name])
        if homeless:
            raise UserError(
                f"{self.file}: has {len(homeless)} tensors that there is no place for, e.g. "
                f"{min(homeless)}; {self.remedy}"
            )
        self.report.new = sorted(set(self.shapes) - set(self.tensors))

    def _fit(self, tensor: Tensor, name: str, target: str) -> Tensor:
        shape = self.shapes[target]
        fitted = reshaped(tensor, shape)
        if fitted is None:
            raise UserError(
                f"{self.file}: {name} is {tuple(tensor.shape)}, but {target} is {tuple(shape)}; "
                f"{self.remedy}"
            )
        # Of the extremes alone: isfinite would make another tensor as large.
        if not all(extreme.isfinite() for extreme in fitted.aminmax()):
            raise UserError(f"{self.file}: {name} has numbers that are none; take another file")
        return fitted


def reshaped(tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """``tensor`` in ``shape`` if it is the same layer's; None if it is not.

    Caffe's old files fill four dimensions with leading ones: a bias of n is 1 x 1 x 1 x n. And a
    fully connected layer is a convolution over its whole input (CVPR section 3.1): 4096 x 25088
    is 4096 x 512 x 7 x 7, channels first in both.
    """
    if tensor.shape == shape:
        return tensor
    found = list(tensor.shape)
    while len(found) > len(shape) or (len(found) > 2 and found[0] == 1 and len(shape) > 1):
        if not found or found[0] != 1:
            return None
        found = found[1:]
    connected = len(found) == 2 and found[0] == shape[0] and tensor.numel() == shape.numel()
    if tuple(found) == tuple(shape) or (len(shape) == 4 and connected):
        return tensor.reshape(shape)
    return None
