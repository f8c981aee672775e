"""Fill a module from a file: each tensor is used, or dropped with a reason, or an error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fcn_plugin.errors import UserError
from fcn_plugin.weights.recognise import Weights
from fcn_plugin.weights.structure import is_finite


@dataclass
class Report:
    """The file's tensors that were used and dropped, and the module's that the file lacks."""

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
        shapes: the shapes of the module's tensors, by name.
        targets: Caffe's name of a tensor -> the module's name.
        reason: why a tensor without a target is dropped (by Caffe's name); None if it may not be.
        remedy: the end of the error message.

    Returns:
        The file's tensors in the module's shapes; and a report in the file's names.

    Raises:
        UserError: a tensor has no target and may not be dropped, has another shape, or contains
            NaN or inf.
    """
    filled, unplaced = {}, []
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
            unplaced.append(stored_name)
    if unplaced:
        raise UserError(
            f"{weights.path}: has {len(unplaced)} tensors that the network has no place for, e.g. "
            f"{min(unplaced)}; {remedy}"
        )
    report.new = sorted(set(shapes) - set(filled))
    return filled, report


def check_whole(weights: Weights, missing: Sequence[str], remedy: str) -> None:
    """Raise ``UserError`` if the file lacks tensors of the backbone that it is to fill."""
    if missing:
        raise UserError(
            f"{weights.path}: {weights.layout.title} does not hold the whole of this backbone: "
            f"{missing[0]} is missing; {remedy}"
        )


def reshaped(tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """``tensor`` in ``shape`` if both describe the same layer; None if they do not.

    Caffe's old files pad shapes to four dimensions with leading ones: a bias of n numbers is
    1 x 1 x 1 x n. A fully connected layer is a convolution over its whole input (CVPR section 3.1):
    4096 x 25088 is 4096 x 512 x 7 x 7, channels first in both.
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
