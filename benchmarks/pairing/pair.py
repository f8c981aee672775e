"""A pair of backbone and head: its config without what follows from the rest, and its row."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import mmseg
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import Tensor

CONFIGS = Path(mmseg.__file__).parent / ".mim" / "configs"
CLASSES = 21
ALL = "all"  # as in_index: every level there is
FINEST = "finest"  # as c1_in_channels, DeepLabV3+'s second input: the channels of level 0
SIDE = 128  # pixels; each level has some
YES, SKIPPED = "yes", "not run"


class Levels(NamedTuple):
    """What a backbone, or the neck behind it, returns."""

    channels: tuple[int, ...]
    strides: tuple[float, ...]  # in pixels of the image


class Row(NamedTuple):
    """A check is "yes", "yes, but ...", "no: why" or "not run: why"."""

    name: str
    forward: str
    backward: str
    onnx: str
    levels: Levels | None = None  # those that the head takes
    parameters: int | None = None
    operations: int | None = None  # of one image; a multiplication and an addition are two

    @property
    def checks(self) -> tuple[str, str, str]:
        return self.forward, self.backward, self.onnx

    @property
    def skipped(self) -> bool:
        return self.forward.startswith(SKIPPED)

    @property
    def failed(self) -> bool:
        return not self.skipped and not all(result.startswith(YES) for result in self.checks)


class Pair(NamedTuple):
    """One row of the table.

    In ``model`` an ``in_index`` may count from the deepest level, -1, or be ``ALL``, and
    ``in_channels`` are filled in.
    """

    name: str  # of mmseg's half
    model: dict[str, Any]  # backbone, neck and heads
    small: dict[str, Any] = {}  # what makes it small, merged into ``model``
    multiple: int = 1  # of so many pixels images have to be high and wide
    fixed: bool = False  # images have to be of the backbone's ``img_size``
    needs: str = ""  # the package that it is taken from, where that is not mmseg

    def row(self, outcome: str) -> Row:
        return Row(self.name, outcome, outcome, outcome)


def mmseg_model(config: str) -> dict[str, Any]:
    """The model of one of mmseg's configs; of its base models where only a file is named."""
    file = f"{config}.py" if "/" in config else f"_base_/models/{config}.py"
    return single_process(Config.fromfile(CONFIGS / file).model.to_dict())


def single_process(node: Any) -> Any:
    """A part of a config without SyncBN, which needs several processes, and without weights."""
    if isinstance(node, list | tuple):
        return type(node)(single_process(part) for part in node)
    if not isinstance(node, dict):
        return node
    if node.get("type") == "SyncBN":
        return dict(type="BN")
    return {key: single_process(value) for key, value in node.items() if key != "init_cfg"}


def complete(pair: Pair, small: bool = False) -> ConfigDict:
    """The config of a model that builds; of small widths if asked."""
    config = Config(dict(model=deepcopy(pair.model)))
    if small:
        config.merge_from_dict(dict(model=deepcopy(pair.small)))
    model = config.model
    levels = levels_of(model.backbone)
    if model.get("neck"):
        if model.neck.type != "Feature2Pyramid":  # the one neck that has no such argument
            model.neck.in_channels = list(levels.channels)
        levels = levels_of(model.backbone, model.neck)
    cascade = isinstance(model.decode_head, list)
    model.type = "CascadeEncoderDecoder" if cascade else "FCNSegmentor"
    if cascade:
        model.num_stages = len(model.decode_head)
    model.data_preprocessor = mmseg_model("fcn_r50-d8")["data_preprocessor"]
    if pair.multiple > 1:
        model.data_preprocessor.test_cfg = dict(size_divisor=pair.multiple)
    model.setdefault("train_cfg", dict())
    model.setdefault("test_cfg", dict(mode="whole"))
    for part in ("decode_head", "auxiliary_head"):
        fill(model.get(part), levels.channels)
    return model


def levels_of(backbone: dict, neck: dict | None = None) -> Levels:
    """As in training, where some backbones show more levels."""
    side = backbone.get("img_size", [SIDE])[0]
    with torch.no_grad(), DefaultScope.overwrite_default_scope("mmseg"):
        levels: Any = torch.zeros(2, 3, side, side)
        for part in filter(None, (backbone, neck)):
            levels = MODELS.build(deepcopy(part))(levels)
    levels = [levels] if isinstance(levels, Tensor) else levels
    return Levels(
        tuple(level.shape[1] for level in levels),
        tuple(side / level.shape[-1] for level in levels),
    )


def fill(node: Any, channels: Sequence[int]) -> None:
    """Give every part of a head's config that has an ``in_index`` its ``in_channels``."""
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for part in parts:
        fill(part, channels)
    if not isinstance(node, dict) or "in_index" not in node:
        return
    if node.get("c1_in_channels") == FINEST:
        node["c1_in_channels"] = channels[0]
    index = range(len(channels)) if node["in_index"] == ALL else node["in_index"]
    if isinstance(index, int):
        node["in_index"] = index % len(channels)
        node.setdefault("in_channels", channels[index])
    else:
        node["in_index"] = [i % len(channels) for i in index]
        node.setdefault("in_channels", [channels[i] for i in index])
