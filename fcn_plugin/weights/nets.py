"""The published networks by name, and what their layers are called in the Caffe files."""

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Net:
    """One network of the skip-fusion family; all names finest level first, as in the head.

    Attributes:
        scores: its score layers.
        upscores: its upsampling layers: the finest onto the image, each other onto the next finer.
        scale: the fixed factors before the score layers.
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
HEAD_LAYERS = {layer for net in NETS.values() for layer in (*net.scores, *net.upscores)}


class Backbone(NamedTuple):
    """What a classifier is called here.

    Attributes:
        settings: of the registered backbone.
        first: the layer that sees the image,
        width: and how many ``base_channels`` wide it is.
        levels: for each net that can be made of it, the ``out_indices``.
    """

    settings: dict[str, Any]
    first: str
    width: int
    levels: dict[str, tuple[int, ...]]


_VGG_LEVELS = {"fcn32s": (5,), "fcn16s": (3, 5), "fcn8s": (2, 3, 5), "fcn8s-atonce": (2, 3, 5)}


def _vgg(depth: int, norm: bool) -> Backbone:
    norm_cfg = dict(type="BN") if norm else None
    settings = dict(type="ConvolutionalizedVGG", depth=depth, norm_cfg=norm_cfg)
    return Backbone(settings, "conv1_1", 1, _VGG_LEVELS)


def _alexnet(variant: str, width: int) -> Backbone:
    settings = dict(type="ConvolutionalizedAlexNet", variant=variant)
    return Backbone(settings, "conv1", width, {"fcn32s": (3,)})


def _googlenet(variant: str) -> Backbone:
    settings = dict(type="ConvolutionalizedGoogLeNet", variant=variant)
    return Backbone(settings, "conv1/7x7_s2", 1, {"fcn32s": (4,)})


BACKBONES = {
    **{f"vgg{depth}": _vgg(depth, norm=False) for depth in (11, 13, 16, 19)},
    **{f"vgg{depth}_bn": _vgg(depth, norm=True) for depth in (11, 13, 16, 19)},
    "caffenet": _alexnet("caffenet", 3),
    "alexnet": _alexnet("torchvision", 2),
    "googlenet": _googlenet("paper"),
    "googlenet-torchvision": _googlenet("torchvision"),
}


def net_name(levels: int, at_once: bool) -> str:
    """Which network has this many levels, with or without factors before its score layers."""
    return "fcn8s-atonce" if at_once else tuple(NETS)[levels - 1]


def caffe_name(parameter: str) -> str:
    """The Caffe files' name of a classifier's parameter.

    >>> caffe_name("stages.2.inception_3a.1x1.weight")
    'inception_3a/1x1.weight'
    """
    *layer, kind = parameter.split(".")[2:]
    return f"{'/'.join(layer)}.{kind}"
