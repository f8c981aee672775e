"""Which of our backbones a chain of Caffe's layers is: each layer is compared with its module."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from mmseg.registry import MODELS
from torch import nn

from fcn_plugin.conversion.caffe.graph import Node, settings
from fcn_plugin.errors import quoted
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.layers import windows
from fcn_plugin.weights.networks import BACKBONES, VGG_CONVS

CAFFENET_KERNEL = 11  # side of its first convolution; VGG's is 3
KINDS = {
    nn.Conv2d: "Convolution",
    nn.ReLU: "ReLU",
    nn.MaxPool2d: "Pooling",
    nn.LocalResponseNorm: "LRN",
    nn.Dropout: "Dropout",
}


class Classifier(NamedTuple):
    """A classifier that a prototxt describes.

    Attributes:
        key: its name in ``BACKBONES``.
        settings: our backbone's but for ``in_channels`` and ``out_indices``, and without a
            ``dropout_ratio`` if there is no Dropout.
        names: the prototxt's name of a layer with weights -> the published network's.
        levels: the last layer of each of our stages; a level is its output.
    """

    key: str
    settings: dict[str, Any]
    names: dict[str, str]
    levels: list[Node]

    def build(self, out_indices: Sequence[int]) -> ConvolutionalizedClassifier:
        """The backbone with these levels, without memory for its weights."""
        return _build(self.settings, out_indices)


def recognise_chain(chain: Sequence[Node]) -> Classifier:
    """The classifier whose layers these are, from the image on.

    Raises:
        UserError: names the first layer that our backbone does not have there.
    """
    key, found = _guess(chain)
    outputs = BACKBONES[key].levels.values()
    try:
        backbone = _build(found, [max(map(max, outputs))])
    except ValueError as error:
        raise chain[0].fault(f"no {key} can be as wide ({quoted(error)})") from error
    classifier = Classifier(key, found, {}, [])
    network = f"{key} with padding={found['padding']!r}"
    rest, last, ratios = list(chain), chain[-1], []
    border = backbone.border  # which ours lays around the image before the first layer
    for stage in backbone.stages:
        for name, kind, module in _layers(stage):
            if kind == "Dropout":  # which a network for prediction alone may leave out
                if rest and rest[0].kind == kind:
                    last = rest.pop(0)
                    ratios.append(settings(last)["dropout_ratio"])
                continue
            if not rest:
                raise last.fault(f"is the last before the scores, but {name} of {network} is next")
            last = rest.pop(0)
            if last.kind != kind:
                raise last.fault(f"{last.kind} where {name} of {network}, {kind}, is next")
            last.check(_settings(kind, module, border), f"in {name} of {network}")
            border = 0
            if kind == "Convolution":
                classifier.names[last.name] = name
        classifier.levels.append(last)
    if rest:
        raise rest[0].fault(f"comes after the last layer of {network}")
    if len(set(ratios)) > 1:
        raise last.fault(f"dropout_ratio {ratios[-1]}, but {ratios[0]} of the layer before")
    if ratios:
        found["dropout_ratio"] = ratios[0]
    return classifier


def _guess(chain: Sequence[Node]) -> tuple[str, dict[str, Any]]:
    """The backbone that is most like it, as a key in ``BACKBONES`` and as settings."""
    stages: list[list[dict[str, Any]]] = [[]]  # of convolutions
    for node in chain:
        if node.kind == "Pooling":
            stages.append([])
        elif node.kind == "Convolution":
            stages[-1].append(settings(node))
    if not stages[0]:
        raise chain[0].fault("expected the convolutions of VGG or CaffeNet")
    first, counts = stages[0][0], tuple(map(len, stages[:5]))
    key = "caffenet"
    if first["kernel_size"] != CAFFENET_KERNEL:
        depth = next((depth for depth, convs in VGG_CONVS.items() if convs == counts), 16)
        key = f"vgg{depth}"
    found = BACKBONES[key].settings | dict(
        padding="reference" if first["pad"] > 1 or key == "caffenet" else "same",
        base_channels=max(first["num_output"] // BACKBONES[key].width, 1),
    )
    if stages[-1]:
        found["fc_channels"] = stages[-1][0]["num_output"]
    return key, found


def _build(found: dict[str, Any], out_indices: Sequence[int]) -> ConvolutionalizedClassifier:
    with torch.device("meta"):
        return MODELS.build(found | dict(out_indices=tuple(out_indices)))


def _layers(stage: nn.Module) -> Iterator[tuple[str, str, Any]]:
    """Name, Caffe's type and module of each layer of a stage, in order."""
    for name, module in stage.named_modules():
        for base, kind in KINDS.items():
            if isinstance(module, base):
                yield name, kind, module


def _settings(kind: str, module: Any, border: int) -> dict[str, Any]:
    """The settings of Caffe's layer that does the same to an image without the border."""
    if kind == "LRN":
        numbers = dict(alpha=module.alpha, beta=module.beta, k=module.k)
        return dict(local_size=module.size, **numbers, norm_region="ACROSS_CHANNELS")
    if kind == "ReLU":
        return dict(negative_slope=0.0)
    (window,) = windows(module)
    sides = dict(kernel_size=window.kernel, stride=window.stride, pad=window.padding + border)
    if kind == "Pooling":
        return dict(pool="MAX", **sides, round_mode="CEIL" if window.ceil else "FLOOR")
    return dict(
        num_output=module.out_channels,
        **sides,
        dilation=window.dilation,
        group=module.groups,
        bias_term=module.bias is not None,
    )
