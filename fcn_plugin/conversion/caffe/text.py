"""Read a prototxt: the layers of the network as Caffe builds it for testing.

A prototxt is a NetParameter message in protobuf's text form, its layers in the field "layer", or
"layers" until 2014, whose types are words in capitals. A net for training and testing has layers
for one phase only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, message_factory, text_format

from fcn_plugin.errors import UserError, quoted

# Fields by message: "type name", with a star for repeated ones and a default that is not Caffe's
# zero. Types in capitals are in ENUMS. Other fields are passed over: they say how to train.
WINDOW = (
    "uint32 kernel_h",
    "uint32 kernel_w",
    "uint32 stride_h",
    "uint32 stride_w",
    "uint32 pad_h",
    "uint32 pad_w",
)
LAYER = (
    "string name",
    "string bottom*",
    "string top*",
    "Rule include*",
    "Rule exclude*",
    "Transform transform_param",
    "Convolution convolution_param",
    "Crop crop_param",
    "Dropout dropout_param",
    "Eltwise eltwise_param",
    "Input input_param",
    "LRN lrn_param",
    "Pooling pooling_param",
    "Python python_param",
    "ReLU relu_param",
    "Scale scale_param",
)
MESSAGES: dict[str, tuple[str, ...]] = {
    "Shape": ("int64 dim*",),
    "Rule": (
        "PHASE phase",
        "int32 min_level",
        "int32 max_level 2147483647",
        "string stage*",
    ),
    "Transform": ("float scale 1", "float mean_value*"),
    "Convolution": (
        "uint32 num_output",
        "bool bias_term true",
        "uint32 kernel_size*",
        "uint32 stride*",
        "uint32 pad*",
        "uint32 dilation*",
        "uint32 group 1",
        *WINDOW,
    ),
    "Crop": ("int32 axis 2", "uint32 offset*"),
    "Dropout": ("float dropout_ratio 0.5",),
    "Eltwise": ("OPERATION operation SUM", "float coeff*"),
    "Input": ("Shape shape*",),
    "LRN": (
        "uint32 local_size 5",
        "float alpha 1",
        "float beta 0.75",
        "float k 1",
        "REGION norm_region ACROSS_CHANNELS",
    ),
    "Pooling": (
        "POOL pool MAX",
        "uint32 kernel_size",
        "uint32 stride 1",
        "uint32 pad",
        "bool global_pooling",
        "ROUND round_mode CEIL",
        *WINDOW,
    ),
    "Python": ("string param_str",),
    "ReLU": ("float negative_slope",),
    "Scale": ("int32 axis 1", "int32 num_axes 1", "bool bias_term"),
    "V1Layer": ("V1TYPE type", *LAYER),
    "Layer": ("string type", *LAYER),
    "Net": (
        "string input*",
        "int32 input_dim*",
        "Shape input_shape*",
        "V1Layer layers*",
        "Layer layer*",
    ),
}
# The types of the old form; today's have the same words without underscores, but for some.
V1_WORDS = """
    NONE ABSVAL ACCURACY ARGMAX BNLL CONCAT CONTRASTIVE_LOSS CONVOLUTION CROP DATA DECONVOLUTION
    DROPOUT DUMMY_DATA ELTWISE EUCLIDEAN_LOSS EXP FLATTEN HDF5_DATA HDF5_OUTPUT HINGE_LOSS IM2COL
    IMAGE_DATA INFOGAIN_LOSS INNER_PRODUCT LRN MEMORY_DATA MULTINOMIAL_LOGISTIC_LOSS MVN POOLING
    POWER PYTHON RELU SIGMOID SIGMOID_CROSS_ENTROPY_LOSS SILENCE SLICE SOFTMAX SOFTMAX_LOSS SPLIT
    TANH THRESHOLD WINDOW_DATA
"""
V1_TYPES = V1_WORDS.split()
V1_NAMES = dict(NONE="", ARGMAX="ArgMax", LRN="LRN", RELU="ReLU", SOFTMAX_LOSS="SoftmaxWithLoss")
ENUMS: dict[str, Sequence[str]] = {
    "PHASE": ("TRAIN", "TEST"),
    "OPERATION": ("PROD", "SUM", "MAX"),
    "REGION": ("ACROSS_CHANNELS", "WITHIN_CHANNEL"),
    "POOL": ("MAX", "AVE", "STOCHASTIC"),
    "ROUND": ("CEIL", "FLOOR"),
    "V1TYPE": V1_TYPES,
}
# Bytes of a file, and of a line, with which protobuf's parser takes quadratic time. The longest
# networks of Caffe's time have a tenth of it.
LARGEST, LONGEST_LINE = 1_000_000, 30_000
TAKEN = "--prototxt takes FCN-32s, 16s, 8s and 8s at once on VGG, and FCN-32s on CaffeNet"
CORRECT = f"correct it, unless the network was trained so: {TAKEN}"
REMEDY = "give the network's deploy.prototxt, val.prototxt or train_val.prototxt"


@dataclass(frozen=True)
class CaffeLayer:
    """One layer of a network.

    Attributes:
        path: the prototxt, for messages.
        kind: the type by its name of today, e.g. "Convolution".
        bottoms, tops: names of the blobs that it reads and writes.
        settings: the message itself, with Caffe's defaults.
    """

    path: Path
    name: str
    kind: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    settings: Any

    def fault(self, what: str, remedy: str = CORRECT) -> UserError:
        """The error that names this layer."""
        return UserError(f"{self.path}: layer {quoted(self.name)}: {what}; {remedy}")


def read_prototxt(path: Path) -> list[CaffeLayer]:
    """The layers of the network as Caffe builds it for testing, in the file's order.

    An input that is no layer of its own (``input: "data"``) comes first, as one of kind "Input".

    Raises:
        UserError: the file is missing, not text, no prototxt of a network, or too large; two
            layers have one name, or one has no type.
    """
    net = _parsed(path)
    layers = [layer for layer in _layers(path, net) if _in_test(layer.settings)]
    if not layers:
        raise UserError(f"{path}: describes no layers of a network for testing; {REMEDY}")
    names: set[str] = set()
    for layer in layers:
        if layer.name in names:
            raise layer.fault("there are two of this name", "rename one; weights go by names")
        names.add(layer.name)
        if not layer.kind:
            raise layer.fault("has no type", REMEDY)
    return layers


def _parsed(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file; {REMEDY}")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    if len(content) > LARGEST or max(map(len, content.split(b"\n"))) > LONGEST_LINE:
        raise UserError(
            f"{path}: more than 1 MB, or a line of more than 30 kB, so no prototxt; {REMEDY}"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not text in UTF-8 ({quoted(error.reason)} at byte {error.start}); {REMEDY}"
        ) from error
    try:
        return text_format.Parse(text, CLASSES["Net"](), allow_unknown_field=True)
    # Nested deeper than Python's stack, which networks never are.
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply; {REMEDY}") from error
    except text_format.ParseError as error:
        raise UserError(f"{path}: not a prototxt ({quoted(error)}); {REMEDY}") from error


def _layers(path: Path, net: Any) -> Iterator[CaffeLayer]:
    per_input = len(net.input_dim) // max(len(net.input), 1)
    for number, name in enumerate(net.input):
        shapes = net.input_shape[number : number + 1]
        dims = net.input_dim[number * per_input : (number + 1) * per_input]
        settings = CLASSES["Layer"](name=name)
        settings.input_param.shape.add(dim=shapes[0].dim if shapes else dims)
        yield CaffeLayer(path, name, "Input", (), (name,), settings)
    for layer in (*net.layers, *net.layer):
        kind = layer.type
        if not isinstance(kind, str):
            word = V1_TYPES[kind]
            kind = V1_NAMES.get(word, word.title().replace("_", ""))
        yield CaffeLayer(path, layer.name, kind, tuple(layer.bottom), tuple(layer.top), layer)


def _in_test(settings: Any) -> bool:
    """Caffe's rule: one of the includes is met, or there is none and no exclude is met."""
    if settings.include:
        return any(map(_met, settings.include))
    return not any(map(_met, settings.exclude))


def _met(rule: Any) -> bool:
    phase = not rule.HasField("phase") or ENUMS["PHASE"][rule.phase] == "TEST"
    return phase and rule.min_level <= 0 <= rule.max_level and not rule.stage


def as_written(value: float) -> float:
    """A number in single precision as the text has it.

    >>> as_written(0.10000000149011612)
    0.1
    """
    return float(str(np.float32(value)))


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="caffe_networks.proto", package="caffe_networks")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        enums = set()
        for number, (kind, field_name, *default) in enumerate(map(str.split, fields), start=1):
            field = message.field.add(name=field_name.rstrip("*"), number=number)
            many = field_name.endswith("*")
            field.label = kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL
            if default:
                field.default_value = default[0]
            if kind in MESSAGES:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".caffe_networks.{kind}"
            elif kind in ENUMS:
                field.type, field.type_name = kinds.TYPE_ENUM, f".caffe_networks.{name}.{kind}"
                enums.add(kind)
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
        # Within the message, since the words of two enums may be the same.
        for kind in sorted(enums):
            enum = message.enum_type.add(name=kind)
            for number, word in enumerate(ENUMS[kind]):
                enum.value.add(name=word, number=number)
    classes = message_factory.GetMessages([file])
    return {name: classes[f"caffe_networks.{name}"] for name in MESSAGES}


CLASSES = _message_classes()
