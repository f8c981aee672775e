"""Caffe's binary weight files (.caffemodel), read with the protobuf library: no Caffe, no protoc.

Such a file is one message, NetParameter. Its layers stand in field 2 (V1, until 2014) or in
field 100, and each of them holds its tensors as BlobProto messages.
"""

import io
import math
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError
from torch import Tensor

from fcn_plugin.errors import UserError

# Field numbers and types, of the fields read here. Submessages are declared as bytes and parsed
# one at a time, so that no level of a damaged file can blow up before the level above it is known
# to be sound; names are, too, because the versions of the library differ on text that is not UTF-8.
BYTES = FieldDescriptorProto.TYPE_BYTES
INT32 = FieldDescriptorProto.TYPE_INT32
INT64 = FieldDescriptorProto.TYPE_INT64
FLOAT = FieldDescriptorProto.TYPE_FLOAT
DOUBLE = FieldDescriptorProto.TYPE_DOUBLE
ONE, MANY = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED

LEGACY_SHAPE = ("num", "channels", "height", "width")
SHAPE = {name: (number, INT32, ONE) for number, name in enumerate(LEGACY_SHAPE, 1)}
SHAPE["shape"] = (7, BYTES, ONE)
MESSAGES = {
    "V1Layer": dict(name=(4, BYTES, ONE), type=(5, INT32, ONE), blobs=(6, BYTES, MANY)),
    "Layer": dict(name=(1, BYTES, ONE), type=(2, BYTES, ONE), blobs=(7, BYTES, MANY)),
    # Packed floats are one run of bytes, which numpy takes whole; declared as floats they would
    # come out one Python object each. Floats that are not packed need the second declaration.
    "Blob": dict(SHAPE, data=(5, BYTES, ONE), double_data=(8, BYTES, ONE)),
    "UnpackedBlob": dict(SHAPE, data=(5, FLOAT, MANY), double_data=(8, DOUBLE, MANY)),
    "BlobShape": dict(dim=(1, INT64, MANY)),
}
LAYERS = {2: "V1Layer", 100: "Layer"}  # by their number in NetParameter
BEFORE_LAYERS = {1, 3, 4, 5, 6, 7, 8}  # name, input, input_dim, ..., input_shape
DATA, DOUBLE_DATA = 5, 8

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, Caffe never wrote

# Far above any real net. They bound time and memory where a file is nothing but tiny fields.
MAX_NET_FIELDS = 10_000
MAX_LAYER_FIELDS = 1_000
MAX_BLOBS = 32
MAX_BLOB_FIELDS = 64  # unless it is full of floats that are not packed
MAX_DIMS = 8
MAX_SHAPE_BYTES = 256
MAX_NAME_BYTES = 256
MAX_LAYER_BYTES = 2**31 - 1  # protocol buffers' own limit for a message


class CaffeLayer(NamedTuple):
    """One layer that has weights.

    Attributes:
        type: such as "Convolution"; the number as text where the file has V1 layers.
        blobs: float32, of the shape that the file states: older files give every blob four
            dimensions, (1, 1, 1, n) for a bias and (1, 1, out, in) for a fully connected layer.
    """

    name: str
    type: str
    blobs: list[Tensor]


class _Damaged(Exception):
    """What was expected and what was found, without the file's name."""


def read_caffemodel(
    path: Path, progress: Callable[[int, int], None] | None = None
) -> Iterator[CaffeLayer]:
    """The layers that hold blobs, in the file's order, one at a time.

    While it reads a layer it holds it twice at most (three times if its floats are not packed, as
    Caffe packs them), and nothing of the layers before it.

    Args:
        progress: is called with the bytes read so far and the bytes of the whole file.

    Raises:
        UserError: no such file, or a damaged one, when its iterator comes to the fault.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path of the .caffemodel")
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror}); make it readable for you"
        ) from error
    with file:
        try:
            yield from _layers(file, progress)
        except _Damaged as error:
            raise UserError(
                f"{path}: not a whole Caffe model: {error}; download it again"
            ) from error


def looks_like_caffemodel(path: Path) -> bool:
    """Whether ``path`` begins as a Caffe model does, whatever its name and whatever follows."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            for number, wire_type, length in islice(_fields(file), MAX_NET_FIELDS):
                if number in LAYERS:
                    # Every layer begins with a text: its name or the name of its input.
                    return wire_type == LENGTH and length > 0 and _varint(file) & 7 == LENGTH
                if number not in BEFORE_LAYERS or (number == 1 and wire_type != LENGTH):
                    return False
    except (OSError, _Damaged):
        pass
    return False


def _layers(file: BinaryIO, progress: Callable[[int, int], None] | None) -> Iterator[CaffeLayer]:
    # The fields of the whole net are walked here instead of by the library, which would need the
    # file in memory and then hold it a second time.
    size = file.seek(0, os.SEEK_END)
    found = False
    for count, (number, wire_type, length) in enumerate(_fields(file)):
        if count == MAX_NET_FIELDS:
            raise _Damaged(f"expected at most {MAX_NET_FIELDS} fields, found more")
        start = file.tell()
        layer = None  # the one before is let go first
        if number in LAYERS:
            if wire_type != LENGTH:
                raise _Damaged(f"expected a layer at byte {start}, found wire type {wire_type}")
            try:
                layer = _layer(file, LAYERS[number], length)
            except _Damaged as error:
                raise _Damaged(f"layer at byte {start}: {error}") from error
        if progress is not None:
            progress(start + length, size)
        if layer is not None and layer.blobs:
            found = True
            yield layer
    if not found:
        raise _Damaged("expected layers with weights, found none")


def _layer(file: BinaryIO, kind: str, length: int) -> CaffeLayer:
    """The layer in the next ``length`` bytes, which are there."""
    if length > MAX_LAYER_BYTES:
        raise _Damaged(f"expected at most {MAX_LAYER_BYTES} bytes, found {length}")
    raw = _take(file, length)
    known = MESSAGE_CLASSES[kind].DESCRIPTOR.fields_by_number
    for count, (number, wire_type, _) in enumerate(_fields(io.BytesIO(raw))):
        if count == MAX_LAYER_FIELDS:
            raise _Damaged(f"expected at most {MAX_LAYER_FIELDS} fields, found more")
        # The library drops a field that has another type than declared, and so a blob.
        expected = LENGTH if number in known and known[number].type == BYTES else VARINT
        if number in known and wire_type != expected:
            raise _Damaged(
                f"expected wire type {expected} for {known[number].name}, found {wire_type}"
            )
    message = _parsed(kind, raw)
    del raw  # here and below: never the same weights three times
    name = _text(message.name)
    layer_type = str(message.type) if kind == "V1Layer" else _text(message.type)
    if len(message.blobs) > MAX_BLOBS:
        raise _Damaged(f"expected at most {MAX_BLOBS} blobs, found {len(message.blobs)}")
    blobs = list(message.blobs)
    del message
    blobs.reverse()
    tensors: list[Tensor] = []
    while blobs:
        try:
            tensors.append(_popped_tensor(blobs))
        except _Damaged as error:
            raise _Damaged(f"blob {len(tensors)} of {name!r}: {error}") from error
    return CaffeLayer(name, layer_type, tensors)


def _popped_tensor(blobs: list[bytes]) -> Tensor:
    """The last of ``blobs``, which is taken out: nobody else may hold its bytes."""
    raw = blobs.pop()
    fields = list(islice(_fields(io.BytesIO(raw)), MAX_BLOB_FIELDS + 1))
    data = [(number, wire_type) for number, wire_type, _ in fields if number in (DATA, DOUBLE_DATA)]
    packed = len(fields) <= MAX_BLOB_FIELDS and data in ([(DATA, LENGTH)], [(DOUBLE_DATA, LENGTH)])
    message = _parsed("Blob" if packed else "UnpackedBlob", raw)
    del raw, fields
    shape = _shape(message)
    double = (DOUBLE_DATA, LENGTH) in data or (DOUBLE_DATA, FIXED64) in data
    values = message.double_data if double else message.data
    del message
    if packed:
        dtype = np.dtype("<f8" if double else "<f4")
        if len(values) % dtype.itemsize:
            raise _Damaged(f"expected numbers of {dtype.itemsize} bytes, found {len(values)} bytes")
        values = np.frombuffer(values, dtype)
    if len(values) != math.prod(shape):
        raise _Damaged(f"expected {math.prod(shape)} numbers for {shape}, found {len(values)}")
    with np.errstate(over="ignore"):  # doubles beyond float32 become infinite
        if packed:
            return torch.from_numpy(values.astype(np.float32).reshape(shape))
        return torch.from_numpy(np.fromiter(values, np.float32, len(values)).reshape(shape))


def _shape(message: Any) -> tuple[int, ...]:
    """Of a blob; at most ``MAX_DIMS`` dimensions, all of them positive."""
    if any(message.HasField(name) for name in LEGACY_SHAPE):
        dims = [getattr(message, name) for name in LEGACY_SHAPE]
    elif not message.HasField("shape"):
        raise _Damaged("expected a shape, found none")
    elif len(message.shape) > MAX_SHAPE_BYTES:
        raise _Damaged(f"expected a shape of a few bytes, found {len(message.shape)}")
    else:
        dims = list(_parsed("BlobShape", message.shape).dim)
    if len(dims) > MAX_DIMS:
        raise _Damaged(f"expected at most {MAX_DIMS} dimensions, found {len(dims)}")
    if any(dim < 1 for dim in dims):
        raise _Damaged(f"expected positive dimensions, found {tuple(dims)}")
    return tuple(dims)


def _text(raw: bytes) -> str:
    if len(raw) > MAX_NAME_BYTES:
        raise _Damaged(f"expected a name of at most {MAX_NAME_BYTES} bytes, found {len(raw)}")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _Damaged(f"expected a name in UTF-8, found {raw[:20]!r}") from error


def _fields(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """(number, wire type, length in bytes) of each field of the message that ``file`` holds.

    The file then stands at the field's content, all of which is there. A number that is written
    as a varint has been read past, and its length is 0.
    """
    size = file.seek(0, os.SEEK_END)
    position = file.seek(0)
    while position < size:
        tag = _varint(file)
        number, wire_type = tag >> 3, tag & 7
        length = 0
        if not 0 < number < 2**29:
            raise _Damaged(f"expected a field at byte {position}, found number {number}")
        if wire_type == VARINT:
            _varint(file)
        elif wire_type == LENGTH:
            length = _varint(file)
        elif wire_type in (FIXED32, FIXED64):
            length = 4 if wire_type == FIXED32 else 8
        else:
            raise _Damaged(f"expected a field at byte {position}, found wire type {wire_type}")
        start = file.tell()
        if length > size - start:
            raise _Damaged(
                f"expected {length} bytes in field {number} at byte {position}, "
                f"found {size - start} before the end"
            )
        yield number, wire_type, length
        position = file.seek(start + length)


def _varint(file: BinaryIO) -> int:
    """Seven bits a byte, lowest first; the top bit says that another byte follows."""
    value = 0
    for shift in range(0, 64, 7):
        byte = _take(file, 1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and value < 2**64:
            return value
    raise _Damaged(f"expected a number of 64 bits before byte {file.tell()}, found a longer one")


def _take(file: BinaryIO, length: int) -> bytes:
    try:
        content = file.read(length)
    except OSError as error:
        raise _Damaged(f"cannot be read ({error.strerror})") from error
    if len(content) < length:
        raise _Damaged(f"expected {length} bytes more, found {len(content)} before the end")
    return content


def _parsed(kind: str, raw: bytes) -> Any:
    message = MESSAGE_CLASSES[kind]()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise _Damaged(f"expected the fields of {kind}, found bytes that are none") from error
    return message


def _message_classes() -> dict[str, Any]:
    """A class of the library for each of ``MESSAGES``."""
    file = FileDescriptorProto(name="fcn_plugin/caffe.proto", package="fcn_plugin.caffe")
    for kind, fields in MESSAGES.items():
        message = file.message_type.add(name=kind)
        for name, (number, field_type, label) in fields.items():
            message.field.add(name=name, number=number, type=field_type, label=label)
    # Not GetMessageClass, which the first releases of protobuf 4 do not have.
    classes = message_factory.GetMessages([file])
    return {kind: classes[f"{file.package}.{kind}"] for kind in MESSAGES}


MESSAGE_CLASSES = _message_classes()
