"""Read MATLAB's files (.mat, version 5, as ``save`` and SciPy write them) as plain data.

A file is a header of 128 bytes and elements: type, number of bytes, content, filled up to 8
bytes. A variable is an element of type MATRIX, or one that holds it compressed; it is made of
elements: its class and flags, its dimensions, its name, then its numbers, or an element for each
cell or field. Objects and function handles are refused, and so is what nests deeper than any
network; SciPy's reader follows nested cells until the process dies.

Source: MathWorks, "MAT-File Format", chapter "Level 5 MAT-File Format".
"""

import math
import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fcn_plugin.errors import UserError
from fcn_plugin.system.progress import Progress
from fcn_plugin.weights.foreign import AGAIN, MAX_BYTES

MAGIC = b"MATLAB 5.0 MAT-file"
MAGICS = (MAGIC, b"MATLAB 7.3 MAT-file")  # the second, HDF5 inside, is refused with the remedy
HEADER, LITTLE_ENDIAN = 128, b"IM"
ALIGNMENT = 8
MATRIX, COMPRESSED = 14, 15  # types of elements; the others are numbers:
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
NUMBERS |= {12: "i8", 13: "u8", 16: "u1", 17: "u2", 18: "u4"}  # 16-18: UTF-8, -16, -32
CELL, STRUCT, CHAR = 1, 2, 4  # classes of variables, and those of numbers:
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4"}
CLASSES |= {14: "i8", 15: "u8"}
REFUSED = {3: "an object", 5: "a sparse matrix", 16: "a function handle", 17: "an object"}
COMPLEX = 0x800  # a flag of a variable
READABLE = "only imagenet-vgg-verydeep-16.mat and -19.mat can be read"
DEPTH = 8  # of cells and structs; a network has 5
PIECE = 16 << 20  # bytes that are expanded between two reports of progress
MAX_PARTS = 100_000  # cells and fields of a variable; a network has some thousand


class _Damaged(Exception):
    """What is damaged; the caller adds the file's name and the remedy."""


class _NoNetwork(Exception):
    """What a sound file holds that no network does, such as one of labels; as ``_Damaged``."""


class _Element(NamedTuple):
    kind: int
    data: memoryview


def read_matlab(path: Path, progress: Progress) -> dict[str, Any]:
    """The variables of a file by name.

    Returns:
        Arrays of numbers in their shape; a text for characters; a list for a cell, in MATLAB's
        order; for a struct a dict by field, in a list if it has other than one element.

    Raises:
        UserError: the file is damaged, truncated, of another version or beyond ``MAX_BYTES``, or
            holds objects or function handles.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    version_5 = bytes(data[: len(MAGIC)]) == MAGIC
    if not version_5 or bytes(data[HEADER - 2 : HEADER]) != LITTLE_ENDIAN:
        raise UserError(f"{path}: not of MATLAB's version 5, little-endian; save it with -v7")
    variables, room = {}, MAX_BYTES
    try:
        for element in _elements(data[HEADER:]):
            if element.kind == COMPRESSED:
                expanded = _expanded(element.data, room, progress)
                room -= len(expanded)
                element = next(_elements(expanded), element)
            if element.kind == MATRIX:
                name, value = _matrix(element.data, 0)
                variables[name] = value
    except _Damaged as error:
        raise UserError(f"{path}: {error}; {AGAIN}") from error
    except _NoNetwork as error:
        raise UserError(f"{path}: {error}, which no network here has; {READABLE}") from error
    return variables


def _elements(data: memoryview) -> Iterator[_Element]:
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise _Damaged("damaged or truncated")
        kind, size = struct.unpack_from("<II", data, at)
        start = at + 8
        if small := kind >> 16:  # type, size and up to 4 bytes in the room of type and size
            kind, size, start = kind & 0xFFFF, small, at + 4
        if start + size > (at + 8 if small else len(data)):
            raise _Damaged("damaged or truncated")
        yield _Element(kind, data[start : start + size])
        at = start + size
        if kind != COMPRESSED:
            at += -at % ALIGNMENT


def _expanded(data: memoryview, room: int, progress: Progress) -> memoryview:
    stream, expanded = zlib.decompressobj(), bytearray()
    for start in range(0, len(data), PIECE):
        try:
            expanded += stream.decompress(data[start : start + PIECE], room + 1 - len(expanded))
        except zlib.error as error:
            raise _Damaged("damaged or truncated") from error
        if len(expanded) > room:
            raise _NoNetwork(f"holds more than {MAX_BYTES >> 30} GB")
        progress("reading", start, len(data))
    if not stream.eof:
        raise _Damaged("damaged or truncated")
    return memoryview(expanded).toreadonly()  # so that no tensor keeps all of it in memory


def _matrix(data: memoryview, depth: int) -> tuple[str, Any]:
    """Name and value of a variable, a cell or a field."""
    if not len(data):  # an empty array may be written as nothing
        return "", np.zeros(0)
    parts = _elements(data)
    flags, dims, name = (_numbers(next(parts, None)) for _ in range(3))
    if not len(flags) or not len(dims) or (dims < 0).any():
        raise _Damaged("damaged or truncated")
    kind, shape = int(flags[0]) & 0xFF, tuple(map(int, dims))
    if kind in REFUSED or int(flags[0]) & COMPLEX:
        raise _NoNetwork(f"holds {REFUSED.get(kind, 'complex numbers')}")
    return _text(name), _value(kind, shape, parts, depth)


def _value(kind: int, shape: tuple[int, ...], parts: Iterator[_Element], depth: int) -> Any:
    count = math.prod(shape)
    if kind in CLASSES or kind == CHAR:
        numbers = _numbers(next(parts, None))
        if kind == CHAR:
            return _text(numbers)
        if len(numbers) != count:
            raise _Damaged(f"has {len(numbers)} numbers for the shape {shape}")
        return numbers.reshape(shape, order="F").astype(CLASSES[kind], copy=False)
    if kind not in (CELL, STRUCT):
        raise _Damaged(f"has a variable of the unknown class {kind}")
    if depth == DEPTH:
        raise _NoNetwork(f"has more than {DEPTH} levels of cells and structs")
    if kind == CELL:
        return [_part(parts, depth) for _ in range(_bounded(count))]
    width = _numbers(next(parts, None))
    names = _numbers(next(parts, None))
    if not len(width) or width[0] < 1 or len(names) % width[0]:
        raise _Damaged("damaged or truncated")
    fields = [_text(names[i : i + width[0]]) for i in range(0, len(names), width[0])]
    _bounded(count * max(len(fields), 1))
    structs = [{field: _part(parts, depth) for field in fields} for _ in range(count)]
    return structs[0] if count == 1 else structs


def _part(parts: Iterator[_Element], depth: int) -> Any:
    element = next(parts, None)
    if element is None or element.kind != MATRIX:
        raise _Damaged("damaged or truncated")
    return _matrix(element.data, depth + 1)[1]


def _bounded(count: int) -> int:
    if count > MAX_PARTS:
        raise _NoNetwork(f"has a variable of {count} parts")
    return count


def _numbers(element: _Element | None) -> np.ndarray:
    if element is None or element.kind not in NUMBERS:
        raise _Damaged("damaged or truncated")
    dtype = np.dtype("<" + NUMBERS[element.kind])
    if len(element.data) % dtype.itemsize:
        raise _Damaged("damaged or truncated")
    return np.frombuffer(element.data, dtype)


def _text(numbers: np.ndarray) -> str:
    """A name: ASCII up to the first zero; other characters become U+FFFD."""
    return bytes(numbers.clip(0, 255).astype("u1")).partition(b"\0")[0].decode("ascii", "replace")
