"""A network ready to predict, from a config and a checkpoint that belong together."""

import inspect
from colorsys import hsv_to_rgb
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import DATASETS, MODELS
from torch import nn

from fcn_plugin.config import innermost, type_name
from fcn_plugin.engine.input_check import Stored
from fcn_plugin.errors import UserError
from fcn_plugin.models.tta import with_tta
from fcn_plugin.weights.loading import check_checkpoint, state_dict


class Classes(NamedTuple):
    """What labels mean.

    Attributes:
        names, palette: of each class, its colour as RGB.
        first: the data set's own number of class 0: 1 where 0 is kept for "other" (ADE20K).
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    first: int = 0


def load_network(
    cfg: Config, checkpoint: Path, device: torch.device, tta: bool = False
) -> tuple[nn.Module, Classes]:
    """Build the network of a config, fill it from a checkpoint, and tell its classes.

    Args:
        tta: within ``cfg.tta_model``, for test-time augmentation.

    Raises:
        UserError: the checkpoint is damaged or of another network, or nothing names the classes.
    """
    content = check_checkpoint(checkpoint)
    network = MODELS.build(cfg.model)
    stored = Stored.of(content)
    of_config = _of_dataset(cfg.test_dataloader.dataset)
    try:
        stored.refuse_others(network, of_config)
    except UserError as error:  # of a work dir, it was this package that chose the file
        raise UserError(f"{checkpoint}: {error}") from None
    network.load_state_dict(state_dict(content, checkpoint), strict=False)
    classes = _classes(stored.meta.get("dataset_meta") or of_config, of_config)
    named, scored = len(classes.names), getattr(network, "num_classes", len(classes.names))
    if named != scored:  # the host's segmentors have the number of their last head
        raise UserError(
            f"{checkpoint}: has {named} class names, the network {scored} classes; set metainfo "
            "of test_dataloader.dataset in the config"
        )
    model = MODELS.build(with_tta(cfg.tta_model, network)) if tta else network
    if device.type == "cpu":
        model = revert_sync_batchnorm(model)
    return model.to(device).eval(), classes


def _of_dataset(cfg: dict) -> dict[str, Any]:
    """Names, colours and numbering by a data set's config; its files need not be there."""
    cfg = innermost(cfg)[0]
    kind = cfg["type"] if isinstance(cfg["type"], type) else DATASETS.get(type_name(cfg))
    setting = inspect.signature(kind).parameters.get("reduce_zero_label")
    reduced = cfg.get("reduce_zero_label", setting.default if setting else False)
    own = getattr(kind, "METAINFO", {})
    return dict(own, **{"reduce_zero_label": reduced is True, **(cfg.get("metainfo") or {})})


def image_channels(network: nn.Module) -> int:
    """Of the images that a segmentor takes: by its mean pixel, else by its first convolution."""
    mean = getattr(getattr(network, "data_preprocessor", None), "mean", None)
    if mean is not None and mean.numel() > 1:
        return mean.numel()
    kernels = (p for p in getattr(network, "backbone", network).parameters() if p.dim() == 4)
    first = next(kernels, None)
    return 3 if first is None else first.shape[1]


def _classes(meta: dict[str, Any], of_config: dict[str, Any]) -> Classes:
    names = meta.get("classes") or of_config.get("classes")
    if not names:
        raise UserError(
            "neither checkpoint nor config names the classes; set metainfo=dict(classes=(...), "
            "palette=[...]) of test_dataloader.dataset"
        )
    palette = meta.get("palette")
    if not palette or len(palette) != len(names):
        palette = [_hue(i / len(names)) for i in range(len(names))]
    reduced = meta.get("reduce_zero_label", of_config.get("reduce_zero_label"))
    return Classes(tuple(names), tuple(tuple(c) for c in palette), 1 if reduced is True else 0)


def _hue(fraction: float) -> list[int]:
    return [int(255 * level) for level in hsv_to_rgb(fraction, 0.8, 0.9)]
