"""Published weights as a checkpoint of MMSegmentation, for one of our networks."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from fcn_plugin.errors import UserError
from fcn_plugin.geometry import AxisMap, upsampling
from fcn_plugin.models import SkipFusionHead
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.upsample import bilinear_kernel
from fcn_plugin.weights.classes import dataset_meta
from fcn_plugin.weights.loading import Filling, Report
from fcn_plugin.weights.nets import BACKBONES, HEAD_LAYERS, NETS, Backbone, caffe_name
from fcn_plugin.weights.opening import Progress, Weights, open_weights

REMEDY = "the file is damaged, truncated or of another network; download it again"

# The shipped config of (classifier, classes, whether the input is Caffe's).
CONFIGS = {
    ("vgg16", 21, True): "configs/{net}_vgg16_voc2011-heavy.py",
    ("vgg16", 60, True): "configs/{net}_vgg16_pascal-context-heavy.py",
    ("vgg16", 21, False): "configs/{net}_vgg16_voc.py",
    ("caffenet", 21, True): "configs/{net}_alexnet_voc2011.py",
    ("googlenet", 21, True): "configs/{net}_googlenet_voc2011.py",
}


def convert(
    source: Path,
    target: Path,
    net: str | None = None,
    dataset: str | None = None,
    num_classes: int | None = None,
    progress: Progress = lambda step, done, total: None,
) -> "Conversion":
    """Write the weights in ``source`` to ``target``, a checkpoint that ``init_model`` loads.

    Args:
        source: any file that ``opening.open_weights`` knows, our own checkpoints included.
        target: replaced at the very end, untouched if anything goes wrong.
        net: one of ``NETS``; default the source's own, FCN-32s for a Caffe classifier (the first
            stage of the published chain) and FCN-8s for others.
        dataset: a data set of the host, e.g. 'CamVidDataset', whose classes are to be scored.
        num_classes: how many classes are to be scored. Score layers of another number of classes
            start anew, at zero.

    Raises:
        UserError: the source is not what it should be, or does not fit what is asked for.
    """
    weights = open_weights(source, progress)
    conversion = Conversion(weights, net, dataset, num_classes)
    _write(conversion.checkpoint(), target, progress)
    return conversion


class Conversion:
    """What becomes of ``weights`` as a checkpoint; ``str`` of it is a report."""

    def __init__(
        self,
        weights: Weights,
        net: str | None = None,
        dataset: str | None = None,
        num_classes: int | None = None,
    ) -> None:
        self.weights = weights
        self.path = weights.path
        backbone = BACKBONES[_variant(weights)]
        self.from_caffe = weights.input is not None and weights.input.order == "BGR"
        first_stage = self.from_caffe or "fcn8s" not in backbone.levels
        self.net = net or weights.net or ("fcn32s" if first_stage else "fcn8s")
        if self.net not in backbone.levels:
            raise UserError(
                f"{self.path}: {weights.layout.title} makes {' or '.join(backbone.levels)}, not "
                f"{self.net}"
            )
        self.scale = self._scale()
        self.dataset_meta = dataset_meta(
            weights.dataset_meta, weights.num_classes, dataset, num_classes
        )
        self.num_classes = len(self.dataset_meta["classes"])
        self.settings = {
            **backbone.settings,
            **_widths(weights, backbone),
            "out_indices": backbone.levels[self.net],
        }
        self.report = Report()
        self.state_dict: dict[str, Tensor] = {}
        self._fill()

    def _scale(self) -> tuple[float, ...] | None:
        """The factors of the network asked for, which have to be those of the score layers."""
        wanted = NETS[self.net].scale
        found = self.weights.scale
        skips = any(name.startswith("score_pool") for name in self.weights.tensors)
        if skips and (found is None) != (wanted is None):
            trained = f"with scales {found}" if found else "without scales"
            raise UserError(
                f"{self.path}: its skip layers were trained {trained}, and {self.net} has "
                f"{wanted or 'none'}; leave --net out"
            )
        return found if skips else wanted

    def _fill(self) -> None:
        """Give every tensor its place in ``state_dict``."""
        weights, net = self.weights, NETS[self.net]
        backbone, head = self._build()
        parts = {"backbone": backbone.state_dict(), "decode_head": head.state_dict()}
        shapes = {
            f"{part}.{name}": tensor.shape
            for part, state in parts.items()
            for name, tensor in state.items()
        }
        shapes.pop("decode_head.level_scale", None)
        targets = {caffe_name(name): f"backbone.{name}" for name in parts["backbone"]}
        same_classes = weights.num_classes in (None, self.num_classes)
        if same_classes:
            for i, (score, upscore) in enumerate(zip(net.scores, net.upscores, strict=True)):
                for kind in ("weight", "bias"):
                    targets[f"{score}.{kind}"] = f"decode_head.score.{i}.{kind}"
                kernel = weights.tensors.get(f"{upscore}.weight")
                shape = torch.Size([self.num_classes] * 2 + [_kernel_side(backbone.maps, i)] * 2)
                if kernel is not None and not _is_bilinear(kernel, shape):
                    target = f"decode_head.upscore.{i}.deconv.weight"
                    targets[f"{upscore}.weight"], shapes[target] = target, shape

        def reason(name: str) -> str | None:
            layer = name.removesuffix(".weight").removesuffix(".bias")
            if layer not in HEAD_LAYERS:
                return None
            if layer not in net.scores + net.upscores:
                return f"not in {self.net}"
            if not same_classes:
                return f"for {weights.num_classes} classes, not {self.num_classes}"
            return "the bilinear kernel, which the head has anyway"

        filling = Filling(self.path, shapes, REMEDY)
        filling.drain(weights.tensors, weights.names, targets, reason)
        for name, tensor in filling.tensors.items():
            # Of the extremes alone: isfinite would make another tensor as large.
            if not all(value.isfinite() for value in tensor.aminmax()):
                raise UserError(f"{self.path}: {name} has numbers that are none; {REMEDY}")
        filling.report.used += weights.scale_names
        filling.report.dropped |= weights.dropped
        self._check_complete(filling.report.new)
        for name in filling.report.new:
            if name.startswith("decode_head.score."):
                filling.tensors[name] = torch.zeros(shapes[name])
        if self.scale is not None:
            filling.tensors["decode_head.level_scale"] = torch.tensor(self.scale)
        self.report = filling.report
        self.state_dict = {name: filling.tensors[name] for name in sorted(filling.tensors)}

    def _build(self) -> tuple[ConvolutionalizedClassifier, SkipFusionHead]:
        """Backbone and head without any memory, for the shapes of their tensors."""
        try:
            with torch.device("meta"):
                backbone = MODELS.build(self.settings)
                image = torch.empty(1, self.settings["in_channels"], 32, 32)
                channels = [level.shape[1] for level in backbone(image)]
                head = SkipFusionHead(
                    channels, range(len(channels)), self.num_classes, scale=self.scale
                )
        except (RuntimeError, ValueError) as error:  # widths that no network can have
            raise UserError(
                f"{self.path}: no network has a first layer of {self.settings['base_channels']} "
                f"and {self.settings['in_channels']} channels; {REMEDY}"
            ) from error
        return backbone, head

    def _check_complete(self, new: list[str]) -> None:
        """Only what a source of this kind never has may be new."""
        weights = self.weights
        allowed = ["decode_head.score.", "backbone.stages.5.norm_"]
        if weights.layout.features_only:
            allowed.append("backbone.stages.5.fc")
        lacking = [
            caffe_name(name.removeprefix("backbone."))
            for name in new
            if not name.startswith(tuple(allowed))
        ]
        # A file that ends too early could pass for FCN-16s or 32s, but for its upsampling layers.
        if weights.net and weights.layout.published:
            kernels = [f"{layer}.weight" for layer in NETS[weights.net].upscores]
            lacking += [name for name in kernels if name not in weights.tensors]
        if lacking:
            net = f", {weights.net}" if weights.net else ""
            raise UserError(
                f"{self.path}: {weights.layout.title}{net}, but {len(lacking)} of its tensors are "
                f"missing, e.g. {lacking[0]}; {REMEDY}"
            )

    def checkpoint(self) -> dict[str, Any]:
        """The content of the target: tensors, text and numbers only."""
        meta: dict[str, Any] = dict(
            dataset_meta=self.dataset_meta,
            source=dict(
                file=self.path.name,
                layout=self.weights.layout.title,
                known_as=self.weights.known.file_name if self.weights.known else None,
            ),
            net=self.net,
        )
        if self.weights.input is not None:
            meta["input"] = asdict(self.weights.input)
        return dict(meta=meta, state_dict=self.state_dict)

    @property
    def summary(self) -> str:
        """In one line: the network, and the shipped config that it is for."""
        name = self.weights.layout.classifier
        stem = CONFIGS.get((name, self.num_classes, self.from_caffe))
        hint = f"; config: {stem.format(net=self.net)}" if stem else ""
        return f"{self.net} on {name}, {self.num_classes} classes{hint}"

    def __str__(self) -> str:
        known = self.weights.known
        lines = [
            f"{self.path}: {self.weights.layout.title}"
            + (f" (the published {known.file_name})" if known else " (by content)"),
            f"  {self.report}",
        ]
        if self.weights.input is not None:
            seen = self.weights.input
            lines.append(f"  input {seen.order}, mean {seen.mean}, std {seen.std}")
        return "\n".join(lines)


def _variant(weights: Weights) -> str:
    """The key in BACKBONES; of our own AlexNets the second convolution tells which."""
    name = weights.layout.classifier
    if name == "caffenet":
        first, second = (weights.tensors.get(f"conv{i}.weight") for i in (1, 2))
        if first is not None and second is not None and first.shape[:1] == second.shape[1:2]:
            return "alexnet"
    return name


def _widths(weights: Weights, backbone: Backbone) -> dict[str, int]:
    """The settings of a backbone that is as wide as the file's."""
    kernel = weights.tensors.get(f"{backbone.first}.weight")
    if kernel is None or kernel.dim() != 4:
        found = "missing" if kernel is None else tuple(kernel.shape)
        raise UserError(
            f"{weights.path}: {backbone.first}.weight is {found}, expected 4 dimensions; {REMEDY}"
        )
    widths = dict(
        base_channels=max(kernel.shape[0] // backbone.width, 1), in_channels=kernel.shape[1]
    )
    if (bias := weights.tensors.get("fc6.bias")) is not None:
        widths["fc_channels"] = bias.numel()
    return widths


def _is_bilinear(kernel: Tensor, shape: torch.Size) -> bool:
    """Whether a stored class x class kernel is bilinear on its diagonal and zero elsewhere."""
    if kernel.shape != shape:
        return False
    expected = torch.zeros(shape)
    expected.diagonal(dim1=0, dim2=1).copy_(bilinear_kernel(shape[-1])[..., None])
    return torch.allclose(kernel, expected, rtol=0, atol=1e-6)


def _kernel_side(maps: Sequence[AxisMap], level: int) -> int:
    """The side of the transposed-convolution kernel from a level onto the next finer one."""
    finer = maps[level - 1] if level else AxisMap()
    return upsampling(maps[level].within(finer)).kernel


def _write(checkpoint: dict[str, Any], target: Path, progress: Progress) -> None:
    """Put the checkpoint in place whole or not at all."""
    size = sum(t.numel() * t.element_size() for t in checkpoint["state_dict"].values())
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        progress("writing", 0, size)
        torch.save(checkpoint, part)
        os.replace(part, target)
        progress("writing", size, size)
    finally:
        part.unlink(missing_ok=True)
