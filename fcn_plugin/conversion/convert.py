"""Published weights as a checkpoint of MMSegmentation, for one of our networks."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmseg.registry import MODELS
from safetensors import SafetensorError
from torch import Tensor

from fcn_plugin.conversion.classes import VOC_CLASSES, of_count, of_dataset, plain
from fcn_plugin.errors import UserError
from fcn_plugin.geometry import AxisMap, transposed_convolution
from fcn_plugin.models import SkipFusionHead
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.upsample import bilinear_kernel
from fcn_plugin.system.files import replacing
from fcn_plugin.weights.fill import Filling, Report
from fcn_plugin.weights.networks import (
    BACKBONES,
    COUNT,
    HEAD_LAYERS,
    NETS,
    Backbone,
    caffe_name,
)
from fcn_plugin.weights.recognise import Progress, Weights, open_weights
from fcn_plugin.weights.safetensors_files import SUFFIX, write_safetensors
from fcn_plugin.weights.sources import FEATURES_ONLY

REMEDY = "the file is damaged, truncated or of another network; download it again"

OWN_REMEDY = (
    "of our own checkpoints only FCN-32s, 16s, 8s and 8s at once on VGG, and FCN-32s on AlexNet "
    "and GoogLeNet, can be converted, without other norms than BatchNorm"
)
FC_CHANNELS = 4096  # of the published networks

# The shipped config of (net, classifier, classes, whether the input is Caffe's).
CONFIGS = {
    **{
        (net, "vgg16", classes, caffe): f"configs/{net}_vgg16_{recipe}.py"
        for classes, caffe, recipe in (
            (21, True, "voc2011-heavy"),
            (60, True, "pascal-context-heavy"),
            (21, False, "voc"),
        )
        for net in ("fcn32s", "fcn16s", "fcn8s")
    },
    ("fcn8s", "vgg16", 60, False): "configs/fcn8s_vgg16_pascal-context.py",
    ("fcn8s-atonce", "vgg16", 21, True): "configs/fcn8s-atonce_vgg16_voc2011-heavy.py",
    ("fcn32s", "caffenet", 21, True): "configs/fcn32s_alexnet_voc2011.py",
    ("fcn32s", "googlenet", 21, True): "configs/fcn32s_googlenet_voc2011.py",
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
        source: any file that ``recognise.open_weights`` knows, our own checkpoints included.
        target: replaced at the very end, untouched if anything goes wrong; in safetensors' format
            if its name ends with ".safetensors", else in PyTorch's.
        net: one of ``NETS``; default the source's own, FCN-32s for a Caffe classifier (the first
            stage of the published chain) and FCN-8s for others.
        dataset: a data set of the host, e.g. 'CamVidDataset', whose classes are to be scored.
        num_classes: how many classes are to be scored. Score layers of other classes start anew,
            at zero; those of the same in another order are reordered.

    Raises:
        UserError: the source is not what it should be, or does not fit what is asked for.
    """
    if target.is_dir():
        raise UserError(f"{target}: a folder; give the name of a file to write")
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
        self.remedy = REMEDY if weights.layout.published else OWN_REMEDY
        if weights.layout.segmentor and weights.net is None:
            raise UserError(
                f"{self.path}: {weights.layout.title}, but its score layers are of none of "
                f"{', '.join(NETS)}; {self.remedy}"
            )
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
        self.dataset_meta, self.order = self._classes(dataset, num_classes)
        self.settings = {
            **backbone.settings,
            **_widths(weights, backbone),
            "out_indices": backbone.levels[self.net],
        }
        self.report = Report()
        self.state_dict: dict[str, Tensor] = {}
        self._fill()

    @property
    def num_classes(self) -> int:
        """How many classes are scored, background included."""
        return len(self.order or self.dataset_meta["classes"])

    def _scale(self) -> tuple[float, ...] | None:
        """The factors of the network asked for, which have to be those of the score layers."""
        wanted = NETS[self.net].scale
        found = self.weights.scale
        if not any(name.startswith("score_pool") for name in self.weights.tensors):
            return wanted
        if found is None and self.weights.scale_untold:
            return wanted
        if (found is None) != (wanted is None):
            trained = f"with scales {_numbers(found)}" if found else "without scales"
            raise UserError(
                f"{self.path}: its skip layers were trained {trained}, and {self.net} has "
                f"{_numbers(wanted) if wanted else 'none'}; leave --net out"
            )
        return found

    def _classes(
        self, dataset: str | None, num_classes: int | None
    ) -> tuple[dict[str, Any], list[int] | None]:
        """Names and colours of the classes to be scored, and which of the source's each is.

        No order if the source has not got these classes.
        """
        own = self.weights.num_classes
        stored = self.weights.dataset_meta or of_count(own or VOC_CLASSES)
        if dataset is None:
            if own is not None and num_classes in (None, own):
                return plain(stored), list(range(own))
            return plain(of_count(num_classes) if num_classes else stored), None
        meta = plain(of_dataset(dataset))
        if num_classes not in (None, len(meta["classes"])):
            raise UserError(
                f"--dataset {dataset} has {len(meta['classes'])} classes, --num-classes says "
                f"{num_classes}; leave one out"
            )
        names = list(stored["classes"])
        if own == len(names) and set(names) == set(meta["classes"]):
            return meta, [names.index(name) for name in meta["classes"]]
        return meta, None

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
        if weights.net and self.order:
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
            if not self.order:
                return f"for {weights.num_classes} other classes"
            return "the bilinear kernel, which the head has anyway"

        filling = Filling(self.path, shapes, self.remedy)
        filling.drain(weights.tensors, weights.names, targets, reason)
        self._reorder(filling.tensors)
        filling.report.used += weights.scale_names
        filling.report.dropped |= weights.dropped
        self._check_complete(filling.report.new)
        for name in filling.report.new:
            if name.startswith("decode_head.score."):
                filling.tensors[name] = torch.zeros(shapes[name])
            elif name.endswith(COUNT):
                filling.tensors[name] = torch.tensor(0)
        if self.scale is not None:
            filling.tensors["decode_head.level_scale"] = torch.tensor(self.scale)
        self.report = filling.report
        self.state_dict = {name: filling.tensors[name] for name in sorted(filling.tensors)}

    def _reorder(self, tensors: dict[str, Tensor]) -> None:
        """Put the classes of the head into the order that was asked for."""
        if self.order is None or self.order == sorted(self.order):
            return
        for name in tensors:
            if name.startswith("decode_head."):
                tensors[name] = tensors[name][self.order]
                if ".deconv." in name:  # from classes to classes
                    tensors[name] = tensors[name][:, self.order]

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
                f"{self.path}: no network is as wide as this ({str(error).splitlines()[0]}); "
                f"{self.remedy}"
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
            if not name.startswith(tuple(allowed)) and not name.endswith(COUNT)
        ]
        # A file that ends too early could pass for FCN-16s or 32s, but for its upsampling layers.
        if weights.net and weights.layout.published:
            kernels = [f"{layer}.weight" for layer in NETS[weights.net].upscores]
            lacking += [name for name in kernels if name not in weights.tensors]
        if lacking:
            net = f", {weights.net}" if weights.net else ""
            raise UserError(
                f"{self.path}: {weights.layout.title}{net}, but {len(lacking)} of its tensors are "
                f"missing, e.g. {lacking[0]}; {self.remedy}"
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
        if self.weights.padding is not None:
            meta["padding"] = self.weights.padding
        if self.config is not None:
            meta["made_for"] = self.config
        return dict(meta=meta, state_dict=self.state_dict)

    @property
    def config(self) -> str | None:
        """The shipped config that this is for."""
        key = self.net, self.weights.layout.classifier, self.num_classes, self.from_caffe
        own = plain(of_count(self.num_classes))["classes"] == self.dataset_meta["classes"]
        padding = "reference" if self.from_caffe else "same"
        fits = (
            self.settings["base_channels"] == BACKBONES[_variant(self.weights)].base_channels
            and self.settings["in_channels"] == 3
            and self.settings.get("fc_channels", FC_CHANNELS) == FC_CHANNELS
            and self.weights.padding in (None, padding)
        )
        return CONFIGS.get(key) if own and fits else None

    @property
    def summary(self) -> str:
        """In one line: the network, and the shipped config that it is for."""
        hint = f"; config: {self.config}" if self.config else ""
        return f"{self.net} on {self.weights.layout.classifier}, {self.num_classes} classes{hint}"

    def __str__(self) -> str:
        known = self.weights.known
        lines = [
            f"{self.path}: {self.weights.layout.title}"
            + (f" (the published {known.file_name})" if known else " (by content)"),
            f"  {self.report}",
        ]
        if self.weights.input is not None:
            seen = self.weights.input
            lines.append(
                f"  input {seen.order}, mean {_numbers(seen.mean)}, std {_numbers(seen.std)}"
            )
        if self.weights.scale_untold:
            lines.append(
                "  such a file does not tell whether it was trained at once: taken for "
                f"{self.net}, scale {self.scale and _numbers(self.scale)}; else give --net"
            )
        if self.weights.layout.input is FEATURES_ONLY and not known:
            lines.append("  of VGG-16 the published file without a classifier has this input")
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
    return transposed_convolution(maps[level].within(finer)).kernel


def _numbers(values: Sequence[float]) -> str:
    return "/".join(f"{value:.6g}" for value in values)


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
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{target}: cannot be written ({reason}); it takes {size / 1e6:.0f} MB, choose "
            "another place or make room"
        ) from error
