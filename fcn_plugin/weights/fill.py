"""Honest loading: every tensor of a file is used or dropped by name, nothing passes unseen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fcn_plugin.errors import UserError
from fcn_plugin.weights.recognise import Weights
from fcn_plugin.weights.structure import is_finite


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


def fill(
    weights: Weights,
    shapes: Mapping[str, torch.Size],
    targets: Mapping[str, str],
    reason: Callable[[str], str | None],
    remedy: str,
) -> tuple[dict[str, Tensor], Report]:
    """The tensors of a module, by its own names, from those of a file.

    Args:
        shapes: of the module's tensors.
        targets: the module's name for each tensor of the file that has a place.
        reason: why one without a place is dropped; None if it should have had one.
        remedy: for a tensor that has no place or does not fit.

    Returns:
        The tensors that the file has, in the module's shapes; and a report in the file's names.

    Raises:
        UserError: a tensor that neither has a place nor may be dropped, does not fit, or contains
            NaN or inf.
    """
    filled, homeless = {}, []
    report = Report(dropped=dict(weights.dropped))
    for name, tensor in weights.tensors.items():
        stored_name, target = weights.names[name], targets.get(name)
        if target is not None:
            fitted = reshaped(tensor, shapes[target])
            if fitted is None:
                raise UserError(
                    f"{weights.path}: {stored_name} is {tuple(tensor.shape)}, but {target} is "
                    f"{tuple(shapes[target])}; {remedy}"
                )
            if not is_finite(fitted):
                raise UserError(
                    f"{weights.path}: {stored_name} contains NaN or inf; use another file"
                )
            filled[target] = fitted
            report.used.append(stored_name)
        elif why := reason(name):
            report.dropped[stored_name] = why
        else:
            homeless.append(stored_name)
    if homeless:
        raise UserError(
            f"{weights.path}: has {len(homeless)} tensors that there is no place for, e.g. "
            f"{min(homeless)}; {remedy}"
        )
    report.new = sorted(set(shapes) - set(filled))
    return filled, report


def reshaped(tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """``tensor`` in ``shape`` if it is the same layer's; None if it is not.

    Caffe's old files fill four dimensions with leading ones: a bias of n is 1 x 1 x 1 x n. And a
    fully connected layer is a convolution over its whole input (CVPR section 3.1): 4096 x 25088
    is 4096 x 512 x 7 x 7, channels first in both.
    """
    if tensor.shape == shape:
        return tensor
    stored = list(tensor.shape)
    while len(stored) > len(shape) or (len(stored) > 2 and stored[0] == 1 and len(shape) > 1):
        if not stored or stored[0] != 1:
            return None
        stored = stored[1:]
    connected = len(stored) == 2 and stored[0] == shape[0] and tensor.numel() == shape.numel()
    if tuple(stored) == tuple(shape) or (len(shape) == 4 and connected):
        return tensor.reshape(shape)
    return None
