"""Published weights as a checkpoint of MMSegmentation, for one of our networks."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmseg.registry import MODELS
from safetensors import SafetensorError
from torch import Tensor

from fcn_plugin.conversion.classes import classes_by_number, classes_of, storable
from fcn_plugin.conversion.ours import (
    REMEDY,
    backbone_settings,
    from_caffe,
    numbers,
    scale_of,
    shipped_config,
    variant,
)
from fcn_plugin.errors import UserError, quoted
from fcn_plugin.geometry import AxisMap, transposed_convolution
from fcn_plugin.models import SkipFusionHead
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.upsample import bilinear_kernel
from fcn_plugin.system.files import replacing
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.fill import Report, fill
from fcn_plugin.weights.networks import BACKBONES, COUNT, HEAD_LAYERS, NETS, caffe_name
from fcn_plugin.weights.recognise import Weights, open_weights
from fcn_plugin.weights.safetensors_files import SUFFIX, write_safetensors
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
) -> "Conversion":
    """Write the weights in ``source`` to ``target``, a checkpoint that ``init_model`` loads.

    Args:
        source: any file that ``recognise.open_weights`` knows, our own checkpoints included.
        target: replaced at the very end, untouched if anything goes wrong; in safetensors' format
            if its name ends with ".safetensors", else in PyTorch's.
        net: one of ``NETS``; default the source's own, FCN-32s for a Caffe classifier (the first
            stage of the published chain) and FCN-8s for others.
        dataset: a data set of mmseg, e.g. 'CamVidDataset', whose classes are to be scored.
        num_classes: how many classes are to be scored. Score layers of other classes start anew,
            at zero; those of the same in another order are reordered.

    Raises:
        UserError: the source is not what it should be, or does not fit what is asked for.
    """
    if target.is_dir():
        raise UserError(f"{target}: a folder; give the name of a file to write")
    conversion = Conversion(open_weights(source, progress), net, dataset, num_classes)
    _write(conversion.checkpoint(), target, progress)
    return conversion


class Conversion:
    """What becomes of ``weights`` as a checkpoint; ``str`` of it is a report.

    Attributes:
        net: the network that is made, one of ``NETS``.
        scale: its fixed factors on the levels, finest first.
        dataset_meta: the classes that it scores, and their colours.
        order: which of the source's classes each of these is; None if the source has not got them.
        settings: of its backbone, which is as wide as the file's.
        state_dict: its tensors,
        report: and what became of the file's.
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
                f"{self.path}: {weights.layout.title}, but its score layers are of none of "
                f"{', '.join(NETS)}; {self.remedy}"
            )
        backbone = BACKBONES[variant(weights)]
        first_stage = from_caffe(weights) or "fcn8s" not in backbone.levels
        self.net = net or weights.net or ("fcn32s" if first_stage else "fcn8s")
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
        """How many classes are scored, background included."""
        return len(self.order or self.dataset_meta["classes"])

    def _fill(self) -> tuple[dict[str, Tensor], Report]:
        """``state_dict`` and ``report``."""
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
                    targets[f"{upscore}.weight"], shapes[target] = target, shape

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
                if ".deconv." in name:  # from classes to classes
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
        """Backbone and head without any memory, for the shapes of their tensors."""
        try:
            with torch.device("meta"):
                backbone = MODELS.build(self.settings).eval()
                image = torch.empty(1, self.settings["in_channels"], 32, 32)
                channels = [level.shape[1] for level in backbone(image)]
                head = SkipFusionHead(
                    channels, range(len(channels)), self.num_classes, scale=self.scale
                )
        except (RuntimeError, ValueError) as error:  # widths that no network can have
            raise UserError(
                f"{self.path}: no network is as wide as this ({quoted(error)}); {self.remedy}"
            ) from error
        return backbone, head

    def _check_complete(self, new: list[str]) -> None:
        """Only what a source of this kind never has may be new."""
        weights = self.weights
        allowed = ["decode_head.score.", "backbone.stages.5.norm_"]
        if weights.layout.features_only:
            allowed.append("backbone.stages.5.fc")
        missing = [
            caffe_name(name.removeprefix("backbone."))
            for name in new
            if not name.startswith(tuple(allowed)) and not name.endswith(COUNT)
        ]
        # A file that ends too early could pass for FCN-16s or 32s, but for its upsampling layers.
        if weights.net and weights.layout.published:
            kernels = [f"{layer}.weight" for layer in NETS[weights.net].upscores]
            missing += [name for name in kernels if name not in weights.tensors]
        if missing:
            net = f", {weights.net}" if weights.net else ""
            raise UserError(
                f"{self.path}: {weights.layout.title}{net}, but {len(missing)} of its tensors are "
                f"missing, e.g. {missing[0]}; {self.remedy}"
            )

    def checkpoint(self) -> dict[str, Any]:
        """The content of the target: tensors, text and numbers only."""
        weights = self.weights
        source = dict(
            file=self.path.name,
            layout=weights.layout.title,
            known_as=weights.known.file_name if weights.known else None,
        )
        meta = dict(
            dataset_meta=self.dataset_meta,
            source=source,
            net=self.net,
            input=asdict(weights.input) if weights.input else None,
            padding=weights.padding,
            made_for=self.config,
        )
        told = {key: value for key, value in meta.items() if value is not None}
        return dict(meta=told, state_dict=self.state_dict)

    @property
    def config(self) -> str | None:
        """The shipped config that this is for."""
        usual = storable(classes_by_number(self.num_classes))["classes"]
        if usual != self.dataset_meta["classes"]:
            return None
        return shipped_config(self.weights, self.net, self.num_classes, self.settings)

    @property
    def summary(self) -> str:
        """In one line: the network, and the shipped config that it is for."""
        hint = f"; config: {self.config}" if self.config else ""
        return f"{self.net} on {self.weights.layout.classifier}, {self.num_classes} classes{hint}"

    def __str__(self) -> str:
        weights = self.weights
        known = f"the published {weights.known.file_name}" if weights.known else "by content"
        lines = [f"{self.path}: {weights.layout.title} ({known})", str(self.report)]
        if seen := weights.input:
            lines.append(f"input {seen.order}, mean {numbers(seen.mean)}, std {numbers(seen.std)}")
        if weights.scale_untold:
            lines.append(
                "such a file does not tell whether it was trained at once: taken for "
                f"{self.net}, scale {self.scale and numbers(self.scale)}; else give --net"
            )
        if weights.layout.input is FEATURES_ONLY and not weights.known:
            lines.append("of VGG-16 the published file without a classifier has this input")
        return "\n  ".join(lines)


def _is_bilinear(kernel: Tensor, shape: torch.Size) -> bool:
    """Whether a stored class x class kernel is bilinear on its diagonal and zero elsewhere."""
    if kernel.shape != shape:
        return False
    expected = torch.zeros(shape)
    expected.diagonal(dim1=0, dim2=1).copy_(bilinear_kernel(shape[-1])[..., None])
    return torch.allclose(kernel, expected, rtol=0, atol=1e-6)


def _write(checkpoint: dict[str, Any], target: Path, progress: Progress) -> None:
    """Put the checkpoint in place whole or not at all."""
    save = write_safetensors if target.suffix == SUFFIX else torch.save
    size = sum(t.numel() * t.element_size() for t in checkpoint["state_dict"].values())
    try:
        with replacing(target) as part:
            progress("writing", 0, size)
            save(checkpoint, part)
        progress("writing", size, size)
    # PyTorch's own writer raises RuntimeError on a full disk, safetensors' SafetensorError.
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{target}: cannot be written ({quoted(error)}); it takes {size / 1e6:.0f} MB, choose "
            "another place or make room"
        ) from error
