"""Divide all scores of a network by a number, within its weights.

A head's scores are linear in the weights and biases of the layers that score: upsampling, resizing
and the sum of skips are linear, too. So the division holds wherever the weights go: mmseg, ONNX.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from fcn_plugin.data.tasks import fields
from fcn_plugin.errors import UserError
from fcn_plugin.models.coarse import in_single
from fcn_plugin.models.segmentor import heads_of
from fcn_plugin.models.skip_fusion import SkipFusionHead

# Differences relative to the largest score. Halves are exact in floating point, so that only what a
# device does differently from run to run remains.
TOLERANCE = 1e-4
# Of one channel, whose sigmoid is 1 in single precision from a score of 17 on.
TOLERANCE_OF_PROBABILITIES = 1e-3


def head_of(model: Any, task: str | None) -> Any:
    """The head that predicts a task.

    Raises:
        UserError: there is none.
    """
    heads = dict(heads_of(model))
    if heads.get(task) is None:
        tasks = ", ".join(filter(None, heads)) or "only the main one"
        raise UserError(f"task {task!r}: the network has no such head; it has {tasks}")
    return heads[task]


def score_parameters(head: Any) -> list[nn.Parameter]:
    """The parameters that a decode head's scores are linear in, all together.

    Of a ``SkipFusionHead`` all score layers, and the biases of a learned upsampling, whose kernels
    multiply the scores; of other heads ``conv_seg``, mmseg's last layer.

    Raises:
        UserError: the head has no such layer.
    """
    if isinstance(head, SkipFusionHead):
        upsampling = head.upscore.named_parameters()
        biases = [parameter for name, parameter in upsampling if name.endswith("bias")]
        return [*head.score.parameters(), *biases]
    last = getattr(head, "conv_seg", None)
    if not isinstance(last, nn.Module):
        raise UserError(f"{type(head).__name__}: {_UNKNOWN}")
    return list(last.parameters())


_UNKNOWN = (
    "its scores cannot be divided within its weights, since they do not come from a last layer "
    "conv_seg alone; calibrate a network of another decode head, such as SkipFusionHead or FCNHead"
)


@torch.no_grad()
def divide(parameters: Sequence[Tensor], divisor: float) -> None:
    """Divide parameters in place."""
    for parameter in parameters:
        parameter /= divisor


@torch.no_grad()
def check_divisible(
    model: Any, predict: Callable[[], list[SegDataSample]], task: str | None = None
) -> None:
    """Predict with halved ``score_parameters`` and without, and compare; the weights stay as given.

    Args:
        model: a segmentor.
        predict: of some images.
        task: as in ``head_of``.

    Raises:
        UserError: the scores are not half as high, so that dividing the parameters does not divide
            them; they are NaN or inf; or labels would change with them.
    """
    head = head_of(model, task)
    if getattr(head, "out_channels", None) == 1 and head.threshold != 0.5:
        raise UserError(
            f"{type(head).__name__}: one output channel with threshold={head.threshold}: divided "
            "scores would cross it, and labels change; set threshold=0.5 in the head's config"
        )
    parameters = score_parameters(head)
    originals = [parameter.clone() for parameter in parameters]

    def scores() -> list[Tensor]:
        return [in_single(s.get(fields(task).scores).data) for s in predict()]

    whole = scores()
    try:
        divide(parameters, 2)
        halves = scores()
    finally:
        for parameter, original in zip(parameters, originals, strict=True):
            parameter.copy_(original)
    for one, half in zip(whole, halves, strict=True):
        if not one.isfinite().all():
            raise UserError("the network's scores are NaN or inf at some pixels; train it again")
        if len(one) == 1:
            wrong = (one.double().logit() / 2).sigmoid() - half
            most = TOLERANCE_OF_PROBABILITIES
        else:
            wrong, most = one / 2 - half, TOLERANCE * float(one.abs().max())
        if not float(wrong.abs().max()) <= most:
            raise UserError(f"{type(head).__name__}: {_UNKNOWN}")
