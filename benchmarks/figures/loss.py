"""Loss and pixel accuracy from stride-8 scores, forward and backward."""

from functools import partial

import torch
from mmseg.models.losses import CrossEntropyLoss, accuracy
from mmseg.models.utils import resize
from torch import Tensor

from fcn_plugin.models.coarse import CoarseScores
from fcn_plugin.models.loss import blockwise_losses
from fcn_plugin.models.upsample import Placement
from figures.framework import Figure, Setting, Sides

IGNORE = 255


def inputs(classes: int, setting: Setting) -> tuple[Tensor, Tensor]:
    """Random scores at stride 8, and labels in squares of one class with 2 % of void between."""
    side, batch = (64 if setting.quick else 512), setting.batch or 2
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(batch, classes, side // 8, side // 8, generator=generator)
    labels = torch.randint(0, classes, (batch, side // 32, side // 32), generator=generator)
    labels = labels.repeat_interleave(32, 1).repeat_interleave(32, 2)
    labels[torch.rand(labels.shape, generator=generator) < 0.02] = IGNORE
    return scores.to(setting.device), labels.to(setting.device)


def sides(classes: int, setting: Setting) -> Sides:
    scores, labels = inputs(classes, setting)
    size = labels.shape[-2:]
    loss = CrossEntropyLoss(avg_non_ignore=True)

    def theirs() -> tuple[Tensor, Tensor, Tensor]:
        leaf = scores.clone().requires_grad_()
        fine = resize(leaf, size=size, mode="bilinear", align_corners=False)
        found = loss(fine, labels, ignore_index=IGNORE)
        correct = accuracy(fine, labels, ignore_index=IGNORE)
        found.backward()
        return found.detach(), correct, leaf.grad

    rows, cols = (Placement(8, 3.5, 0, length) for length in size)

    def ours() -> tuple[Tensor, Tensor, Tensor]:
        leaf = scores.clone().requires_grad_()
        coarse = CoarseScores(leaf, rows, cols, False)
        found = blockwise_losses(coarse, labels, loss, None, IGNORE)
        found["loss_ce"].backward()
        return found["loss_ce"].detach(), found["acc_seg"], leaf.grad

    return Sides(ours, theirs, agree)


def agree(ours: tuple, theirs: tuple) -> str:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            one.reshape(other.shape), other, rtol=1e-4, atol=1e-4 * float(other.abs().max())
        )
    furthest = float((ours[2] - theirs[2]).abs().max() / theirs[2].abs().max())
    return f"gradients within {furthest:.0e}"


HOST = "mmseg: resize, CrossEntropyLoss, accuracy"
FIGURES = [
    Figure("loss 150 classes", "loss", HOST, partial(sides, 150), 0.20, 0.05),
    Figure("loss 21 classes", "loss", HOST, partial(sides, 21), 0.30, 0.10),
]
