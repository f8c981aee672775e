"""Checks of a ``SkipFusionHead``: its settings, the backbone's levels, a checkpoint.

All raise ``UserError``, one line that names the setting and its remedy.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import isclose, log2
from operator import lt, mul
from typing import Any

from mmengine.logging import print_log
from torch import Tensor

from fcn_plugin.errors import UserError
from fcn_plugin.geometry import AxisMap
from fcn_plugin.models.upsample import LEARNED, Deconv, new_upsampling


def check_settings(
    in_channels: Sequence[int], in_index: Sequence[int], **settings: Sequence | None
) -> None:
    """Check that all settings, including ``strides``, have one value for each level."""
    if len(in_channels) != len(in_index) or not in_index:
        raise UserError(
            f"SkipFusionHead: in_channels {in_channels} and in_index {in_index} must name the "
            "same levels, at least one"
        )
    for name, values in settings.items():
        if values is not None and len(values) != len(in_channels):
            raise UserError(
                f"SkipFusionHead: {name} {tuple(values)} must have one for each of "
                f"{len(in_channels)} levels"
            )
    strides = settings["strides"] or ()
    pairs = zip(strides, [1, *strides[:-1]], strict=False)
    if any(stride < 1 or stride % finer for stride, finer in pairs):
        raise UserError(
            f"SkipFusionHead: strides {tuple(strides)} must each be a multiple of the one before, "
            "finest first"
        )


def check_levels(head: Any, inputs: Sequence[Tensor], in_index: Sequence[int]) -> None:
    """Check that the backbone returns the levels that ``in_channels`` describes."""
    if max(in_index) >= len(inputs):
        raise UserError(
            f"SkipFusionHead: in_index {head.in_index}, but the backbone returns only "
            f"{len(inputs)} levels; see its out_indices"
        )
    channels = tuple(inputs[i].shape[1] for i in in_index)
    if channels != head.in_channels:
        raise UserError(
            f"SkipFusionHead: in_channels is {head.in_channels}, but levels {head.in_index} "
            f"of the backbone have {channels} channels; set in_channels={channels}"
        )


def check_order(head: Any, sizes: Sequence[Sequence[int]], maps: Sequence[AxisMap] | None) -> None:
    """Check that levels come finest first. ``maps``: of the image and the levels, if known."""
    for i, (fine, coarse) in enumerate(pairwise(sizes), start=1):
        # Sizes are not compared if there are maps: in a graph sizes may be symbols.
        if maps[i + 1].scale < maps[i].scale if maps else any(map(lt, fine, coarse)):
            raise UserError(
                f"SkipFusionHead: in_index {head.in_index} puts a level of {tuple(coarse)} pixels "
                f"behind one of {tuple(fine)}; give in_index and in_channels finest first"
            )


def check_strides(head: Any, levels: Sequence[Tensor], size: tuple[int, int]) -> None:
    """Check that learned kernels fit the strides of the levels of an image of ``size``."""
    sizes = [size, *(tuple(level.shape[-2:]) for level in levels)]
    fits = [
        upscore.scale(coarse, fine) == upscore.factor
        for upscore, finer, coarser in zip(head.upscore, sizes, sizes[1:], strict=False)
        if isinstance(upscore, Deconv)
        for fine, coarse in zip(finer, coarser, strict=True)
    ]
    # Sizes are rounded, strides are powers of two.
    measured = tuple(2 ** round(log2(max(size) / max(level))) for level in sizes[1:])
    if all(fits) or measured != tuple(sorted(measured)):  # ``check_order`` reports the wrong order
        return
    strides = tuple(accumulate(head.factors, mul))
    remedy = f"strides={measured}" if measured != strides else "upsample='bilinear'"
    raise UserError(
        f"SkipFusionHead: learned upsampling for strides {strides}, but levels {head.in_index} "
        f"of an image of {size} have {sizes[1:]} pixels; set {remedy}"
    )


def match_checkpoint(head: Any, state_dict: dict, prefix: str, *_: object) -> None:
    """Fit the head to a checkpoint, as a pre-hook of ``load_state_dict``; mmengine would only warn.

    A head with fixed upsampling takes the checkpoint's learned kernels, but does not train them.

    Raises:
        UserError: the checkpoint's ``scale`` or kind of learned upsampling differs from the head's.
    """
    if not any(name.startswith(f"{prefix}score.") for name in state_dict):
        return
    stored = state_dict.get(f"{prefix}level_scale")
    scale = None if stored is None else tuple(stored.tolist())
    if not _same_scale(scale, head.scale):
        raise UserError(
            f"SkipFusionHead: the checkpoint was trained with scale={scale}, the config has "
            f"{head.scale}; set model.decode_head.scale={scale}"
        )
    for i, (upscore, factor) in enumerate(zip(head.upscore, head.factors, strict=True)):
        kernel = state_dict.get(f"{prefix}upscore.{i}.deconv.weight")
        has_bias = f"{prefix}upscore.{i}.deconv.bias" in state_dict
        trained = "conv2d_transpose" if has_bias else "deconv"
        if kernel is None:
            if isinstance(upscore, Deconv) and head.upsample not in LEARNED:
                # Learned kernels of a checkpoint that was loaded earlier.
                head.upscore[i] = new_upsampling(head.upsample, head.out_channels, factor)
        elif head.upsample in LEARNED and head.upsample != trained:
            raise UserError(
                f"SkipFusionHead: the checkpoint was trained with upsample={trained!r}, the config "
                f"has {head.upsample!r}; set model.decode_head.upsample={trained}"
            )
        elif kernel.shape[0] == head.out_channels and type(upscore) is not LEARNED[trained]:
            like = head.score[i].weight
            learned = LEARNED[trained](head.out_channels, factor, kernel.shape[-1])
            head.upscore[i] = learned.to(like).requires_grad_(False)
            print_log(
                f"SkipFusionHead: upscore.{i} uses the learned kernel of the checkpoint, fixed; "
                f"upsample={trained!r} trains it",
                "current",
            )


def _same_scale(a: tuple[float, ...] | None, b: tuple[float, ...] | None) -> bool:
    """Whether the factors agree to 1 %; a checkpoint may store them in bfloat16."""
    if a is None or b is None or len(a) != len(b):
        return a is b
    return all(isclose(x, y, rel_tol=1e-2) for x, y in zip(a, b, strict=True))
