"""A caffemodel and the prototxt that describes it, as a checkpoint and, if need be, its config."""

from pathlib import Path

import torch
from torch import Tensor

from fcn_plugin.conversion.caffe.config import config_text
from fcn_plugin.conversion.caffe.graph import Node, settings
from fcn_plugin.conversion.caffe.network import CaffeNetwork, read_network
from fcn_plugin.conversion.network import Conversion, is_bilinear
from fcn_plugin.conversion.writing import write
from fcn_plugin.errors import UserError, did_you_mean, quoted
from fcn_plugin.system.files import disk_full, replacing
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.caffemodel import KINDS
from fcn_plugin.weights.files import format_of, read
from fcn_plugin.weights.networks import NETS
from fcn_plugin.weights.recognise import Weights, recognise_tensors, tell_input

DROPOUT = 0.5  # of the published networks
REMEDY = "give the prototxt that it was trained with"


class DescribedConversion(Conversion):
    """The caffemodel ``source``, which ``prototxt`` describes, as a checkpoint of our network.

    Args:
        trained_on: as of ``convert``, if the prototxt does not say the mean.

    Attributes:
        network: what the prototxt says.
        assumed: whether the network's input is unknown, so that its config assumes one.

    Raises:
        UserError: the prototxt describes a network of another form, or the file holds another
            network; names the first layer that differs. Or the input is known, so that it cannot
            be ``trained_on``.
    """

    def __init__(
        self,
        source: Path,
        prototxt: Path,
        progress: Progress = silent,
        trained_on: str | None = None,
    ) -> None:
        self.network = network = read_network(prototxt)
        weights = weights_of(source, network, progress)
        if network.image.mean:
            weights.input_untold = False
        if trained_on is not None:
            tell_input(weights, trained_on)
        self.published_input = weights.input
        super().__init__(weights)
        stated = network.image.input(self.settings["in_channels"])
        weights.input = stated or weights.input
        self.assumed = self.config is None and stated is None and trained_on is None
        if self.assumed:
            weights.input = None  # so that the mean in the config may be corrected

    @property
    def config(self) -> str | None:
        """The name of the shipped config of exactly this network; None if there is none."""
        ratio = self.network.classifier.settings.get("dropout_ratio", DROPOUT)
        published = self.weights.input == self.published_input and ratio == DROPOUT
        return super().config if published and not self.weights.kernels else None

    def write(self, target: Path, progress: Progress = silent) -> Path | None:
        """Write the checkpoint, and beside it its config unless a shipped one is for it.

        Returns:
            The file of the config, named as ``target``; None if a shipped one is for it.

        Raises:
            UserError: another config is there, the disk is full, or the folder cannot be written.
        """
        if target.is_dir():
            raise UserError(f"{target}: a folder; give the name of a file to write")
        file, text = target.with_suffix(".py"), None
        if not self.config:
            text = config_text(self, self.network, target).encode()
            if file == target:
                raise UserError(f"{target}: name it .pth or .safetensors; its config is the .py")
            if file.exists() and file.read_bytes() != text:
                raise UserError(f"{file}: there already; move it, or give another name to write to")
        write(self.checkpoint(), target, progress)
        if text is None:
            return None
        with disk_full(file), replacing(file) as part:
            part.write_bytes(text)
        return file

    def __str__(self) -> str:
        network = self.network
        lines = [
            super().__str__(),
            f"{network.path}: describes the same {len(network.layers)} layers with weights: "
            "names, shapes, windows, sums and crops",
        ]
        if self.assumed:
            lines.append("it does not say which mean is subtracted; see the config")
        return "\n  ".join(lines)


def weights_of(path: Path, network: CaffeNetwork, progress: Progress = silent) -> Weights:
    """The tensors of the caffemodel at ``path`` by the published networks' names.

    Raises:
        UserError: it is no caffemodel, or does not hold the network described; names the first
            layer that differs.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check its name")
    if format_of(path) != "caffemodel":
        raise UserError(f"{path}: not a caffemodel, which --prototxt describes; leave it out")
    stored, _ = read(path, progress)
    _check_layers(path, stored, network)
    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for node in network.layers:
        for kind in KINDS:
            if (tensor := stored.get(f"{node.name}.{kind}")) is not None:
                if node.kind == "Deconvolution" and settings(node)["group"] > 1:
                    tensor = _ungrouped(tensor)
                name = f"{network.names[node.name]}.{kind}"
                tensors[name], names[name] = tensor, f"{node.name}.{kind}"
    weights = recognise_tensors(path, tensors, None)
    weights.names = {name: names[name] for name in weights.tensors}
    weights.scale_names = [names[name] for name in weights.scale_names]
    weights.padding = network.classifier.settings["padding"]
    for upscore, side in zip(NETS[network.net].upscores, network.bilinear, strict=True):
        shape = torch.Size([network.num_classes] * 2 + [side] * 2)
        if not is_bilinear(tensors[f"{upscore}.weight"], shape):
            weights.kernels = network.kernels
    return weights


def _check_layers(path: Path, stored: dict[str, Tensor], network: CaffeNetwork) -> None:
    """Raise ``UserError`` at the first layer, in the prototxt's order, whose weights differ."""
    here = {name.rpartition(".")[0] for name in stored}
    described = {node.name for node in network.layers}
    for node in network.layers:
        name = quoted(node.name)
        if node.name not in here:
            hint = did_you_mean(node.name, here - described, REMEDY)
            raise UserError(f"{path}: no layer {name}, which {network.path} has; {hint}")
        shapes = _shapes(node, stored, network)
        for number, kind in enumerate(KINDS):
            tensor = stored.get(f"{node.name}.{kind}")
            shape = shapes[number] if number < len(shapes) else None
            if (tensor is None) != (shape is None):
                has, lacks = (path, network.path) if shape is None else (network.path, path)
                raise UserError(f"{lacks}: layer {name} has no {kind}, which {has} has; {REMEDY}")
            if tensor is not None and shape is not None and _bare(tensor.shape) != _bare(shape):
                raise UserError(
                    f"{path}: layer {name}: {kind} is {tuple(tensor.shape)}, but by "
                    f"{network.path} {shape}; {REMEDY}"
                )
    if extra := [name for name in stored if name.rpartition(".")[0] not in described]:
        name = quoted(extra[0].rpartition(".")[0])
        raise UserError(f"{path}: has a layer {name}, which {network.path} has not; {REMEDY}")


def _shapes(
    node: Node, stored: dict[str, Tensor], network: CaffeNetwork
) -> tuple[tuple[int, ...], ...]:
    """The shapes of a layer's blobs by the prototxt, weight first."""
    before = node.inputs[0]
    while not before.is_image and "num_output" not in settings(before):
        before = before.inputs[0]
    channels = settings(before).get("num_output") or network.image.channels
    if channels is None:  # of an image of which only the weights know
        channels = stored[f"{node.name}.weight"].shape[1:2].numel()
    if node.kind == "Scale":
        return ((channels,),)
    found = settings(node)
    outputs, group, side = (found[name] for name in ("num_output", "group", "kernel_size"))
    if node.kind == "Deconvolution":
        return ((channels, outputs // group, side, side),)
    return (outputs, channels // group, side, side), (outputs,)


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the leading ones by which Caffe's old files fill shapes up."""
    first = next((at for at, side in enumerate(shape) if side != 1), len(shape))
    return tuple(shape[first:])


def _ungrouped(kernel: Tensor) -> Tensor:
    """The kernel, classes x classes x k x k, of one group, from one kernel for each class."""
    classes, _, *sides = kernel.shape
    full = kernel.new_zeros(classes, classes, *sides)
    full[range(classes), range(classes)] = kernel[:, 0]
    return full
