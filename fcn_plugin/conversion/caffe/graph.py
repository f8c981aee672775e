"""The layers of a prototxt connected by their blobs, and what each layer's settings say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fcn_plugin.conversion.caffe.text import ENUMS, CaffeLayer, as_written
from fcn_plugin.errors import UserError, quoted
from fcn_plugin.geometry import Layer

LARGEST = 1 << 16  # channels of a layer, and sides of a kernel; fc6 of VGG has 4,096 and 7
# How many blobs a layer reads; it writes one.
BOTTOMS = dict(
    Convolution=1, Crop=2, Deconvolution=1, Dropout=1, Eltwise=2, LRN=1, Pooling=1, ReLU=1, Scale=1
)


@dataclass(eq=False)
class Node:
    """A layer, the layers that write what it reads, and those that read what it writes."""

    layer: CaffeLayer
    inputs: list["Node"]
    users: list["Node"] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def kind(self) -> str:
        return self.layer.kind

    @property
    def is_image(self) -> bool:
        """Whether it brings the image: a data layer, or several data layers side by side."""
        return not self.inputs or (
            self.kind == "Concat" and not any(data.inputs for data in self.inputs)
        )

    @property
    def fault(self) -> Callable[..., UserError]:
        """The layer's ``fault``."""
        return self.layer.fault

    def check(self, expected: dict[str, Any], where: str) -> None:
        """Raise ``UserError`` at the first setting that differs; ``where`` says what has it."""
        stated = settings(self)
        for name, value in expected.items():
            if stated[name] != value:
                raise self.fault(f"{name} {_shown(stated[name])}, but {_shown(value)} {where}")


def connect(layers: Sequence[CaffeLayer]) -> list[Node]:
    """A node for each layer, in their order.

    A layer that works in place takes the place of the one before it: whoever reads the blob later
    reads what it wrote.

    Raises:
        UserError: a layer reads what none before it writes, as in a circle, or writes what another
            has written.
    """
    nodes: list[Node] = []
    writers: dict[str, Node] = {}
    for layer in layers:
        for bottom in layer.bottoms:
            if bottom not in writers:
                raise layer.fault(
                    f"reads {quoted(bottom)}, which no layer before it writes",
                    "Caffe needs the layers in the order in which they run",
                )
        bottoms, tops = len(layer.bottoms), len(layer.tops)
        if layer.kind in BOTTOMS and (bottoms, tops) != (BOTTOMS[layer.kind], 1):
            raise layer.fault(
                f"reads {bottoms} blobs and writes {tops}, but {layer.kind} reads "
                f"{BOTTOMS[layer.kind]} and writes 1"
            )
        node = Node(layer, [writers[bottom] for bottom in layer.bottoms])
        for source in node.inputs:
            source.users.append(node)
        for top in layer.tops:
            if top in writers and top not in layer.bottoms:
                raise layer.fault(
                    f"writes {quoted(top)} as {quoted(writers[top].name)} does", "rename one"
                )
            writers[top] = node
        nodes.append(node)
    return nodes


def settings(node: Node) -> dict[str, Any]:
    """The settings of a layer that its output depends on, by Caffe's names for them."""
    read = SETTINGS.get(node.kind)
    return read(node) if read else {}


def window(node: Node) -> Layer:
    """The window of a Convolution, Pooling or Deconvolution along one axis."""
    stated = settings(node)
    return Layer(
        stated["kernel_size"],
        stated["stride"],
        stated["pad"],
        dilation=stated.get("dilation", 1),
        ceil=stated.get("round_mode") == "CEIL",
        transposed=node.kind == "Deconvolution",
    )


def _window(node: Node, stated: Any) -> dict[str, Any]:
    sides = dict(kernel_size=("kernel", 0), stride=("stride", 1), pad=("pad", 0))
    read = {
        name: _of_both_axes(node, stated, name, other, default)
        for name, (other, default) in sides.items()
    }
    for name, least in (("kernel_size", 1), ("stride", 1), ("pad", 0)):
        if not least <= read[name] <= LARGEST:
            raise node.fault(f"{name} {read[name]}, must be from {least} to {LARGEST}")
    return read


def _of_both_axes(node: Node, stated: Any, name: str, other: str, default: int) -> int:
    """A setting that is the same for rows and columns, as one number or one for each axis."""
    value = getattr(stated, name)
    if isinstance(value, int):  # of pooling, one number with a default
        values = {value}
        if stated.HasField(f"{other}_h") or stated.HasField(f"{other}_w"):
            values = {getattr(stated, f"{other}_h"), getattr(stated, f"{other}_w")}
    else:
        by_axis = [getattr(stated, f"{other}_{axis}") for axis in "hw"]
        values = set(value) or (set(by_axis) if any(by_axis) else {default})
    if len(values) > 1:
        raise node.fault(f"{name} {_shown(sorted(values))}, must be the same for rows and columns")
    return values.pop()


def _convolution(node: Node) -> dict[str, Any]:
    stated = node.layer.settings.convolution_param
    dilation = set(stated.dilation) or {1}
    if not 1 <= stated.num_output <= LARGEST:
        raise node.fault(f"num_output {stated.num_output}, must be from 1 to {LARGEST}")
    return dict(
        num_output=stated.num_output,
        **_window(node, stated),
        dilation=dilation.pop() if len(dilation) == 1 else sorted(dilation),
        group=stated.group,
        bias_term=stated.bias_term,
    )


def _pooling(node: Node) -> dict[str, Any]:
    stated = node.layer.settings.pooling_param
    if stated.global_pooling:
        raise node.fault("global_pooling, which no level of a fully convolutional network has")
    return dict(
        pool=ENUMS["POOL"][stated.pool],
        **_window(node, stated),
        round_mode=ENUMS["ROUND"][stated.round_mode],
    )


def _lrn(node: Node) -> dict[str, Any]:
    stated = node.layer.settings.lrn_param
    numbers = {name: as_written(getattr(stated, name)) for name in ("alpha", "beta", "k")}
    region = ENUMS["REGION"][stated.norm_region]
    return dict(local_size=stated.local_size, **numbers, norm_region=region)


def _eltwise(node: Node) -> dict[str, Any]:
    stated = node.layer.settings.eltwise_param
    coeff = [as_written(value) for value in stated.coeff] or [1.0] * len(node.inputs)
    return dict(operation=ENUMS["OPERATION"][stated.operation], coeff=coeff)


def _scale(node: Node) -> dict[str, Any]:
    stated = node.layer.settings.scale_param
    return dict(axis=stated.axis, num_axes=stated.num_axes, bias_term=stated.bias_term)


def _relu(node: Node) -> dict[str, Any]:
    return dict(negative_slope=as_written(node.layer.settings.relu_param.negative_slope))


def _dropout(node: Node) -> dict[str, Any]:
    ratio = as_written(node.layer.settings.dropout_param.dropout_ratio)
    if not 0 <= ratio < 1:
        raise node.fault(f"dropout_ratio {ratio}, must be from 0 to below 1")
    return dict(dropout_ratio=ratio)


SETTINGS: dict[str, Callable[[Node], dict[str, Any]]] = {
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Pooling": _pooling,
    "LRN": _lrn,
    "Eltwise": _eltwise,
    "Scale": _scale,
    "ReLU": _relu,
    "Dropout": _dropout,
}


def _shown(value: Any) -> str:
    """As a prototxt has it."""
    if isinstance(value, list):
        return " and ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
