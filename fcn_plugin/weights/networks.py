"""Tables of the published networks and backbones: their layers' names, levels and settings."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

# A buffer of BatchNorm; files from before 2018 lack it, and nothing depends on it.
COUNT = "num_batches_tracked"
# Caffe's names of the layers that a file lacks if it holds features only.
CONNECTED = ("fc6.", "fc7.")

# Convolutions in each of VGG's five stages (Simonyan and Zisserman, table 1: A, B, D, E).
VGG_CONVS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
# Blocks in each of EfficientNet-Lite0's seven stages: B0's (Tan and Le, table 1).
LITE0_BLOCKS = (1, 2, 2, 3, 3, 4, 1)


@dataclass(frozen=True)
class Net:
    """One network of the skip-fusion family; names are Caffe's, finest level first as in the head.

    Attributes:
        scores: its score layers.
        upscores: its upsampling layers, each to the next finer level, the first to the image.
        scale: fixed factors on the levels, applied before the score layers; None without.
    """

    scores: tuple[str, ...]
    upscores: tuple[str, ...]
    scale: tuple[float, ...] | None = None


_8S = ("score_pool3", "score_pool4", "score_fr"), ("upscore8", "upscore_pool4", "upscore2")

NETS = {
    "fcn32s": Net(("score_fr",), ("upscore",)),
    "fcn16s": Net(("score_pool4", "score_fr"), ("upscore16", "upscore2")),
    "fcn8s": Net(*_8S),
    "fcn8s-atonce": Net(*_8S, scale=(0.0001, 0.01, 1.0)),
}
# What the two streams of late fusion see; their layers' names end so (nyud-fcn32s-color-hha).
STREAMS = ("color", "hha")
# Caffe's name of the first layer on color and depth (nyud-fcn32s-color-d).
EARLY_FUSION = "conv1_1_bgrd"
# Our own tensors of one of our backbones, or of a stream of them.
OF_BACKBONE = re.compile(r"(backbone\.)?(streams\.\d+\.)?stages\.")
HEAD_LAYERS = {layer for net in NETS.values() for layer in (*net.scores, *net.upscores)}
# In files of several tasks each layer of a head ends in its task: score_fr_sem, score_fr_geo.
# Here the main task's have no ending.
MAIN_ENDING = "_sem"


class Backbone(NamedTuple):
    """A classifier as a backbone.

    Attributes:
        settings: the registered backbone's type and variant.
        base_channels: the published network's.
        first: Caffe's name of the layer that sees the image.
        width: the number of channels of that layer, in units of ``base_channels``.
        levels: name in ``NETS`` -> ``out_indices``, for each network that it can be part of.
    """

    settings: dict[str, Any]
    base_channels: int
    first: str
    width: int
    levels: dict[str, tuple[int, ...]]


_VGG_LEVELS = {"fcn32s": (5,), "fcn16s": (3, 5), "fcn8s": (2, 3, 5), "fcn8s-atonce": (2, 3, 5)}


def _variant(kind: str, variant: str, *shape: Any) -> Backbone:
    return Backbone(dict(type=f"Convolutionalized{kind}", variant=variant), *shape)


BACKBONES = {
    **{
        f"vgg{depth}{suffix}": Backbone(
            dict(type="ConvolutionalizedVGG", depth=depth, norm_cfg=norm_cfg),
            *(64, "conv1_1", 1, _VGG_LEVELS),
        )
        for suffix, norm_cfg in (("", None), ("_bn", dict(type="BN")))
        for depth in VGG_CONVS
    },
    "caffenet": _variant("AlexNet", "caffenet", 32, "conv1", 3, {"fcn32s": (3,)}),
    "alexnet": _variant("AlexNet", "torchvision", 32, "conv1", 2, {"fcn32s": (3,)}),
    "googlenet": _variant("GoogLeNet", "paper", 64, "conv1/7x7_s2", 1, {"fcn32s": (4,)}),
    "googlenet-torchvision": _variant(
        "GoogLeNet", "torchvision", 64, "conv1/7x7_s2", 1, {"fcn32s": (4,)}
    ),
}


def net_name(levels: int, at_once: bool) -> str | None:
    """The name in NETS of the network with this many levels; ``at_once``: with fixed factors."""
    for name, net in NETS.items():
        if len(net.scores) == levels and (net.scale is not None) == at_once:
            return name
    return None


def net_of(model: Any) -> str | None:
    """The name in NETS of a built segmentor; None if its head, backbone or levels match none."""
    head: Any = getattr(model, "decode_head", None)
    backbone = getattr(model, "backbone", None)
    # Of late fusion each stream is the network, and each level there once for each of them.
    streams = list(getattr(backbone, "streams", [backbone]))
    outputs = [*chain(*zip(*(getattr(s, "out_indices", ()) for s in streams), strict=False))]
    in_index = getattr(head, "in_index", ())
    if type(head).__name__ != "SkipFusionHead" or max(in_index) >= len(outputs):
        return None
    name = net_name(len(in_index) // len(streams), at_once=head.scale is not None)
    levels = [outputs[i] for i in in_index]
    published = (
        [level for level in backbone.levels.get(name or "", ()) for _ in streams]
        for backbone in BACKBONES.values()
        if {backbone.settings["type"]} == {type(stream).__name__ for stream in streams}
    )
    return name if levels in published else None


def of_task(layer: str, task: str | None) -> str:
    """The name of a task's layer; None is the main task.

    >>> of_task("score_fr", "geo")
    'score_fr_geo'
    """
    return layer if task is None else f"{layer}_{task}"


def caffe_name(parameter: str) -> str:
    """The Caffe files' name of a backbone's parameter.

    >>> caffe_name("stages.2.inception_3a.1x1.weight")
    'inception_3a/1x1.weight'
    >>> caffe_name("streams.1.stages.5.fc6.weight")
    'fc6hha.weight'
    """
    stream = ""
    if parameter.startswith("streams."):
        _, number, parameter = parameter.split(".", 2)
        stream = STREAMS[int(number)]
    *layer, kind = parameter.split(".")[2:]
    return f"{'/'.join(layer)}{stream}.{kind}"


def of_stream(names: Iterable[str], stream: str) -> dict[str, str]:
    """Caffe's name of a tensor of one stream without ``stream`` -> with it.

    >>> of_stream(["fc6color.weight", "fc6hha.weight", "upscore.weight"], "hha")
    {'fc6.weight': 'fc6hha.weight'}
    """
    parts = ((name, *name.rpartition(".")[::2]) for name in names)
    return {
        f"{layer.removesuffix(stream)}.{kind}": name
        for name, layer, kind in parts
        if layer.endswith(stream)
    }
