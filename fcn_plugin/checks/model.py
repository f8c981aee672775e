"""Check a model's heads, losses, windows and BatchNorm before it is trained."""

from collections.abc import Iterator
from math import log
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.dist import get_world_size
from mmseg.models import DepthEstimator, EncoderDecoder
from mmseg.models.losses import CrossEntropyLoss, FocalLoss, LovaszLoss, TverskyLoss
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fcn_plugin.checks.config import is_installed
from fcn_plugin.checks.tasks import task_heads
from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.errors import UserError
from fcn_plugin.models.bands import BandsPreProcessor
from fcn_plugin.models.streams import Streams

# Heads of mmseg whose classes are not the data set's: edges and depths.
OTHER_CLASSES = ("STDCHead", "VPDDepthHead")


def heads(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Path in the config and module of each head: cascaded, auxiliary and of tasks, too."""
    for name in ("decode_head", "auxiliary_head"):
        head = getattr(model, name, None)
        if isinstance(head, nn.ModuleList):
            yield from ((f"model.{name}.{i}", each) for i, each in enumerate(head))
        elif head is not None:
            yield f"model.{name}", head
    for task, head in task_heads(model).items():
        yield f"model.task_heads.{task}", head


def check_classes(model: nn.Module, dataset: str, classes: int) -> None:
    """Raise ``UserError`` if a head's number of classes is not that of ``dataset``.

    Tasks have classes of their own, see ``check_tasks``.
    """
    of_tasks = task_heads(model).values()
    for place, head in heads(model):
        if head in of_tasks:
            continue
        scored = getattr(head, "num_classes", None)
        if scored not in (None, classes) and type(head).__name__ not in OTHER_CLASSES:
            raise UserError(
                f"{dataset} has {classes} classes, but {place} scores {scored}; set "
                f"{place}.num_classes={classes}"
            )


def check_bands(model: nn.Module, loader: str, bands: int) -> None:
    """Raise ``UserError`` unless the model takes the bands that ``loader`` gives."""
    preprocessor: Any = getattr(model, "data_preprocessor", None)
    loader = f"{loader} gives {bands} bands"
    if not isinstance(preprocessor, BandsPreProcessor):
        raise UserError(
            f"{loader}, but {type(preprocessor).__name__} is for BGR; set model.data_preprocessor="
            "dict(type='BandsPreProcessor', mean=[...], std=[...]) with a number for each band"
        )
    backbone: Any = getattr(model, "backbone", model)
    if isinstance(backbone, Streams):
        of_backbone = sum(backbone.channels), "backbone has channels of "
    else:
        kernels = (p for p in backbone.parameters() if p.dim() == 4)
        of_backbone = next(kernels, torch.empty(0, bands)).shape[1], "backbone has in_channels="
    for taken, setting in (
        (preprocessor.get_buffer("mean").numel(), "data_preprocessor has mean and std of "),
        of_backbone,
    ):
        if taken != bands:
            raise UserError(f"{loader}, but model.{setting}{taken}; set both to {bands}")


def check_losses(model: nn.Module, device: str) -> None:
    """Raise ``UserError`` if a head's loss cannot be computed from its scores, or is always 0."""
    for place, head in heads(model):
        losses = getattr(head, "loss_decode", None)
        channels = getattr(head, "out_channels", None)
        if channels == 1 and head.num_classes > 2:
            raise UserError(
                f"{place} has out_channels=1 for {head.num_classes} classes; set "
                f"{place}.out_channels={head.num_classes}"
            )
        for loss in losses if isinstance(losses, nn.ModuleList) else [losses]:
            if channels == 1 and _has_softmax(loss):
                raise UserError(
                    f"{place}: a single channel (num_classes={head.num_classes}) with a softmax is "
                    f"always 1, its loss 0, and nothing is learned; set {place}.num_classes=2 "
                    f"{place}.out_channels=1 {place}.loss_decode.use_sigmoid=True, or "
                    "num_classes=out_channels=2, and name both classes in the data sets' "
                    "metainfo.classes (background first)"
                )
            weights: Any = getattr(loss, "class_weight", None)
            listed = weights is not None and channels is not None and not isinstance(weights, str)
            if listed and len(weights) != channels:
                raise UserError(
                    f"{place}.loss_decode.class_weight has {len(weights)} weights for {channels} "
                    "channels; give one for each"
                )
            if isinstance(loss, FocalLoss) and (fault := _fault_of_focal(device)):
                raise UserError(
                    f"{place}.loss_decode: mmseg's FocalLoss {fault}; use CrossEntropyLoss with "
                    "class_weight, or with sampler=dict(type='OHEMPixelSampler') in the head, "
                    "which also emphasise rare classes or hard pixels"
                )


def _has_softmax(loss: object) -> bool:
    if isinstance(loss, CrossEntropyLoss):
        return not (loss.use_sigmoid or loss.use_mask)
    if isinstance(loss, LovaszLoss):
        return loss.cls_criterion.__name__ == "lovasz_softmax"
    return isinstance(loss, TverskyLoss)


def _fault_of_focal(device: str) -> str:
    if device == "cpu":
        return "fails on a CPU (it takes one class of the labels for all)"
    if not is_installed("mmcv._ext"):
        return "needs the operators of full mmcv, which mmcv-lite lacks"
    return ""


def weighted_losses(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Config path and fault of each of mmseg's cross entropies that is wrong on ignored pixels."""
    for place, head in heads(model):
        loss = getattr(head, "loss_decode", None)
        if (
            isinstance(loss, CrossEntropyLoss)
            and loss.class_weight is not None
            and not (loss.use_sigmoid or loss.use_mask)
            and loss.reduction == "mean"
            and not getattr(head, "loss_is_blockwise", False)
            and (fault := _fault_on_void(loss))
        ):
            yield f"{place}.loss_decode", fault


def _fault_on_void(loss: CrossEntropyLoss) -> str:
    """What a loss with class weights does wrong; '' if nothing.

    Tried on one pixel, and on two of which one is ignored: OpenMMLab's looks for the weight of
    class 255; OneDL's always fails with ``avg_non_ignore``, and without it averages as if it were
    set.
    """
    classes = len(loss.class_weight)
    alone = torch.zeros(1, classes, 1, 1), torch.tensor([[[0]]])
    beside_void = torch.zeros(1, classes, 1, 2), torch.tensor([[[0, IGNORED]]])
    try:
        loss(*alone, ignore_index=IGNORED)
    except IndexError:
        return "always fails"
    try:
        value = loss(*beside_void, ignore_index=IGNORED)
    except IndexError:
        return "fails on ignored pixels, if there are any"
    if not loss.avg_non_ignore and value > log(classes) / 2 + 1e-3:
        return "averages over the pixels that are not ignored, though avg_non_ignore=False"
    return ""


def check_windows(model: nn.Module) -> None:
    """Raise ``UserError`` for sliding windows on which the first validation would fail."""
    if not isinstance(model, EncoderDecoder) or isinstance(model, DepthEstimator):
        return  # DepthEstimator has other modes
    settings = model.test_cfg or {}
    mode = settings.get("mode", "whole")
    if mode not in ("whole", "slide"):
        raise UserError(f"model.test_cfg.mode={mode!r}; set it to 'whole' or 'slide'")
    if mode == "slide":
        crop, stride = settings.get("crop_size"), settings.get("stride")
        if crop is None or stride is None:
            raise UserError(
                "model.test_cfg.mode='slide' needs windows; set model.test_cfg.crop_size and "
                "model.test_cfg.stride, each (height, width)"
            )
        if any(step > side for step, side in zip(stride, crop, strict=False)):
            raise UserError(
                f"model.test_cfg.stride={tuple(stride)} leaves gaps between windows of "
                f"{tuple(crop)}; set it to at most that"
            )


def pooled_batch_norm(model: nn.Module) -> str | None:
    """Name of the first BatchNorm after pooling to one pixel, which needs two images; or None."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Sequential) and len(module) > 1:
            pool, conv = module[0], module[1]
            if (
                isinstance(pool, nn.AdaptiveAvgPool2d)
                and pool.output_size in (1, (1, 1))
                and isinstance(conv, ConvModule)
                and conv.with_norm
                and isinstance(conv.norm, _BatchNorm)
                and not (isinstance(conv.norm, nn.SyncBatchNorm) and get_world_size() > 1)
            ):
                return name
    return None
