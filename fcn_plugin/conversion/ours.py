"""Which of our networks a file's tensors fill: backbone settings, factors and shipped config."""

from collections.abc import Sequence
from functools import partial
from math import isclose
from typing import Any

from fcn_plugin.errors import UserError
from fcn_plugin.weights.networks import BACKBONES, NETS, Backbone
from fcn_plugin.weights.recognise import NYUD_CLASSES, Weights
from fcn_plugin.weights.sources import FEATURES_ONLY, NYUD, TORCHVISION, Input

REMEDY = "the file is damaged, truncated or of another network; download it again"
FC_CHANNELS = 4096  # of the published networks

# (net, classifier, number of classes, whether the input is Caffe's) -> name of the shipped config.
CONFIGS = {
    **{
        (net, "vgg16", classes, caffe): f"{net}_vgg16_{recipe}"
        for classes, caffe, recipe in (
            (21, True, "voc2011-heavy"),
            (60, True, "pascal-context-heavy"),
            (33, True, "siftflow-heavy"),
            (21, False, "voc"),
        )
        for net in ("fcn32s", "fcn16s", "fcn8s")
    },
    ("fcn8s", "vgg16", 60, False): "fcn8s_vgg16_pascal-context",
    ("fcn8s-atonce", "vgg16", 21, True): "fcn8s-atonce_vgg16_voc2011-heavy",
    ("fcn32s", "caffenet", 21, True): "fcn32s_alexnet_voc2011",
    ("fcn32s", "googlenet", 21, True): "fcn32s_googlenet_voc2011",
}


def from_caffe(weights: Weights) -> bool:
    """Whether the weights were trained on Caffe's input (BGR)."""
    return weights.input is not None and weights.input.order == "BGR"


def variant(weights: Weights) -> str:
    """The key in BACKBONES; our own two AlexNets differ in the second convolution."""
    name = weights.layout.classifier
    if name == "caffenet":
        first, second = (weights.tensors.get(f"conv{i}.weight") for i in (1, 2))
        if first is not None and second is not None and first.shape[:1] == second.shape[1:2]:
            return "alexnet"
    return name


def first_net(weights: Weights, backbone: Backbone) -> str:
    """The key in ``NETS`` of the network to begin with, of a classifier.

    FCN-32s, the first stage of the published chain, if it is the authors': in BGR, or in RGB from
    MatConvNet or Frossard, never divided. Else FCN-8s, where the backbone has its levels.
    """
    published = from_caffe(weights) or (
        weights.input is not None
        and weights.input is not FEATURES_ONLY
        and set(weights.input.std) == {1.0}
    )
    return "fcn32s" if published or "fcn8s" not in backbone.levels else "fcn8s"


def backbone_settings(weights: Weights, backbone: Backbone, net: str) -> dict[str, Any]:
    """Settings of a backbone as wide as the file's, with the levels of ``net``."""
    kernel = weights.tensors.get(f"{backbone.first}.weight")
    if kernel is None or kernel.dim() != 4:
        fault = "missing" if kernel is None else tuple(kernel.shape)
        raise UserError(
            f"{weights.path}: {backbone.first}.weight is {fault}, expected 4 dimensions; {REMEDY}"
        )
    settings = backbone.settings | dict(
        base_channels=max(kernel.shape[0] // backbone.width, 1),
        in_channels=kernel.shape[1],
        out_indices=backbone.levels[net],
    )
    if (bias := weights.tensors.get("fc6.bias")) is not None:
        settings["fc_channels"] = bias.numel()
    return settings


def shipped_config(
    weights: Weights, net: str, num_classes: int, settings: dict[str, Any]
) -> str | None:
    """The name of the shipped config of a network with published classes; None if there is none."""
    nyud = nyud_of(weights.input) if num_classes == NYUD_CLASSES else None
    caffe = from_caffe(weights) or nyud is not None
    fits = (
        settings["base_channels"] == BACKBONES[variant(weights)].base_channels
        and settings["in_channels"] == (4 if nyud == "nyud-color-d" else 3)
        and settings.get("fc_channels", FC_CHANNELS) == FC_CHANNELS
        and weights.padding in (None, "reference" if caffe else "same")
        # The configs on RGB divide by torchvision's std; VGG in RGB from Caffe does not.
        and (caffe or weights.input in (None, TORCHVISION))
        and bool(weights.layout.streams) == (nyud == "nyud-color-hha")
    )
    if not fits:
        return None
    if nyud:
        published = (net, weights.layout.classifier) == ("fcn32s", "vgg16")
        return f"fcn32s_vgg16_{nyud}-heavy" if published else None
    return CONFIGS.get((net, weights.layout.classifier, num_classes, caffe))


def nyud_of(input: Input | None) -> str | None:
    """The name in ``NYUD`` of an input, whose numbers may be rounded to single precision."""
    if input is None:
        return None
    for name, of_nyud in NYUD.items():
        alike = (input.order, len(input.mean)) == (of_nyud.order, len(of_nyud.mean))
        if alike and all(map(partial(isclose, rel_tol=1e-6), input.mean, of_nyud.mean)):
            return name
    return None


def scale_of(weights: Weights, net: str) -> tuple[float, ...] | None:
    """The file's factors, or ``net``'s if unknown; UserError if only one of them has factors."""
    wanted, stored = NETS[net].scale, weights.scale
    has_skips = any(name.startswith("score_pool") for name in weights.tensors)
    if not has_skips or (stored is None and weights.scale_untold):
        return wanted
    if (stored is None) != (wanted is None):
        trained = f"with scales {numbers(stored)}" if stored else "without scales"
        raise UserError(
            f"{weights.path}: its skip layers were trained {trained}, and {net} has "
            f"{numbers(wanted) if wanted else 'none'}; leave --net out"
        )
    return stored


def numbers(values: Sequence[float]) -> str:
    """For messages: "0.0001/0.01/1"."""
    return "/".join(f"{value:.6g}" for value in values)
