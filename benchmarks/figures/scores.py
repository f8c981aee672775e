"""Figures of loss, accuracy, gradient and labels from scores at stride 8."""

from functools import partial

import torch
from mmseg.models.losses import CrossEntropyLoss, accuracy
from mmseg.models.utils import resize
from torch import Tensor

from fcn_plugin.models.coarse import CoarseScores, labels
from fcn_plugin.models.loss import blockwise_losses
from fcn_plugin.models.segmentor import original_axes
from fcn_plugin.models.upsample import Placement
from figures.framework import Figure, Setting, Sides

VOID = 255
bilinear = partial(resize, mode="bilinear", align_corners=False)


def coarse_scores(scores: Tensor, size: tuple[int, int]) -> CoarseScores:
    """CoarseScores of [N, C, h, w] that mean mmseg's bilinear resizing to ``size``."""
    rows, cols = (
        Placement(side / n, (side / n - 1) / 2, 0, side)
        for side, n in zip(size, scores.shape[2:], strict=True)
    )
    return CoarseScores(scores, rows, cols, False)


def loss(classes: int, setting: Setting) -> Sides:
    """Loss, accuracy and gradient, on random scores and square regions with 2 % void pixels."""
    side, batch = (64 if setting.quick else 512), 2
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(batch, classes, side // 8, side // 8, generator=generator)
    truth = torch.randint(0, classes, (batch, side // 32, side // 32), generator=generator)
    truth = truth.repeat_interleave(32, 1).repeat_interleave(32, 2)
    truth[torch.rand(truth.shape, generator=generator) < 0.02] = VOID
    scores, truth = scores.to(setting.device), truth.to(setting.device)
    cross_entropy = CrossEntropyLoss(avg_non_ignore=True)

    def theirs() -> tuple[Tensor, Tensor, Tensor]:
        leaf = scores.clone().requires_grad_()
        fine = bilinear(leaf, size=(side, side))
        value = cross_entropy(fine, truth, ignore_index=VOID)
        correct = accuracy(fine, truth, ignore_index=VOID)
        value.backward()
        return value.detach(), correct, leaf.grad

    def ours() -> tuple[Tensor, Tensor, Tensor]:
        leaf = scores.clone().requires_grad_()
        coarse = coarse_scores(leaf, (side, side))
        losses = blockwise_losses(coarse, truth, cross_entropy, None, VOID)
        losses["loss_ce"].backward()
        return losses["loss_ce"].detach(), losses["acc_seg"], leaf.grad

    return Sides(ours, theirs, same_losses)


def same_losses(ours: tuple, theirs: tuple) -> str:
    for one, other in zip(ours, theirs, strict=True):
        atol = 1e-4 * float(other.abs().max())
        torch.testing.assert_close(one.reshape(other.shape), other, rtol=1e-4, atol=atol)
    furthest = float((ours[2] - theirs[2]).abs().max() / theirs[2].abs().max())
    return f"gradients within {furthest:.0e}"


def labelling(
    classes: int, size: tuple[int, int], original: tuple[int, int], setting: Setting
) -> Sides:
    """Labels at the ``original`` size, from smooth random scores of an image of ``size``."""
    if setting.quick:
        size, original = (64, 88), (96, 132)
    coarse = [-(-side // 8) for side in size]
    generator = torch.Generator().manual_seed(0)
    # Regions of the size of objects: random at stride 32, interpolated, with some noise.
    seeds = torch.randn(1, classes, *(side // 4 + 2 for side in coarse), generator=generator)
    scores = bilinear(seeds, size=coarse)
    scores += 0.1 * torch.randn(scores.shape, generator=generator)
    scores = scores.to(setting.device)

    def ours() -> Tensor:
        axes = original_axes(coarse_scores(scores, size), dict(ori_shape=original))
        return labels(scores, *axes)

    def theirs() -> Tensor:
        return bilinear(bilinear(scores, size=size), size=original).argmax(1)

    return Sides(ours, theirs, same_labels)


def same_labels(ours: Tensor, theirs: Tensor) -> str:
    equal = float((ours == theirs).double().mean())
    assert equal >= 0.9999, f"only {100 * equal:.3f} % of the labels are equal"
    return f"{100 * equal:.4f} % equal"


LOSS, LABELS = "mmseg: resize, CrossEntropyLoss, accuracy", "mmseg: two resizes, arg-max"
LARGE = partial(labelling, 150, (512, 683), (768, 1024))
FIGURES = [
    Figure("loss 150 classes", "loss", LOSS, partial(loss, 150)),
    Figure("loss 21 classes", "loss", LOSS, partial(loss, 21)),
    Figure("labels 150 classes", "labels", LABELS, LARGE),
]
