"""Convert published weights to a checkpoint of MMSegmentation, for one of our networks."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from fcn_plugin.conversion.classes import classes_by_number, classes_of, storable
from fcn_plugin.conversion.ours import (
    REMEDY,
    backbone_settings,
    first_net,
    numbers,
    scale_of,
    shipped_config,
    variant,
)
from fcn_plugin.conversion.resnet import CONFIGS as RESNETS
from fcn_plugin.conversion.resnet import ResNetConversion
from fcn_plugin.conversion.writing import write
from fcn_plugin.errors import UserError, quoted
from fcn_plugin.geometry import AxisMap, transposed_convolution
from fcn_plugin.models import SkipFusionHead
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.upsample import bilinear_kernel
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.fill import Report, fill
from fcn_plugin.weights.networks import BACKBONES, COUNT, HEAD_LAYERS, NETS, caffe_name
from fcn_plugin.weights.recognise import Weights, open_weights
from fcn_plugin.weights.sources import FEATURES_ONLY

OWN_REMEDY = (
    "of our own checkpoints only FCN-32s, 16s, 8s and 8s at once on VGG, and FCN-32s on AlexNet "
    "and GoogLeNet, can be converted, without other norms than BatchNorm"
)


def convert(
    source: Path,
    target: Path,
    net: str | None = None,
    dataset: str | None = None,
    num_classes: int | None = None,
    progress: Progress = silent,
) -> "Conversion | ResNetConversion":
    """Write the weights in ``source`` to ``target``, a checkpoint that ``init_model`` loads.

    Args:
        source: any file that ``recognise.open_weights`` knows, our own checkpoints included.
        target: safetensors if its name ends with ".safetensors", else PyTorch's format. An existing
            file is replaced at the very end, and kept if anything fails.
        net: one of ``NETS``; default the source's own, for a classifier as ``first_net`` says.
        dataset: score the classes of this data set of mmseg, e.g. 'CamVidDataset'.
        num_classes: score this many classes. If the source scores other classes, the score layers
            start at zero; the same classes in another order are reordered.

    Raises:
        UserError: the source is missing, damaged or unknown, or does not fit the other arguments.
    """
    if target.is_dir():
        raise UserError(f"{target}: a folder; give the name of a file to write")
    weights = open_weights(source, progress)
    kind = ResNetConversion if weights.layout.classifier in RESNETS else Conversion
    conversion = kind(weights, net, dataset, num_classes)
    write(conversion.checkpoint(), target, progress)
    return conversion


class Conversion:
    """``weights`` as a checkpoint of one of our networks; ``str`` of it is a report.

    Attributes:
        net: the name of the network in ``NETS``.
        scale: its fixed factors on the levels, finest first.
        dataset_meta: names and colours of the classes that it scores.
        order: the index of each of these classes in the source; None if it scores other classes.
        settings: the backbone's settings, as wide as the file's.
        state_dict: the checkpoint's tensors.
        report: which of the file's tensors are used and dropped, and which of ours are new.
    """

    def __init__(
        self,
        weights: Weights,
        net: str | None = None,
        dataset: str | None = None,
        num_classes: int | None = None,
    ) -> None:
        self.weights = weights
        self.path = weights.path
        self.remedy = REMEDY if weights.layout.published else OWN_REMEDY
        if weights.layout.segmentor and weights.net is None:
            raise UserError(
                f"{self.path}: {weights.layout.title}, but its score layers match none of "
                f"{', '.join(NETS)}; {self.remedy}"
            )
        backbone = BACKBONES.get(variant(weights))
        if backbone is None:
            raise UserError(
                f"{self.path}: {weights.layout.title} is not one of our backbones; name the file "
                "in a config: model.backbone.init_cfg=dict(type='TimmWeights', checkpoint=...)"
            )
        self.net = net or weights.net or first_net(weights, backbone)
        if self.net not in backbone.levels:
            raise UserError(
                f"{self.path}: {weights.layout.title} makes {' or '.join(backbone.levels)}, not "
                f"{self.net}"
            )
        self.scale = scale_of(weights, self.net)
        self.dataset_meta, self.order = classes_of(weights, dataset, num_classes)
        self.settings = backbone_settings(weights, backbone, self.net)
        self.state_dict, self.report = self._fill()

    @property
    def num_classes(self) -> int:
        """The number of classes that are scored, background included."""
        return len(self.order or self.dataset_meta["classes"])

    def _fill(self) -> tuple[dict[str, Tensor], Report]:
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
        if weights.net and self.order:
            for i, (score, upscore) in enumerate(zip(net.scores, net.upscores, strict=True)):
                for kind in ("weight", "bias"):
                    targets[f"{score}.{kind}"] = f"decode_head.score.{i}.{kind}"
                kernel = weights.tensors.get(f"{upscore}.weight")
                finer = backbone.maps[i - 1] if i else AxisMap()
                side = transposed_convolution(backbone.maps[i].within(finer)).kernel
                shape = torch.Size([self.num_classes] * 2 + [side] * 2)
                if kernel is not None and not _is_bilinear(kernel, shape):
                    target = f"decode_head.upscore.{i}.deconv.weight"
                    targets[f"{upscore}.weight"] = target
                    shapes[target] = shape

        def reason(name: str) -> str | None:
            layer = name.rpartition(".")[0]
            if layer not in HEAD_LAYERS:
                return None
            if layer not in net.scores + net.upscores:
                return f"not in {self.net}"
            if not self.order:
                return f"for {weights.num_classes} other classes"
            return "the bilinear kernel, which the head has anyway"

        tensors, report = fill(weights, shapes, targets, reason, self.remedy)
        report.used += weights.scale_names
        self._check_complete(report.new)
        if self.order and self.order != sorted(self.order):
            for name in [name for name in tensors if name.startswith("decode_head.")]:
                tensors[name] = tensors[name][self.order]
                if ".deconv." in name:  # weight: classes x classes
                    tensors[name] = tensors[name][:, self.order]
        for name in report.new:
            if name.startswith("decode_head.score."):
                tensors[name] = torch.zeros(shapes[name])
            elif name.endswith(COUNT):
                tensors[name] = torch.tensor(0)
        if self.scale is not None:
            tensors["decode_head.level_scale"] = torch.tensor(self.scale)
        return dict(sorted(tensors.items())), report

    def _build(self) -> tuple[ConvolutionalizedClassifier, SkipFusionHead]:
        """Backbone and head on the meta device, for the shapes of their tensors."""
        try:
            with torch.device("meta"):
                backbone = MODELS.build(self.settings).eval()
                image = torch.empty(1, self.settings["in_channels"], 32, 32)
                channels = [level.shape[1] for level in backbone(image)]
                head = SkipFusionHead(
                    channels, range(len(channels)), self.num_classes, scale=self.scale
                )
        except (RuntimeError, ValueError) as error:  # impossible widths
            raise UserError(
                f"{self.path}: no network can have these widths ({quoted(error)}); {self.remedy}"
            ) from error
        return backbone, head

    def _check_complete(self, new: list[str]) -> None:
        """Raise UserError if a tensor that such files must hold is missing."""
        weights = self.weights
        allowed = ["decode_head.score.", "backbone.stages.5.norm_"]
        if weights.layout.features_only:
            allowed.append("backbone.stages.5.fc")
        missing = [
            caffe_name(name.removeprefix("backbone."))
            for name in new
            if not name.startswith(tuple(allowed)) and not name.endswith(COUNT)
        ]
        # A truncated FCN-8s looks like FCN-16s or 32s, but its upsampling layers are missing.
        if weights.net and weights.layout.published and weights.layout.upscores:
            kernels = [f"{layer}.weight" for layer in NETS[weights.net].upscores]
            missing += [name for name in kernels if name not in weights.tensors]
        if missing:
            net = f", {weights.net}" if weights.net else ""
            raise UserError(
                f"{self.path}: {weights.layout.title}{net}, but {len(missing)} of its tensors are "
                f"missing, e.g. {missing[0]}; {self.remedy}"
            )

    def checkpoint(self) -> dict[str, Any]:
        """What is written to the target: tensors, strings and numbers only."""
        weights = self.weights
        meta = dict(
            dataset_meta=self.dataset_meta,
            source=weights.origin,
            net=self.net,
            input=asdict(weights.input) if weights.input else None,
            padding=weights.padding,
            made_for=self.config,
        )
        meta = {key: value for key, value in meta.items() if value is not None}
        return dict(meta=meta, state_dict=self.state_dict)

    @property
    def config(self) -> str | None:
        """The shipped config for this checkpoint; None if there is none."""
        published = storable(classes_by_number(self.num_classes))["classes"]
        if published != self.dataset_meta["classes"]:
            return None
        return shipped_config(self.weights, self.net, self.num_classes, self.settings)

    @property
    def summary(self) -> str:
        """One line with the network and its shipped config."""
        hint = f"; config: {self.config}" if self.config else ""
        return f"{self.net} on {self.weights.layout.classifier}, {self.num_classes} classes{hint}"

    def __str__(self) -> str:
        weights = self.weights
        lines = [weights.heading, str(self.report)]
        if input := weights.input:
            mean, std = numbers(input.mean), numbers(input.std)
            lines.append(f"input {input.order}, mean {mean}, std {std}")
        if weights.scale_untold:
            other = "fcn8s" if self.scale else "fcn8s-atonce"
            scales = f"scales {numbers(self.scale)}" if self.scale else "no scales"
            lines.append(
                "this file does not say whether it is fcn8s or fcn8s-atonce; assumed "
                f"{self.net} ({scales}). If it is not, give --net {other}"
            )
        if weights.layout.input is FEATURES_ONLY and not weights.known:
            lines.append("this input is assumed: the published VGG-16 without classifier has it")
        if not weights.known:
            lines += weights.layout.notes
        return "\n  ".join(lines)


def _is_bilinear(kernel: Tensor, shape: torch.Size) -> bool:
    """Whether a class x class kernel is bilinear on its diagonal and zero elsewhere."""
    if kernel.shape != shape:
        return False
    expected = torch.zeros(shape)
    expected.diagonal(dim1=0, dim2=1).copy_(bilinear_kernel(shape[-1])[..., None])
    return torch.allclose(kernel, expected, rtol=0, atol=1e-6)
