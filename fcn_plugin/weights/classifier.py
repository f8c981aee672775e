"""ImageNet classifiers from torchvision, convolutionalized (CVPR section 3.1)."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine import dist
from mmengine.logging import MMLogger
from torch import Tensor

from fcn_plugin.download import download
from fcn_plugin.errors import UserError
from fcn_plugin.weights.loading import Report, load_strictly, read_tensors
from fcn_plugin.weights.sources import SOURCES

if TYPE_CHECKING:
    from fcn_plugin.models.vgg import ConvolutionalizedVGG

# For each name in a file the backbone's, None = dropped, and why each of those is. A name that is
# in neither has no place, and the file is refused.
Targets = tuple[dict[str, str | None], dict[str, str]]

CONV = ("weight", "bias")
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
CLASSIFIER = {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": None}


def load_vgg(backbone: "ConvolutionalizedVGG", checkpoint: str) -> Report:
    """Fill ``backbone`` from torchvision's VGG of its depth; log what became of each tensor.

    Args:
        checkpoint: 'torchvision://vgg16' and its kin, or a file: torchvision's state_dict, with
            or without its classifier, or a checkpoint of this backbone.
    """
    path = _locate(checkpoint)
    tensors = read_tensors(path)
    if any(name.startswith("features.") for name in tensors):
        targets, reasons = torchvision_targets(backbone, tensors)
    else:
        targets, reasons = own_targets(backbone, tensors)
        if missing := sorted(set(backbone.state_dict()) - set(targets.values())):
            raise UserError(
                f"{path}: holds neither torchvision's VGG (features.0.weight, ...) nor the whole "
                f"of this backbone: {missing[0]} is missing; check depth, norm_cfg and "
                "out_indices against the file"
            )
    report = load_strictly(backbone, tensors, targets, reasons, path)
    MMLogger.get_current_instance().info("ImageNet weights from %s:\n  %s", path, report)
    return report


def own_targets(backbone: "ConvolutionalizedVGG", tensors: dict[str, Tensor]) -> Targets:
    """For a checkpoint of a whole model, or of the backbone alone."""
    own = backbone.state_dict()
    whole = any(name.startswith("backbone.") for name in tensors)
    targets: dict[str, str | None] = {}
    reasons = {}
    for name in tensors:
        if whole and not name.startswith("backbone."):
            targets[name], reasons[name] = None, "not of the backbone"
        elif name.removeprefix("backbone.") in own:
            targets[name] = name.removeprefix("backbone.")
    return targets, reasons


def torchvision_targets(backbone: "ConvolutionalizedVGG", tensors: dict[str, Tensor]) -> Targets:
    """For torchvision's VGG of the backbone's depth, with BatchNorm if ``tensors`` have it."""
    own = backbone.state_dict()
    norm = any(name.endswith("running_mean") for name in tensors)
    targets: dict[str, str | None] = {}
    reasons = {}
    for source, target in _torchvision_names(backbone.convs, norm):
        if target is None:
            targets[source], reasons[source] = None, "the ImageNet classes; scored anew"
        elif target in own:
            targets[source] = target
        elif int(target.split(".")[1]) >= len(backbone.stages):
            targets[source], reasons[source] = None, "beyond the last level in out_indices"
    return targets, reasons


def _torchvision_names(convs: Sequence[int], norm: bool) -> Iterator[tuple[str, str | None]]:
    """(torchvision's name, the backbone's) of every tensor of the whole classifier.

    torchvision numbers all its layers: a convolution, its norm and its ReLU each take a number,
    and so does the pooling at the end of a stage.
    """
    index = 0
    for stage, count in enumerate(convs):
        for conv in range(1, count + 1):
            name = f"conv{stage + 1}_{conv}"
            for kind in CONV:
                yield f"features.{index}.{kind}", f"stages.{stage}.{name}.{kind}"
            if norm:
                index += 1
                for kind in NORM:
                    yield f"features.{index}.{kind}", f"stages.{stage}.norm_{name}.{kind}"
            index += 2
        index += 1
    for source, layer in CLASSIFIER.items():
        for kind in CONV:
            yield f"{source}.{kind}", layer and f"stages.5.{layer}.{kind}"


def _locate(checkpoint: str) -> Path:
    """The file on disk; a published one is fetched into torch's own cache first."""
    if "://" not in checkpoint:
        return Path(checkpoint)
    source = SOURCES.get(checkpoint)
    if source is None:
        raise UserError(
            f"init_cfg.checkpoint {checkpoint!r} is not known; give a file or one of "
            f"{', '.join(SOURCES)}"
        )
    target = Path(torch.hub.get_dir()) / "checkpoints" / source.file_name
    # One process of each machine fetches, the others wait for the file.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        try:
            download(source.url, target, source.sha256)
        except UserError as error:
            raise UserError(
                f"{error}, or give it as model.backbone.init_cfg.checkpoint=FILE, or train from "
                "scratch with model.backbone.init_cfg=None"
            ) from error
    dist.barrier()
    return target
