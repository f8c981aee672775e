"""The weights of a file as a checkpoint of one of our networks."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from fcn_plugin.conversion.classes import classes_of, classes_of_tasks, storable
from fcn_plugin.conversion.ours import (
    REMEDY,
    backbone_settings,
    first_net,
    numbers,
    nyud_of,
    scale_of,
    shipped_config,
    variant,
)
from fcn_plugin.data.tasks import TASKS
from fcn_plugin.errors import UserError, quoted
from fcn_plugin.geometry import AxisMap, transposed_convolution
from fcn_plugin.models import SkipFusionHead
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.upsample import bilinear_kernel
from fcn_plugin.weights.fill import Report, fill
from fcn_plugin.weights.networks import (
    BACKBONES,
    CONNECTED,
    COUNT,
    HEAD_LAYERS,
    NETS,
    caffe_name,
    of_task,
)
from fcn_plugin.weights.recognise import Weights
from fcn_plugin.weights.sources import FEATURES_ONLY

OWN_REMEDY = (
    "of our own checkpoints only FCN-32s, 16s, 8s and 8s at once on VGG, and FCN-32s on AlexNet "
    "and GoogLeNet, can be converted, without other norms than BatchNorm"
)


class Conversion:
    """``weights`` as a checkpoint of one of our networks; ``str`` of it is a report.

    Attributes:
        net: the name of the network in ``NETS``.
        scale: its fixed factors on the levels, finest first.
        dataset_meta: names and colours of the classes that it scores.
        tasks: the number of classes of each further task, which go with the source's own classes.
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
            described = ", or give its --prototxt" if weights.layout.published else ""
            raise UserError(
                f"{self.path}: {weights.layout.title}, but its score layers match none of "
                f"{', '.join(NETS)}; {self.remedy}{described}"
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
        self.tasks = weights.tasks if self.order else {}
        if not self.tasks:
            self.dataset_meta.pop(TASKS, None)
        self.settings = backbone_settings(weights, backbone, self.net)
        self.state_dict, self.report = self._fill()

    @property
    def num_classes(self) -> int:
        """The number of classes that are scored, background included."""
        return len(self.order or self.dataset_meta["classes"])

    def _fill(self) -> tuple[dict[str, Tensor], Report]:
        weights, net = self.weights, NETS[self.net]
        backbone, heads = self._build()
        parts = {"backbone": backbone.state_dict()}
        parts |= {head_of(task): head.state_dict() for task, head in heads.items()}
        shapes = {
            f"{part}.{name}": tensor.shape
            for part, state in parts.items()
            for name, tensor in state.items()
            if name != "level_scale"
        }
        targets = {caffe_name(name): f"backbone.{name}" for name in parts["backbone"]}
        for task, head in heads.items() if weights.net and self.order else ():
            part = head_of(task)
            for i, names in enumerate(zip(net.scores, net.upscores, strict=True)):
                score, upscore = (of_task(name, task) for name in names)
                for kind in ("weight", "bias"):
                    targets[f"{score}.{kind}"] = f"{part}.score.{i}.{kind}"
                kernel = weights.tensors.get(f"{upscore}.weight")
                finer = backbone.maps[i - 1] if i else AxisMap()
                side = transposed_convolution(backbone.maps[i].within(finer)).kernel
                if weights.kernels:
                    side = weights.kernels[i]
                shape = torch.Size([head.num_classes] * 2 + [side] * 2)
                if kernel is not None and (weights.kernels or not is_bilinear(kernel, shape)):
                    target = f"{part}.upscore.{i}.deconv.weight"
                    targets[f"{upscore}.weight"] = target
                    shapes[target] = shape
        in_heads = {of_task(name, k): name for k in (None, *weights.tasks) for name in HEAD_LAYERS}

        def reason(name: str) -> str | None:
            layer = in_heads.get(name.rpartition(".")[0])
            if layer is None:
                return None
            if layer not in net.scores + net.upscores:
                return f"not in {self.net}"
            if not self.order:
                return f"for {weights.num_classes} other classes"
            return "the bilinear kernel, which the head has anyway"

        tensors, report = fill(weights, shapes, targets, reason, self.remedy)
        report.used += weights.scale_names
        self._check_complete(report.new, {target: name for name, target in targets.items()})
        if self.order and self.order != sorted(self.order):
            for name in [name for name in tensors if name.startswith("decode_head.")]:
                tensors[name] = tensors[name][self.order]
                if ".deconv." in name:  # weight: classes x classes
                    tensors[name] = tensors[name][:, self.order]
        for name in report.new:
            if ".score." in name:
                tensors[name] = torch.zeros(shapes[name])
            elif name.endswith(COUNT):
                tensors[name] = torch.tensor(0)
        if self.scale is not None:
            for task in heads:
                tensors[f"{head_of(task)}.level_scale"] = torch.tensor(self.scale)
        return dict(sorted(tensors.items())), report

    def _build(self) -> tuple[ConvolutionalizedClassifier, dict[str | None, SkipFusionHead]]:
        """Backbone and each task's head on the meta device, for the shapes of their tensors."""
        try:
            with torch.device("meta"):
                backbone = MODELS.build(self.settings).eval()
                image = torch.empty(1, self.settings["in_channels"], 32, 32)
                channels = [level.shape[1] for level in backbone(image)]
                heads = {
                    task: SkipFusionHead(channels, range(len(channels)), count, scale=self.scale)
                    for task, count in [(None, self.num_classes), *self.tasks.items()]
                }
        except (RuntimeError, ValueError) as error:  # impossible widths
            raise UserError(
                f"{self.path}: no network can have these widths ({quoted(error)}); {self.remedy}"
            ) from error
        return backbone, heads

    def _check_complete(self, new: list[str], names: Mapping[str, str]) -> None:
        """Raise UserError if a tensor that such files must hold is missing.

        ``names``: Caffe's name of each of our tensors.
        """
        weights = self.weights
        allowed = ["decode_head.score.", "backbone.stages.5.norm_"]
        if self.net != weights.net:
            allowed.append("task_heads.")
        if weights.layout.features_only:
            allowed.append("backbone.stages.5.fc")
        missing = [
            names[name]
            for name in new
            if not name.startswith(tuple(allowed)) and not name.endswith(COUNT)
        ]
        # A truncated FCN-8s looks like FCN-16s or 32s, but its upsampling layers are missing.
        if weights.net and weights.layout.published and weights.layout.upscores:
            wanted = [
                f"{of_task(layer, task)}.weight"
                for layer in NETS[weights.net].upscores
                for task in (None, *weights.tasks)
            ]
            if weights.layout.several_tasks and not weights.tasks:
                wanted.append("score_fr_geo.weight")
            missing += [name for name in wanted if name not in weights.tensors]
        if missing:
            if not weights.net and all(name.startswith(CONNECTED) for name in missing):
                raise UserError(
                    f"{self.path}: {weights.layout.title} without fc6 and fc7, which is no whole "
                    "network; start a training from it: name it in a config, as "
                    f"model.backbone.init_cfg.checkpoint={self.path} (docs/own_data.md)"
                )
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
        published = storable(classes_of_tasks(self.num_classes, self.tasks))
        if published["classes"] != self.dataset_meta["classes"]:
            return None
        return shipped_config(self.weights, self.net, self.num_classes, self.settings)

    @property
    def summary(self) -> str:
        """One line with the network and its shipped config."""
        hint = f"; config: {self.config}" if self.config else ""
        counts = [f"{self.num_classes} classes", *(f"{n} of {k}" for k, n in self.tasks.items())]
        return f"{self.net} on {self.weights.layout.classifier}, {' and '.join(counts)}{hint}"

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
        if weights.input_untold:
            name = nyud_of(weights.input)
            lines.append(
                f"this file may be of NYUDv2's color or HHA, whose layers are alike; "
                f"{f'assumed {name} by its name' if name else 'its input stays unknown'}. Give "
                "--input nyud-color or --input nyud-hha"
            )
        if weights.layout.input is FEATURES_ONLY and not weights.known:
            lines.append("this input is assumed: the published VGG-16 without classifier has it")
        if not weights.known:
            lines += weights.layout.notes
        return "\n  ".join(lines)


def head_of(task: str | None) -> str:
    """The path of a task's head in the segmentor."""
    return "decode_head" if task is None else f"task_heads.{task}"


def is_bilinear(kernel: Tensor, shape: torch.Size) -> bool:
    """Whether a class x class kernel is bilinear on its diagonal and zero elsewhere."""
    if kernel.shape != shape:
        return False
    expected = torch.zeros(shape)
    expected.diagonal(dim1=0, dim2=1).copy_(bilinear_kernel(shape[-1])[..., None])
    return torch.allclose(kernel, expected, rtol=0, atol=1e-6)
