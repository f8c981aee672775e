"""Caffe's files by hand: what no encoder writes, and damage that ends in one line.

Any net, any message and any bytes are in property/test_any_caffemodel.py; the memory that reading
takes is measured in conversion/test_convert.py.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from data.pictures import written
from weights.caffe_files import write_caffemodel

from fcn_plugin.errors import UserError
from fcn_plugin.weights.caffemodel import looks_like_caffemodel, read_caffemodel

TINY = {"a": [np.ones((2, 1, 1, 2)), np.ones(2)], "b": [np.ones((2, 3))]}


def varint(value: int) -> bytes:
    """As it is written, or longer than allowed if ``value`` is beyond 64 bits."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, content: bytes | int, wire_type: int | None = None) -> bytes:
    if isinstance(content, int):
        return varint(number << 3 | (wire_type or 0)) + varint(content)
    if wire_type is None:
        return varint(number << 3 | 2) + varint(len(content)) + content
    return varint(number << 3 | wire_type) + content


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def dims(*values: int) -> bytes:
    return field(7, field(1, b"".join(varint(value % 2**64) for value in values)))


def blob(shape: bytes | None = None, data: bytes | None = None) -> bytes:
    shape = dims(2) if shape is None else shape
    return shape + (field(5, floats(1, 2)) if data is None else data)


def layer(*blobs: bytes, name: bytes = b"fc6", rest: bytes = b"") -> bytes:
    content = field(1, name) + field(2, b"InnerProduct") + rest
    return field(100, content + b"".join(field(7, blob) for blob in blobs))


def put(content: bytes, folder: Path) -> Path:
    return written(folder / "made.caffemodel", content)


def read_bytes(content: bytes, folder: Path) -> dict[str, torch.Tensor]:
    return read_caffemodel(put(content, folder))


def test_fields_that_are_not_ours_are_skipped(tmp_path):
    unknown = [field(900, b"text"), field(901, 7), field(902, b"8" * 8, 1), field(903, b"four", 5)]
    for before, after in itertools.permutations(unknown, 2):
        shape = field(7, before + field(1, varint(2)) + after)
        content = before + layer(before + blob(shape) + after, rest=before + after) + after
        assert read_bytes(content, tmp_path)["fc6.weight"].tolist() == [1, 2]


@pytest.mark.parametrize("last", [field(5, floats(2)), field(5, floats(2), 5)])
def test_floats_in_several_pieces_of_eight_dimensions(tmp_path, last):
    data = field(5, b"") + field(5, floats(1)) + last
    tensor = read_bytes(layer(blob(dims(2, *[1] * 7), data)), tmp_path)["fc6.weight"]
    assert tensor.flatten().tolist() == [1, 2] and tensor.shape == (2, *[1] * 7)
    tensor += 1  # one's own memory, which may be written


def shape_of(*values):
    return layer(blob(dims(*values)))


DAMAGED = {
    "nothing": (b"", "expected layers with weights, found none"),
    "a page": (b"<!DOCTYPE html><html>404</html>", "wire type 4"),
    "zeros": (bytes(100), "number 0"),
    "a length beyond 64 bits": (b"\xa2\x06" + varint(2**64), "64 bits"),
    "half a length": (b"\xa2\x06\x80", "found the end"),
    "half a fixed number": (layer(blob()) + field(9, b"12", 5), "expected 4 bytes in field 9"),
    "half a fixed double": (layer(blob()) + field(9, b"1234567", 1), "expected 8 bytes in field 9"),
    "a layer that is a number": (field(100, 3), "at byte 2: .* found wire type 0"),
    "a group": (field(8, field(1, 2), 3) + field(8, b"", 4), "wire type 3"),
    "a field number of 30 bits": (field(2**29, 1), "number 536870912"),
    "a number past the layer": (field(100, b"\x08\x80") + b"\x01", "before the end"),
    "blobs of 2^40": (layer(rest=b"\x3a" + varint(2**40)), "expected 1099511627776 bytes"),
    "name not text": (layer(blob(), name=b"fc\xff6"), "in UTF-8"),
    "a name of lines": (layer(b"", name=b"a\nb"), "layer 'a.nb'"),
    "an empty blob": (layer(b""), "layer 'fc6' at byte 3: expected a shape, found none"),
    "too many floats": (shape_of(1), "expected 1 numbers for .1,., found 8 bytes"),
    "half a double": (layer(blob(data=field(8, bytes(12)))), "found 12 bytes"),
    "a negative dimension": (shape_of(-1, -2), "expected .* numbers"),
    "dimensions that overflow to 2": (shape_of(2**33, 2**31, 2), "expected 368934881474191032"),
    "zero floats for zero": (layer(blob(dims(0), b"")), "positive dimensions"),
    "20 dimensions": (shape_of(2, *[1] * 19), r"at most 8 .* found \[2(, 1){8}\]"),
    "half a dimension": (layer(blob(field(7, field(1, b"\x80")))), "found a longer one"),
    "half a legacy shape": (layer(blob(field(1, 1) + field(2, 2))), r"found \[1, 2, 0, 0\]"),
    "a legacy shape of texts": (layer(blob(field(1, b"") * 2)), "positive dimensions"),
    "three blobs": (layer(*[blob()] * 3), "has 3 blobs, expected a weight and a bias"),
    "two layers of one name": (layer(blob()) * 2, "has two layers fc6"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_one_line(tmp_path, case):
    content, message = DAMAGED[case]
    with pytest.raises(UserError, match=message) as raised:
        read_bytes(content, tmp_path)
    text = str(raised.value)
    assert text.startswith(f"{tmp_path / 'made.caffemodel'}: ")
    assert "\n" not in text and "; " in text


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.caffemodel", tmp_path):
        with pytest.raises(UserError, match=r"cannot be read \(.*; check the file"):
            read_caffemodel(path)
        assert not looks_like_caffemodel(path)


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_truncated_at_every_byte(tmp_path, version):
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, TINY, version, packed=False, legacy_shape=True)
    content, calls = path.read_bytes(), []
    read_caffemodel(path, lambda *call: calls.append(call))
    ends = [done for _, done, _ in calls]
    assert ends == sorted(ends) and ends[-1] == len(content)
    assert {(step, size) for step, _, size in calls} == {("reading", len(content))}
    whole = {}
    for length in range(len(content)):
        try:
            whole[length] = list(read_bytes(content[:length], tmp_path))
        except UserError as error:
            assert str(error).startswith(f"{tmp_path / 'made.caffemodel'}: ")
    # Only a cut between two fields of the net goes unseen: the format does not say how many follow.
    assert set(whole) < set(ends) and len(whole) >= 3
    assert all(names == ["a.weight", "a.bias"] for names in whole.values())


LIKE = {
    b"\x80\x04}." + bytes(99): False,  # a pickle
    b"PK\x03\x04" + bytes(99): False,
    b"<html>404</html>": False,
    b'name: "VGG"\nlayer {\n  name: "conv1_1"\n}\n': False,
    b"\x12\x40" + bytes(6) + b'{"a": {}}' * 40: False,  # safetensors
    field(1, 1) + field(2, 3) + field(5, bytes(12)): False,  # a mean
    field(1, 9) + field(2, b"a.caffemodel"): False,  # a solver's state
    field(1, 1) + layer(blob()): False,  # a name that is a number
    field(100, b"") + b"\x0a\x01a": False,
    b"": False,
    field(1, b"net") + field(4, 3) * 200: False,  # no layers
    b"".join(field(number, b"x") for number in (1, 3, 4, 5, 6, 7, 8)) + layer(blob()): True,
    (layer(blob()) * 2)[:-5]: True,  # cut short
}


def test_what_looks_like_one(tmp_path):
    for content, like in LIKE.items():
        assert looks_like_caffemodel(put(content, tmp_path)) == like, content
