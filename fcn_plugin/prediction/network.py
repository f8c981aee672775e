"""Load a trained network from a config and a checkpoint, ready to predict."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS
from torch import nn

from fcn_plugin.checks.input import Stored
from fcn_plugin.data.numbering import metainfo_of, numbering_of
from fcn_plugin.data.tasks import TASKS
from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.models.segmentor import FCNSegmentor
from fcn_plugin.models.tta import with_tta
from fcn_plugin.prediction.classes import Classes, palette_of
from fcn_plugin.weights.files import check_checkpoint, tensors_and_meta
from fcn_plugin.weights.mapped import build, share
from fcn_plugin.weights.networks import COUNT


def load_network(
    cfg: Config,
    checkpoint: Path,
    device: torch.device,
    tta: bool = False,
    task: str | None = None,
) -> tuple[nn.Module, Classes]:
    """The network in eval mode with its weights, and its classes.

    Args:
        tta: wrap the network in ``cfg.tta_model``, for test-time augmentation.
        task: of a network with ``task_heads`` predict this task instead of the main one; the other
            heads are left out.

    Raises:
        UserError: the checkpoint is damaged or belongs to another network, neither file names
            the classes, or the network has no such task.
    """
    content = check_checkpoint(checkpoint)
    tensors, _ = tensors_and_meta(checkpoint, content)
    network = build(lambda: MODELS.build(cfg.model), tensors)
    stored = Stored.of(content)
    of_config = metainfo_of(cfg.test_dataloader.dataset)
    try:
        stored.refuse_others(network, of_config)
    except UserError as error:  # names the file, since find_checkpoint may have chosen it
        raise UserError(f"{checkpoint}: {error}") from None
    share(network, tensors)
    missing = network.load_state_dict(tensors, strict=False).missing_keys
    if missing := [name for name in missing if not name.endswith(COUNT)]:
        # refuse_others takes a name with "module." before it for the name, which torch does not.
        raise UserError(
            f"{checkpoint}: the checkpoint does not fit the config: {missing[0]} is missing; give "
            "the config that it was trained with"
        )
    of_weights = stored.meta.get("dataset_meta") or of_config
    if task is not None:
        of_weights, of_config = _of_task(network, task, of_weights, of_config)
    if isinstance(network, FCNSegmentor):
        network.keep_only(task)
    classes = _classes(of_weights, of_config)
    names, scores = len(classes.numbers), getattr(network, "num_classes", len(classes.names))
    if names != scores:  # num_classes of an mmseg segmentor is its last head's
        raise UserError(
            f"{checkpoint}: has {names} class names, the network {scores} classes; set metainfo "
            "of test_dataloader.dataset in the config"
        )
    model = MODELS.build(with_tta(cfg.tta_model, network)) if tta else network
    if device.type == "cpu":
        model = revert_sync_batchnorm(model)
    return model.to(device).eval(), classes


def _of_task(network: nn.Module, task: str, *metas: dict[str, Any]) -> list[dict[str, Any]]:
    """What each meta data says of a task; {} if nothing."""
    tasks = list(getattr(network, "task_heads", ()))
    if task not in tasks:
        hint = did_you_mean(task, tasks, f"it has {', '.join(tasks) or 'only the main one'}")
        raise UserError(f"--task {task}: the network has no such task; {hint}")
    return [dict((meta.get(TASKS) or {}).get(task) or {}) for meta in metas]


def image_channels(network: nn.Module) -> int:
    """Number of image channels, from the preprocessor's mean, else from the first convolution."""
    mean = getattr(getattr(network, "data_preprocessor", None), "mean", None)
    if mean is not None and mean.numel() > 1:
        return mean.numel()
    parameters = getattr(network, "backbone", network).parameters()
    return next((kernel.shape[1] for kernel in parameters if kernel.dim() == 4), 3)


def _classes(meta: dict[str, Any], of_config: dict[str, Any]) -> Classes:
    names = meta.get("classes") or of_config.get("classes")
    if not names:
        raise UserError(
            "neither checkpoint nor config names the classes; set metainfo=dict(classes=(...), "
            "palette=[...]) of test_dataloader.dataset"
        )
    # Predictions are written in the numbers of the config's data set, if it has these classes.
    numbering_meta = of_config if len(of_config.get("classes") or ()) == len(names) else meta
    numbering = numbering_of(numbering_meta, len(names))
    colours = palette_of(meta.get("palette"), of_config.get("palette"), len(names))
    return Classes(tuple(names), colours, numbering.reduce_zero_label, numbering.label_map)
