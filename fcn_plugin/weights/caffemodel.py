"""Caffe's binary weight files (.caffemodel), read without Caffe.

Such a file is one protocol-buffers message, NetParameter: a sequence of fields. A field is a tag
(its number and wire type) and a content, which may be a message too. The layers are in field 2 (V1,
until 2014) or in field 100; a layer holds its tensors as BlobProto messages. Messages are parsed
inside the file, so that the weights are never in memory twice.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fcn_plugin.errors import UserError
from fcn_plugin.system.progress import Progress, silent

# Numbers of the fields that are read here.
LAYERS = {2: dict(name=4, blobs=6), 100: dict(name=1, blobs=7)}  # in NetParameter
BEFORE_LAYERS = {1, 3, 4, 5, 6, 7, 8}  # name, input, input_dim, ..., input_shape
LEGACY_SHAPE = (1, 2, 3, 4)  # num, channels, height, width
DATA, SHAPE, DOUBLE_DATA = 5, 7, 8  # in BlobProto
DIM = 1  # in BlobShape
MAX_DIMS = 8  # Caffe's blobs have 4

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types; Caffe never wrote 3, 4 (groups)

KINDS = ("weight", "bias")  # a layer's blobs, in the file's order


class Field(NamedTuple):
    """One field of a message; its content is the bytes ``start`` to ``end`` of the file."""

    number: int
    wire_type: int
    start: int
    end: int


class _Damaged(Exception):
    """Says what was expected and what was found; the caller adds the file's name."""


def read_caffemodel(path: Path, progress: Progress = silent) -> dict[str, Tensor]:
    """The tensors of all layers: "conv1_1.weight", "conv1_1.bias" and so on, in the file's order.

    They are float32, in the file's shapes: older files give every blob four dimensions,
    (1, 1, 1, n) for a bias and (1, 1, out, in) for a fully connected layer.

    Raises:
        UserError: the file is missing or damaged, or has layers of more than two blobs.
    """
    tensors: dict[str, Tensor] = {}
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            for field in _fields(file, 0, size):
                if field.number in LAYERS:
                    name, blobs = _layer(file, field)
                    if len(blobs) > len(KINDS):
                        raise UserError(
                            f"{path}: layer {name} has {len(blobs)} blobs, expected a weight and a "
                            "bias; only the published FCNs and their classifiers can be read"
                        )
                    if blobs and f"{name}.{KINDS[0]}" in tensors:
                        raise UserError(f"{path}: has two layers {name}; download it again")
                    tensors |= {f"{name}.{k}": b for k, b in zip(KINDS, blobs, strict=False)}
                progress("reading", field.end, size)
            if not tensors:
                raise _Damaged("expected layers with weights, found none")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    except _Damaged as error:
        raise UserError(f"{path}: not a whole Caffe model: {error}; download it again") from error
    return tensors


def looks_like_caffemodel(path: Path) -> bool:
    """Whether the first bytes are a Caffe model's; neither name nor the rest is looked at."""
    with suppress(OSError, _Damaged), path.open("rb") as file:
        for field in _fields(file, 0, file.seek(0, os.SEEK_END)):
            if field.number in LAYERS:
                # Every layer begins with a string: its name or its input's name.
                file.seek(field.start)
                whole = field.wire_type == LENGTH and field.start < field.end
                return whole and _varint(file) & 7 == LENGTH
            named = field.number != 1 or field.wire_type == LENGTH
            if field.number not in BEFORE_LAYERS or not named:
                return False
    return False


def _layer(file: BufferedReader, layer: Field) -> tuple[str, list[Tensor]]:
    numbers, name, blobs = LAYERS[layer.number], "", []
    try:
        if layer.wire_type != LENGTH:
            raise _Damaged(f"expected a message, found wire type {layer.wire_type}")
        for field in _fields(file, layer.start, layer.end):
            if field.number == numbers["name"]:
                name = _text(file, field)
            elif field.number == numbers["blobs"]:
                blobs.append(_tensor(file, field))
    except _Damaged as error:
        raise _Damaged(f"layer {name!r} at byte {layer.start}: {error}") from error
    return name, blobs


def _tensor(file: BufferedReader, blob: Field) -> Tensor:
    fields = list(_fields(file, blob.start, blob.end))
    shape = _shape(file, fields)
    double = any(field.number == DOUBLE_DATA for field in fields)
    dtype = np.dtype("<f8" if double else "<f4")
    # Caffe writes the numbers as one field; several fields, or one per number, mean the same.
    pieces = [field for field in fields if field.number == (DOUBLE_DATA if double else DATA)]
    size = sum(piece.end - piece.start for piece in pieces)
    if size != math.prod(shape) * dtype.itemsize:
        raise _Damaged(f"expected {math.prod(shape)} numbers for {shape}, found {size} bytes")
    data = bytearray(size)
    position = 0
    for piece in pieces:
        file.seek(piece.start)
        position += file.readinto(memoryview(data)[position:][: piece.end - piece.start])
    if position < size:
        raise _Damaged(f"expected {size} bytes, found {position} before the end")
    with np.errstate(over="ignore"):  # doubles beyond float32 become infinite
        numbers = np.frombuffer(data, dtype).astype(np.float32, copy=False)
    return torch.from_numpy(numbers.reshape(shape))


def _shape(file: BufferedReader, fields: list[Field]) -> tuple[int, ...]:
    """A blob's shape: at most ``MAX_DIMS`` dimensions, all of them positive."""
    legacy = {field.number: field for field in fields if field.number in LEGACY_SHAPE}
    stated = [field for field in fields if field.number == SHAPE]
    if legacy:
        dims = [
            next(_varints(file, legacy[number]), 0) if number in legacy else 0
            for number in LEGACY_SHAPE
        ]
    elif stated:
        entries = _fields(file, stated[-1].start, stated[-1].end)
        dims = [dim for entry in entries if entry.number == DIM for dim in _varints(file, entry)]
    else:
        raise _Damaged("expected a shape, found none")
    if len(dims) > MAX_DIMS or not all(dims):
        raise _Damaged(
            f"expected at most {MAX_DIMS} positive dimensions, found {dims[: MAX_DIMS + 1]}"
        )
    return tuple(dims)


def _text(file: BufferedReader, field: Field) -> str:
    file.seek(field.start)
    content = file.read(field.end - field.start)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _Damaged(f"expected a name in UTF-8, found {content[:20]!r}") from error


def _fields(file: BufferedReader, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in bytes ``start`` to ``end``, each checked to be complete."""
    while start < end:
        file.seek(start)
        tag = _varint(file)
        number, wire_type = tag >> 3, tag & 7
        length = _varint(file) if wire_type == LENGTH else 0
        content = file.tell()
        if wire_type == VARINT:
            _varint(file)
            length = file.tell() - content
        elif wire_type in (FIXED32, FIXED64):
            length = 4 if wire_type == FIXED32 else 8
        elif wire_type != LENGTH:
            raise _Damaged(f"expected a field at byte {start}, found wire type {wire_type}")
        if not 0 < number < 2**29:
            raise _Damaged(f"expected a field at byte {start}, found number {number}")
        if content + length > end:
            raise _Damaged(
                f"expected {length} bytes in field {number} at byte {start}, found "
                f"{max(end - content, 0)} before the end"
            )
        yield Field(number, wire_type, content, content + length)
        start = content + length


def _varints(file: BufferedReader, field: Field) -> Iterator[int]:
    file.seek(field.start)
    while file.tell() < field.end:
        yield _varint(file)
    if file.tell() > field.end:
        raise _Damaged(f"expected a number before byte {field.end}, found a longer one")


def _varint(file: BufferedReader) -> int:
    """Read an integer: seven bits a byte, lowest first; the top bit says that more follow."""
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise _Damaged(f"expected a number at byte {file.tell()}, found the end")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80 and value < 2**64:
            return value
    raise _Damaged(f"expected a number of 64 bits before byte {file.tell()}, found a longer one")
