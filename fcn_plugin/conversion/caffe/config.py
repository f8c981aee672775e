"""The text of a config for a network that a prototxt describes."""

import json
import re
from pathlib import Path
from typing import Any

from fcn_plugin.conversion.caffe.network import CaffeNetwork
from fcn_plugin.conversion.caffe.text import as_written
from fcn_plugin.conversion.network import Conversion
from fcn_plugin.system.configs import bases_from
from fcn_plugin.weights.networks import NETS
from fcn_plugin.weights.sources import BANDS, VOC, Input

CONFIG = '''"""{net} on {classifier}, {classes} classes, as {prototxt} describes it.

    fcn-plugin predict {config} {checkpoint} IMAGE --out predictions
"""

_base_ = [
    {pipelines},
    {runtime},
]
model = dict(
    type="FCNSegmentor",
    data_preprocessor=dict(
        type={preprocessor},
{assumed}{pixels}    ),
    backbone=dict(
{backbone}    ),
    decode_head=dict(
{head}    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
{load_image}
load_label = dict(type="LoadCheckedLabel", num_classes={classes})
test_pipeline = [load_image, load_label, dict(type="PackSegInputs")]
test_dataloader = dict(
    _base_.score_loader, dataset=dict(type="BaseSegDataset", pipeline=test_pipeline)
)
'''
PHOTO = "load_image = _base_.load_image"
LOAD_BANDS = """\
# TIFFs of these bands in the network's order; dtype may also be "uint16" or "float32".
load_image = dict(type="LoadBands", bands={channels}, dtype="uint8")"""
PADDING = dict(size_divisor=1, pad_val=0, seg_pad_val=255)
ASSUMED = "        # Assumed, since the prototxt does not say it; correct it if you know better.\n"


def config_text(conversion: Conversion, network: CaffeNetwork, target: Path) -> str:
    """The config for the checkpoint ``target`` of ``network``, to be written beside it."""
    built, stated = conversion.settings, conversion.weights.input
    channels = built["in_channels"]
    image = stated or _assumed(channels)
    photo = image.order != BANDS
    backbone = network.classifier.settings | {
        name: built[name] for name in ("in_channels", "out_indices")
    }
    base = bases_from(target.parent)
    return CONFIG.format(
        net=network.net,
        classifier=network.classifier.key,
        classes=network.num_classes,
        prototxt=_plain(network.path.name),
        config=_plain(target.with_suffix(".py").name),
        checkpoint=_plain(target.name),
        pipelines=_literal(f"{base}/_base_/pipelines.py"),
        runtime=_literal(f"{base}/_base_/runtime.py"),
        preprocessor=_literal("SegDataPreProcessor" if photo else "BandsPreProcessor"),
        assumed="" if stated else ASSUMED,
        pixels=_lines(image.preprocessor() | PADDING),
        backbone=_lines(backbone),
        head=_lines(_head(conversion, network)),
        load_image=PHOTO if photo else LOAD_BANDS.format(channels=channels),
    )


def _head(conversion: Conversion, network: CaffeNetwork) -> dict[str, Any]:
    levels = range(len(NETS[network.net].scores))
    widths = (conversion.state_dict[f"decode_head.score.{i}.weight"].shape[1] for i in levels)
    head: dict[str, Any] = dict(
        type="SkipFusionHead",
        in_channels=tuple(widths),
        in_index=tuple(levels),
        num_classes=network.num_classes,
    )
    if conversion.scale:  # as they were written before they were stored in single precision
        head["scale"] = tuple(as_written(factor) for factor in conversion.scale)
    if conversion.weights.kernels:
        head |= dict(upsample="deconv", kernels=conversion.weights.kernels)
    if conversion.weights.padding == "same":
        head["zero_border"] = True
    return head


def _assumed(channels: int) -> Input:
    """What most networks of the authors' repository subtract; nothing from other channels."""
    return VOC if channels == 3 else Input(BANDS, (0.0,) * channels, (1.0,) * channels)


def _lines(values: dict[str, Any]) -> str:
    """Keyword arguments, but for those that are None."""
    return "".join(
        f"        {name}={_literal(value)},\n"
        for name, value in values.items()
        if value is not None
    )


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _plain(name: str) -> str:
    """A file's name as words in a comment can have it, without what could end the comment."""
    return re.sub(r"[^\w.,+ -]", "_", name)
