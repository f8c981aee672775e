"""What the network of a config costs: its size, and a training step on random images."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

from fcn_plugin.errors import UserError
from fcn_plugin.system.configs import config_file, one_or_many
from figures.framework import MIB, Setting, peak_memory, quartiles
from figures.steps import training_step

COLUMNS = (
    "config",
    "parameters",
    "GFLOP, {image}",
    "a training step, {crop} (quartiles)",
    "memory of it",
)


class Network(NamedTuple):
    """A config's network. ``operations`` are of one image; ``memory`` is in bytes, None if the
    system does not report it."""

    name: str
    parameters: int
    operations: int
    batch: int
    crop: tuple[int, int]
    step: Callable[[], object]
    memory: int | None


def measured(name: str, setting: Setting, image: tuple[int, int]) -> Network:
    """The network of a config, with a training step that has been run.

    Raises:
        UserError: there is no such config, or its crops have no fixed size.
    """
    config = Config.fromfile(config_file(name))
    crop = config.model.data_preprocessor.get("size")
    if crop is None:
        raise UserError(f"{name}: has no crops of one size; set model.data_preprocessor.size")
    init_default_scope("mmseg")
    if config.model.backbone.type == "TIMMBackbone":
        config.model.backbone.pretrained = False  # timm would fetch them
    model = revert_sync_batchnorm(MODELS.build(config.model))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, *image), mode="tensor")
    batch = config.train_dataloader.batch_size
    classes = one_or_many(config.model.decode_head)[0].num_classes
    step = training_step(model, config.optim_wrapper, setting, batch, crop, classes)
    step()  # makes the optimizer's state
    return Network(
        Path(name).stem,
        sum(parameter.numel() for parameter in model.parameters()),
        counter.get_total_flops(),
        batch,
        crop,
        step,
        peak_memory(step, setting.device),
    )


def table(networks: list[Network], times: list[list[float]], image: tuple[int, int]) -> str:
    """The table in Markdown. ``times``: seconds of each step of each network."""
    crops = {f"{n.batch} x {n.crop[0]} x {n.crop[1]}" for n in networks}
    sizes = dict(image=f"{image[0]} x {image[1]}", crop=" or ".join(sorted(crops)))
    rows = [[column.format(**sizes) for column in COLUMNS], ["---"] * len(COLUMNS)]
    for network, seconds in zip(networks, times, strict=True):
        low, high = quartiles(seconds)
        rows.append(
            [
                f"`{network.name}`",
                f"{network.parameters / 1e6:.2f} M",
                f"{network.operations / 1e9:.2f}",
                f"{median(seconds):.3f} s ({low:.3f}, {high:.3f})",
                "-" if network.memory is None else f"{network.memory / MIB:.0f} MiB",
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
