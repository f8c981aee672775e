"""The layers of published files in small, each drawn from a seed."""

import numpy as np
import torch
from torch import nn

BASE, FC = 4, 24  # channels of the first layer, and of fc6 and fc7
WIDTHS = (1, 2, 4, 8, 8)  # of VGG's stages, in BASE
CONVS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
SCORES = {
    "fcn32s": ("score_fr",),
    "fcn16s": ("score_fr", "score_pool4"),
    "fcn8s": ("score_fr", "score_pool4", "score_pool3"),
}
SCORES["fcn8s-atonce"] = SCORES["fcn8s"]
UPSCORES = {
    "fcn32s": {"upscore": 64},
    "fcn16s": {"upscore2": 4, "upscore16": 32},
    "fcn8s": {"upscore2": 4, "upscore_pool4": 4, "upscore8": 16},
}
UPSCORES["fcn8s-atonce"] = UPSCORES["fcn8s"]
FACTORS = {"score_pool4": 0.01, "score_pool3": 0.0001}

Layers = dict[str, list[np.ndarray]]


def bilinear(classes: int, side: int) -> np.ndarray:
    """Caffe's surgery: the kernel on the diagonal of a full class x class one."""
    factor = (side + 1) // 2
    centre = factor - 1 if side % 2 else factor - 0.5
    tent = 1 - abs(np.arange(side) - centre) / factor
    kernel = np.zeros((classes, classes, side, side), np.float32)
    kernel[range(classes), range(classes)] = np.outer(tent, tent)
    return kernel


def layer(rng: np.random.Generator, shape: tuple[int, ...]) -> list[np.ndarray]:
    scale = (2 / np.prod(shape[1:])) ** 0.5
    return [
        (rng.standard_normal(shape) * scale).astype(np.float32),
        (rng.standard_normal(shape[0]) * 0.1).astype(np.float32),
    ]


def vgg_layers(base: int = BASE, fc: int = FC) -> Layers:
    rng = np.random.default_rng(0)
    layers, channels = {}, 3
    for stage, (convs, wide) in enumerate(zip(CONVS[16], WIDTHS, strict=True), 1):
        for conv in range(1, convs + 1):
            layers[f"conv{stage}_{conv}"] = layer(rng, (wide * base, channels, 3, 3))
            channels = wide * base
    layers["fc6"] = layer(rng, (fc, channels, 7, 7))
    layers["fc7"] = layer(rng, (fc, fc, 1, 1))
    return layers


def fcn_layers(net: str, classes: int = 21, base: int = BASE, fc: int = FC) -> Layers:
    """The layers of the published caffemodel of ``net``, in its order."""
    layers, rng = vgg_layers(base, fc), np.random.default_rng(1)
    inputs = {"score_fr": fc, "score_pool4": 8 * base, "score_pool3": 4 * base}
    for name in SCORES[net]:
        if net == "fcn8s-atonce" and name in FACTORS:
            factors = np.full(inputs[name], FACTORS[name], np.float32)
            layers[name.replace("score", "scale")] = [factors]
        layers[name] = layer(rng, (classes, inputs[name], 1, 1))
    for name, side in UPSCORES[net].items():
        layers[name] = [bilinear(classes, side)]
    return layers


def nyud(seed: int = 0) -> Layers:
    """NYUDv2's FCN-32s on color or on HHA, which have the same layers."""
    rng = np.random.default_rng(seed)
    own = {"conv1_1": layer(rng, (BASE, 3, 3, 3)), "score_fr": layer(rng, (40, FC, 1, 1))}
    return fcn_layers("fcn32s", classes=40) | own


def nyud_early() -> Layers:
    """On color and depth."""
    layers = nyud()
    del layers["conv1_1"]
    return {"conv1_1_bgrd": layer(np.random.default_rng(2), (BASE, 4, 3, 3)), **layers}


def nyud_late() -> Layers:
    """On color and HHA, each with the layers of its own network."""
    streams = {"color": nyud(0), "hha": nyud(1)}
    upscore = streams["color"].pop("upscore")
    del streams["hha"]["upscore"]
    named = {f"{name}{s}": blobs for s, layers in streams.items() for name, blobs in layers.items()}
    return named | {"upscore": upscore}


def siftflow_layers(net: str, base: int = BASE, fc: int = FC) -> Layers:
    """The layers of SIFT Flow's caffemodel of ``net``: first the semantic head's."""
    layers = vgg_layers(base, fc)
    for seed, (task, classes) in enumerate({"sem": 33, "geo": 3}.items()):
        rng = np.random.default_rng(2 + seed)
        for name, blobs in fcn_layers(net, classes, base, fc).items():
            if name.startswith("score"):
                layers[f"{name}_{task}"] = layer(rng, blobs[0].shape)
            elif name.startswith("upscore"):
                layers[f"{name}_{task}"] = blobs
    return layers


def alexnet_layers(classes: int = 21) -> Layers:
    """FCN-AlexNet on CaffeNet."""
    shapes = {
        "conv1": (12, 3, 11, 11),
        "conv2": (32, 6, 5, 5),
        "conv3": (48, 32, 3, 3),
        "conv4": (48, 24, 3, 3),
        "conv5": (32, 24, 3, 3),
        "fc6": (FC, 32, 6, 6),
        "fc7": (FC, FC, 1, 1),
        "score_fr": (classes, FC, 1, 1),
    }
    rng = np.random.default_rng(0)
    layers = {name: layer(rng, shape) for name, shape in shapes.items()}
    return layers | {"upscore": [bilinear(classes, 63)]}


def named(layers: Layers) -> dict[str, torch.Tensor]:
    """As a state_dict."""
    return {
        f"{layer}.{kind}": torch.from_numpy(blob)
        for layer, blobs in layers.items()
        for kind, blob in zip(("weight", "bias"), blobs, strict=False)
    }


def torchvision_vgg(depth: int = 16, norm: bool = False) -> nn.ModuleDict:
    """torchvision's names and layers, of random norms."""
    layers: list[nn.Module] = []
    channels = 3
    for wide, convs in zip(WIDTHS, CONVS[depth], strict=True):
        for _ in range(convs):
            layers.append(nn.Conv2d(channels, channels := wide * BASE, 3, padding=1))
            layers += [random_norm(channels)] if norm else []
            layers.append(nn.ReLU())
        layers.append(nn.MaxPool2d(2, 2))
    fc6, fc7, fc8 = nn.Linear(channels * 49, FC), nn.Linear(FC, FC), nn.Linear(FC, 10)
    relu, drop = nn.ReLU(), nn.Dropout()
    classifier = nn.Sequential(fc6, relu, drop, fc7, relu, drop, fc8)
    return nn.ModuleDict(dict(features=nn.Sequential(*layers), classifier=classifier)).eval()


def random_norm(channels: int, eps: float = 1e-5) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps)
    nn.init.uniform_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norm.weight, 1)
    return norm


def as_justincj(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The classifier's layers come after their dropouts."""
    moved = {"classifier.0": "classifier.1", "classifier.3": "classifier.4"}
    names = ((name, *name.rpartition(".")[::2]) for name in tensors)
    return {f"{moved.get(layer, layer)}.{kind}": tensors[name] for name, layer, kind in names}
