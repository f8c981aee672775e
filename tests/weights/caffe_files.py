"""Writes Caffe's binary files for tests, through the protobuf library's own encoder.

The schema is written from the format's table and shares nothing with the reader: it has true
submessages and floats, and the fields around the weights that real files hold too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from google.protobuf import descriptor_pb2, message_factory
from torch import Tensor

Version = Literal["V1", "V2"]

# message: "number name type", a trailing * for repeated, + for repeated and packed.
SCHEMA: dict[str, list[str]] = {}
for form, many in (("Packed", "+"), ("Unpacked", "*")):
    blob = f"{form}Blob"
    SCHEMA[f"{form}Shape"] = [f"1 dim int64{many}"]
    SCHEMA[blob] = [
        *("1 num int32", "2 channels int32", "3 height int32", "4 width int32"),
        *(f"5 data float{many}", f"6 diff float{many}", f"7 shape {form}Shape"),
        f"8 double_data double{many}",
    ]
    SCHEMA[f"V1Layer{blob}"] = [
        *("2 bottom string*", "3 top string*", "4 name string", "5 type int32"),
        *(f"6 blobs {blob}*", "7 blobs_lr float*"),
    ]
    SCHEMA[f"V2Layer{blob}"] = [
        *("1 name string", "2 type string", "3 bottom string*", "4 top string*"),
        *("5 loss_weight float*", f"7 blobs {blob}*", "10 phase int32"),
    ]
    SCHEMA[f"Net{blob}"] = [
        *("1 name string", f"2 layers V1Layer{blob}*", "3 input string*", "4 input_dim int32*"),
        *("5 force_backward bool", f"100 layer V2Layer{blob}*"),
    ]

PIECE = 1 << 20  # numbers at a time: as Python objects they take eight times the memory
V1_TYPES = {"Convolution": 4, "Dropout": 6, "InnerProduct": 14, "Pooling": 17, "ReLU": 18}


def write_caffemodel(
    path: Path,
    layers: Mapping[str, Sequence[np.ndarray | Tensor]],
    version: Version = "V2",
    packed: bool = True,
    legacy_shape: bool = False,
    double: bool = False,
) -> None:
    """One layer after the other, so that no more than one is held.

    Args:
        layers: the blobs of each layer by its name.
        packed: numbers as one run of bytes, or each with a tag.
        legacy_shape: num, channels, height and width instead of a shape, filled up with leading
            ones as Caffe did: (n,) is 1, 1, 1, n.
        double: write float64, in the field that is for them.
    """
    net_class = CLASSES["NetPackedBlob" if packed else "NetUnpackedBlob"]
    with path.open("wb") as file:
        net = net_class(
            name="a net", input=["data"], input_dim=[1, 3, 224, 224], force_backward=True
        )
        file.write(net.SerializeToString())
        for index, (name, blobs) in enumerate(layers.items()):
            # Messages written behind each other are one message with the fields of all.
            net = net_class()
            arrays = [np.asarray(blob) for blob in blobs]
            convolution = any(array.ndim == 4 for array in arrays)
            layer = _layer(net, version, name, "Convolution" if convolution else "InnerProduct")
            for array in arrays:
                _fill(layer.blobs.add(), array, legacy_shape, double)
            del arrays
            if version == "V1":
                layer.blobs_lr.extend([1, 2])
            else:
                layer.phase = 1
            file.write(net.SerializeToString())
            if index == 0:
                net = net_class()
                for kind in ("ReLU", "Pooling", "Dropout"):
                    _layer(net, version, kind.lower(), kind)
                file.write(net.SerializeToString())


def _layer(net, version: Version, name: str, kind: str):
    layer = (net.layers if version == "V1" else net.layer).add()
    layer.name = name
    layer.type = V1_TYPES[kind] if version == "V1" else kind
    layer.bottom.append("data")
    layer.top.append(name)
    return layer


def _fill(blob, array: np.ndarray, legacy_shape: bool, double: bool) -> None:
    if legacy_shape:
        blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
    else:
        blob.shape.dim.extend(array.shape)
        blob.shape.SetInParent()  # there even when it has no dimensions
    numbers = np.ravel(array).astype(np.float64 if double else np.float32, copy=False)
    target = blob.double_data if double else blob.data
    for start in range(0, numbers.size, PIECE):
        target.extend(numbers[start : start + PIECE].tolist())


def _message_classes() -> dict:
    file = descriptor_pb2.FileDescriptorProto(name="caffe_for_tests.proto", package="for_tests")
    field_type = descriptor_pb2.FieldDescriptorProto
    for kind, lines in SCHEMA.items():
        message = file.message_type.add(name=kind)
        for number, name, type_name in map(str.split, lines):
            bare = type_name.rstrip("*+")
            field = message.field.add(name=name, number=int(number))
            one, many = field_type.LABEL_OPTIONAL, field_type.LABEL_REPEATED
            field.label = one if bare == type_name else many
            if bare in SCHEMA:
                field.type, field.type_name = field_type.TYPE_MESSAGE, f".for_tests.{bare}"
            else:
                field.type = getattr(field_type, f"TYPE_{bare.upper()}")
            field.options.packed = type_name.endswith("+")
    classes = message_factory.GetMessages([file])
    return {kind: classes[f"for_tests.{kind}"] for kind in SCHEMA}


CLASSES = _message_classes()
