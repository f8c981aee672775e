"""A pair of backbone and head, its complete config, and its row in the table."""

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
ALL = "all"  # as in_index: all levels
FINEST = "finest"  # as c1_in_channels, DeepLabV3+'s second input: the channels of level 0
SIDE = 128  # pixels, enough for every level
YES, SKIPPED = "yes", "not run"


class Levels(NamedTuple):
    """Channels and strides of the levels that a backbone or neck returns."""

    channels: tuple[int, ...]
    strides: tuple[float, ...]  # in pixels of the image


class Row(NamedTuple):
    """A row of the table; a check is "yes", "yes, but ...", "no: why" or "not run: why"."""

    name: str
    forward: str
    backward: str
    onnx: str
    levels: Levels | None = None  # those that the head takes
    parameters: int | None = None
    operations: int | None = None  # of one image; a multiply-add is two

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
    """The backbone and head of one row.

    In ``model`` an ``in_index`` may be negative, counting from the deepest level, or ``ALL``;
    ``in_channels`` are filled in by ``complete``.
    """

    name: str  # of mmseg's backbone or head
    model: dict[str, Any]  # backbone, neck and heads
    small: dict[str, Any] = {}  # what makes it small, merged into ``model``
    multiple: int = 1  # height and width of images must be multiples of this
    fixed: bool = False  # images must have the backbone's ``img_size``
    needs: str = ""  # package of the backbone or head, if not mmseg

    def row(self, outcome: str) -> Row:
        return Row(self.name, outcome, outcome, outcome)


def mmseg_model(config: str) -> dict[str, Any]:
    """The model of one of mmseg's configs; a name without folder means a base model."""
    file = f"{config}.py" if "/" in config else f"_base_/models/{config}.py"
    return single_process(Config.fromfile(CONFIGS / file).model.to_dict())


def single_process(node: Any) -> Any:
    """A part of a config with BN for SyncBN, which needs several processes, and no weights."""
    if isinstance(node, list | tuple):
        return type(node)(single_process(part) for part in node)
    if not isinstance(node, dict):
        return node
    if node.get("type") == "SyncBN":
        return dict(type="BN")
    return {key: single_process(value) for key, value in node.items() if key != "init_cfg"}


def complete(pair: Pair, small: bool = False) -> ConfigDict:
    """The complete config of a pair's model; narrow if ``small``."""
    config = Config(dict(model=deepcopy(pair.model)))
    if small:
        config.merge_from_dict(dict(model=deepcopy(pair.small)))
    model = config.model
    levels = levels_of(model.backbone)
    if model.get("neck"):
        if model.neck.type != "Feature2Pyramid":  # the only neck without this argument
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
    """The levels in training mode, in which some backbones return more."""
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
    """Fill in the ``in_channels`` of every part of a head's config that has an ``in_index``."""
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
