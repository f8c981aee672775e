"""Load a classifier's weights into a backbone (CVPR section 3.1)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger

from fcn_plugin.errors import UserError
from fcn_plugin.system.download import download
from fcn_plugin.system.ranks import once_per_machine
from fcn_plugin.weights.addresses import fetched, is_address
from fcn_plugin.weights.files import verify
from fcn_plugin.weights.fill import Report, check_whole, fill
from fcn_plugin.weights.networks import CONNECTED, COUNT, caffe_name
from fcn_plugin.weights.recognise import Weights, open_weights
from fcn_plugin.weights.sources import SOURCES

REMEDY = (
    "check depth or variant, norm_cfg, out_indices, in_channels, base_channels and fc_channels "
    "against the file"
)
OF_HEAD = "of the decode head"
RGB = 3  # channels of every publisher's images
PHOTO_STD = 58  # of ImageNet's pixels in 0-255, about; torchvision's are 58.395, 57.12, 57.375
PUBLISHED_WIDTH = 4096  # of fc6 and fc7


def load_classifier(backbone: Any, checkpoint: str, keep_colours: bool = False) -> Report:
    """Fill ``backbone`` from a classifier's file; return and log what became of each tensor.

    Args:
        checkpoint: one of ``sources.SOURCES``, e.g. 'torchvision://vgg16', or a file that
            ``weights.recognise.open_weights`` knows, with or without its last layers, or its
            address (``addresses.fetched``). fc6 and fc7 start anew where ``fc_channels`` is
            another than the file's.
        keep_colours: if the backbone takes more than three bands, the first three are a photo's
            colours in the file's order and scale, and keep its filters; see ``_widen``.

    Raises:
        UserError: the file is missing, damaged or unknown, or does not fit.
    """
    path = _locate(checkpoint)
    weights = open_weights(path, identify=False)
    state = backbone.state_dict()
    shapes = {name: tensor.shape for name, tensor in state.items()}
    targets = {caffe_name(name): name for name in state}
    unbuilt = {caffe_name(name) for name in backbone.unbuilt}
    anew = _of_other_width(weights, targets, shapes)
    targets = {name: target for name, target in targets.items() if name not in anew}

    def reason(name: str) -> str | None:
        if name in unbuilt:
            return "beyond the last level in out_indices"
        if name in anew:
            return "of another width than fc_channels, so that it starts anew"
        return OF_HEAD if name.startswith(("score", "upscore")) else None

    first = next(name for name, tensor in state.items() if tensor.dim() == 4)
    widened = _widen(weights, caffe_name(first), shapes[first][1], keep_colours)
    tensors, report = fill(weights, shapes, targets, reason, REMEDY)
    report.dropped |= dict.fromkeys(weights.scale_names, OF_HEAD)
    missing = [
        name
        for name in report.new
        if not (caffe_name(name).startswith(CONNECTED) or "norm_" in name or name.endswith(COUNT))
    ]
    check_whole(weights, missing, REMEDY)
    backbone.load_state_dict({**state, **tensors})
    # Bands have means of their own, which the file's say nothing of.
    backbone.trained_on = None if widened else weights.input
    logger = MMLogger.get_current_instance()
    lines = "\n  ".join([str(report), *weights.layout.notes])
    logger.info("%s from %s:\n  %s", weights.layout.title, path, lines)
    if widened:
        logger.info(widened)
    connected = [name for name in report.new if caffe_name(name).startswith(CONNECTED)]
    if not anew and any(shapes[name][0] == PUBLISHED_WIDTH for name in connected):
        logger.warning(
            "%s has no fc6 and fc7, which start from random numbers; the published networks start "
            "from the whole classifier. For few pictures, set fc_channels=512",
            path,
        )
    return report


def _of_other_width(
    weights: Weights, targets: Mapping[str, str], shapes: Mapping[str, torch.Size]
) -> set[str]:
    """The tensors of fc6 and fc7, if the backbone's layers have other channels than the file's.

    A network for few images takes a few hundred channels in place of 4096.
    """
    bias = "fc6.bias"
    kept = bias not in weights.tensors or bias not in targets
    if kept or weights.tensors[bias].numel() == shapes[targets[bias]].numel():
        return set()
    return {name for name in weights.tensors if name.startswith(CONNECTED)}


def _widen(weights: Weights, name: str, bands: int, keep_colours: bool) -> str:
    """Let the file's first convolution take ``bands`` bands in place of RGB; what was done.

    Every band gets the mean of the three filters, times 3 / bands. All bands of a grey image are
    equal, and on them the layer responds as the file's does: the filters' sum is the same. With
    ``keep_colours`` the first three keep their filters, and every further band gets the mean of
    the three (Caffe ``nyud-fcn32s-color-d/solve.py``).
    The text says which scale the weights expect. Nothing is done, and the text is empty, if the
    network takes three bands or the file's layer does not.
    """
    kernel = weights.tensors.get(name)
    if bands == RGB or kernel is None or kernel.dim() != 4 or kernel.shape[1] != RGB:
        return ""
    mean = kernel.double().mean(1, keepdim=True)
    if keep_colours and bands > RGB:
        further = mean.to(kernel.dtype).repeat(1, bands - RGB, 1, 1)
        weights.tensors[name] = torch.cat([kernel, further], 1)
        return f"{name}: bands 1-3 have the file's filters, each further one their mean"
    mean = mean * (RGB / bands)
    weights.tensors[name] = mean.to(kernel.dtype).repeat(1, bands, 1, 1)
    text = f"{name}: each of {bands} bands has the mean of the RGB filters times 3/{bands}"
    if weights.input is None:
        return text
    spread = PHOTO_STD / (sum(weights.input.std) / RGB)
    return f"{text}; it expects bands of mean 0 and standard deviation {spread:.2g}"


def cached_file(name: str) -> Path:
    """Where the file of one of ``SOURCES`` is once it is downloaded: in torch's own cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / SOURCES[name].file_name


def _locate(checkpoint: str) -> Path:
    """The path of the file; a published one is downloaded into torch's own cache first."""
    if "://" not in checkpoint:
        if not Path(checkpoint).is_file():
            raise UserError(f"{checkpoint}: no such file; check init_cfg.checkpoint in the config")
        return Path(checkpoint)
    if is_address(checkpoint):
        with fetched(checkpoint) as file:
            verify(file)
            return file
    source = SOURCES.get(checkpoint)
    if source is None:
        raise UserError(
            f"init_cfg.checkpoint {checkpoint!r} is not known; give a file, its address, or one "
            f"of {', '.join(SOURCES)}"
        )
    target = cached_file(checkpoint)

    def fetch() -> None:
        try:
            download(source.url, target, source.digest)
        except UserError as error:
            raise UserError(
                f"{error}, or give it as model.backbone.init_cfg.checkpoint=FILE, or train from "
                "scratch with model.backbone.init_cfg=None"
            ) from error

    once_per_machine(fetch)
    return target
