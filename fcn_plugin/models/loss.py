"""Cross entropy and pixel accuracy of upsampled scores, block by block.

For 150 classes and 512 x 512 pixels mmseg's loss takes 157 MB an image for the upsampled scores,
and as much again for their logarithms, their gradient and their ranking. Here the forward pass
computes the gradient too: each block is upsampled, turned into its loss and its gradient, and the
gradient carried back to the coarse grid, all in the cache. The backward pass only scales it.

A mean is over the pixels of all processes. mmseg averages the means of the processes, where pixels
count for more in a process that has fewer of them.
"""

from collections.abc import Iterator, Sequence
from math import e, log, log2
from typing import Any

import torch
from mmseg.models.losses import CrossEntropyLoss
from mmseg.structures.sampler import OHEMPixelSampler
from torch import Tensor, distributed, nn

from fcn_plugin.errors import UserError
from fcn_plugin.models.coarse import Axis, Block, CoarseScores, axis, blocks, class_rows, in_single
from fcn_plugin.models.upsample import Placement, finest

EPS = torch.finfo(torch.float32).eps  # as in mmseg, against division by zero


def is_supported(loss: nn.Module, sampler: object) -> bool:
    """Whether ``blockwise_losses`` can compute this loss with this sampler of pixels."""
    return (
        type(loss) is CrossEntropyLoss
        and not (loss.use_sigmoid or loss.use_mask)
        and loss.reduction in ("mean", "sum")
        and (sampler is None or type(sampler) is OHEMPixelSampler)
    )


def blockwise_losses(
    coarse: CoarseScores,
    labels: Tensor,
    loss: CrossEntropyLoss,
    sampler: OHEMPixelSampler | None,
    ignore_index: int,
    together: bool = False,
) -> dict[str, Tensor]:
    """The losses of mmseg's heads on the upsampled scores: the loss by its name, and ``acc_seg``.

    Labels are N x H x W. In ``acc_seg`` a tie among k classes counts 1/k if the label is one of
    them; mmseg takes any of the classes as the prediction.

    ``together`` is for training by several processes, which must then all call this. For a mean
    loss each process returns its sum x processes / all pixels, so DDP's gradient average is that of
    the mean over all pixels. A sum, ``acc_seg`` and the choice of hard pixels use this process's
    images alone. In evaluation nothing is exchanged between processes.

    Raises:
        UserError: the numbers of class weights and classes differ.
    """
    scores = in_single(coarse.scores)  # as autocast does for mmseg's cross entropy
    valid = labels != ignore_index
    class_weight = None if loss.class_weight is None else scores.new_tensor(loss.class_weight)
    if class_weight is not None and len(class_weight) != scores.shape[1]:
        raise UserError(
            f"CrossEntropyLoss: class_weight has {len(class_weight)} weights for "
            f"{scores.shape[1]} classes; give one for each"
        )
    # A torch operator cannot take placements, only lists of floats.
    placement_arguments = (
        list(map(float, coarse.rows)),
        list(map(float, coarse.cols)),
        coarse.zero_border,
    )
    pixel_weight = None
    if sampler is not None:
        entropies = torch.ops.fcn_plugin.cross_entropy_map(
            scores.detach(), labels, *placement_arguments, ignore_index
        )
        pixel_weight = hard_pixels(entropies, labels, valid, class_weight, sampler)
    with_gradient = scores.requires_grad and torch.is_grad_enabled()
    total, correct, _ = torch.ops.fcn_plugin.cross_entropy_sum(
        scores,
        labels,
        class_weight,
        pixel_weight,
        *placement_arguments,
        ignore_index,
        with_gradient,
    )
    pixels = valid.sum().to(total)
    if loss.reduction == "mean":
        weights = pixels if loss.avg_non_ignore else torch.full_like(pixels, labels.numel())
        if class_weight is not None:
            # Ignored labels beyond the classes have weight 0; mmseg fails on them.
            table = torch.cat([class_weight, class_weight.new_zeros(1)])
            label_weights = table[labels.clamp(max=len(class_weight))]
            weights = (label_weights * valid if loss.avg_non_ignore else label_weights).sum()
        processes = 1
        if together and with_gradient and distributed.is_available():
            processes = distributed.get_world_size() if distributed.is_initialized() else 1
        if processes > 1:
            weights = torch.ops.fcn_plugin.sum_over_processes(weights)
        total = total * processes / (weights + EPS)
    return {
        loss.loss_name: loss.loss_weight * total,
        "acc_seg": 100 * (correct.detach() + EPS) / (pixels + EPS),
    }


def hard_pixels(
    entropies: Tensor,
    labels: Tensor,
    valid: Tensor,
    class_weight: Tensor | None,
    sampler: OHEMPixelSampler,
) -> Tensor:
    """1 for the pixels that ``OHEMPixelSampler`` keeps, else 0; N x H x W.

    ``entropies`` are the pixels' unweighted cross entropies: -log of the label's probability.
    """
    most = sampler.min_kept * len(labels)
    if sampler.thresh is not None:
        probability = (-entropies).exp()
        rising = probability[valid].sort().values
        if not len(rising):
            return torch.zeros_like(entropies)
        threshold = rising[min(most, len(rising) - 1)].clamp(min=sampler.thresh)
        return ((probability < threshold) & valid).to(entropies.dtype)
    if class_weight is not None:
        entropies = entropies * class_weight[labels.where(valid, 0)]
    kept = torch.zeros_like(entropies[valid])
    kept[entropies[valid].sort(descending=True).indices[:most]] = 1
    return torch.zeros_like(entropies).masked_scatter_(valid, kept)


def _blocks_of_scores(
    scores: Tensor,
    labels: Tensor,
    rows: Sequence[float],
    cols: Sequence[float],
    zero_border: bool,
    ignore_index: int,
) -> Iterator[tuple[Block, Tensor, Tensor, Tensor, Tensor]]:
    """Blocks of scores N x h x C x w that are given in bits (times log2 e).

    With each block, of A x B pixels: labels (0 if ignored) and which of them are valid, A x 1 x B;
    the labels' scores less the pixel's highest, A x 1 x B; 2 ** (score - highest), A x C x B.
    """

    def axis_of(numbers: Sequence[float], size: int) -> Axis:
        scale, offset, start, length = numbers
        placement = Placement(scale, offset, int(start), int(length))
        return axis(placement, size, zero_border, scores.dtype, scores.device)

    down, across = axis_of(rows, scores.shape[1]), axis_of(cols, scores.shape[3])
    for block in blocks(len(scores), scores.shape[2], down, across):
        label = block.cut(labels, ignore_index)
        valid = label != ignore_index
        label = label.where(valid, 0)
        fine = block.fine_scores(scores)
        fine -= fine.amax(1, keepdim=True)
        yield block, label, valid, fine.gather(1, label), fine.exp2_()


def _in_bits(scores: Tensor) -> Tensor:
    """Scores in bits, laid out for blocks: on CPUs 2 ** x is several times faster than e ** x."""
    return class_rows(scores * log2(e))


# An operator, so that a compiled training step contains it.
@torch.library.custom_op(
    "fcn_plugin::sum_over_processes", mutates_args=(), schema="(Tensor number) -> Tensor"
)
def _sum_over_processes(number: Tensor) -> Tensor:
    """The sum of ``number``, of any shape, over all processes; without gradient."""
    number = number.clone()
    distributed.all_reduce(number)
    return number


@_sum_over_processes.register_fake
def _(number: Tensor) -> Tensor:
    return torch.empty_like(number)


# Schemas are written out: versions of torch derive different ones from annotations.
@torch.library.custom_op(
    "fcn_plugin::cross_entropy_map",
    mutates_args=(),
    schema="(Tensor scores, Tensor labels, float[] rows, float[] cols, bool zero_border, "
    "int ignore_index) -> Tensor",
)
def _cross_entropy_map(
    scores: Tensor,
    labels: Tensor,
    rows: Sequence[float],
    cols: Sequence[float],
    zero_border: bool,
    ignore_index: int,
) -> Tensor:
    """Cross entropy of each pixel, N x H x W, 0 where ignored; without gradient."""
    entropies = torch.zeros(labels.shape, dtype=scores.dtype, device=scores.device)
    with torch.autocast(scores.device.type, enabled=False):
        bits = _in_bits(scores)
        for block, _, valid, score, powers in _blocks_of_scores(
            bits, labels, rows, cols, zero_border, ignore_index
        ):
            block.put((powers.sum(1, keepdim=True).log() - score * log(2)) * valid, entropies)
    return entropies


@_cross_entropy_map.register_fake
def _(scores: Tensor, labels: Tensor, *_: Any) -> Tensor:
    return torch.empty(labels.shape, dtype=scores.dtype, device=scores.device)


@torch.library.custom_op(
    "fcn_plugin::cross_entropy_sum",
    mutates_args=(),
    schema="(Tensor scores, Tensor labels, Tensor? class_weight, Tensor? pixel_weight, "
    "float[] rows, float[] cols, bool zero_border, int ignore_index, bool with_gradient) "
    "-> (Tensor, Tensor, Tensor)",
)
def _cross_entropy_sum(
    scores: Tensor,
    labels: Tensor,
    class_weight: Tensor | None,
    pixel_weight: Tensor | None,
    rows: Sequence[float],
    cols: Sequence[float],
    zero_border: bool,
    ignore_index: int,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted sum of the pixels' cross entropy, number of correct pixels, gradient of the sum."""
    total, correct = (
        torch.zeros((), dtype=finest(scores.device), device=scores.device) for _ in range(2)
    )
    with torch.autocast(scores.device.type, enabled=False):
        bits = _in_bits(scores)
        gradient = torch.zeros_like(bits) if with_gradient else bits.new_empty(0)
        for block, label, valid, score, powers in _blocks_of_scores(
            bits, labels, rows, cols, zero_border, ignore_index
        ):
            weight = valid.to(bits.dtype)
            # floor() leaves 1 for the pixel's highest scores and 0 for all others.
            correct += ((score == 0) * weight / powers.floor().sum(1, keepdim=True)).sum()
            if class_weight is not None:
                weight *= class_weight[label]
            if pixel_weight is not None:
                weight *= block.cut(pixel_weight, 0)
            power = powers.sum(1, keepdim=True)
            total += ((power.log() - score * log(2)) * weight).sum()
            if with_gradient:
                # A pixel's gradient: its probabilities, less 1 at its label.
                powers *= weight / power
                powers.scatter_add_(1, label, -weight)
                block.add_gradient(powers, gradient)
    if with_gradient:
        gradient = gradient.permute(0, 2, 1, 3).contiguous()
    return total.to(scores.dtype), correct.to(scores.dtype), gradient


@_cross_entropy_sum.register_fake
def _(scores: Tensor, labels: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    with_gradient = others[-1]
    gradient = scores.new_empty(scores.shape if with_gradient else (0,))
    return scores.new_empty(()), scores.new_empty(()), gradient


def _keep(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.arguments = len(inputs)
    ctx.save_for_backward(output[-1])


def _scale(ctx: Any, total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise NotImplementedError(
            "the blockwise loss has no second derivatives; set blockwise=False in the decode head"
        )
    (gradient,) = ctx.saved_tensors
    return total * gradient, *[None] * (ctx.arguments - 1)


_cross_entropy_sum.register_autograd(_scale, setup_context=_keep)
