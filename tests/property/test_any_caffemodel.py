"""Any Caffe model comes back to the bit; any other bytes are refused, in little time and memory."""

import math
import time
import tracemalloc
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from property.amounts import share
from property.damage import damaged, one_line_naming
from weights.caffe_files import CLASSES, write_caffemodel
from weights.published import fcn_layers

from fcn_plugin.conversion.convert import convert
from fcn_plugin.errors import UserError
from fcn_plugin.weights.caffemodel import looks_like_caffemodel, read_caffemodel

SLOW = 2.0  # seconds for a file of some kilobytes
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
KINDS = ("weight", "bias")
versions = st.sampled_from(["V1", "V2"])
blobs = npst.array_shapes(min_dims=0, max_dims=4, max_side=4).flatmap(
    lambda shape: npst.arrays(np.float32, shape, elements=st.floats(width=32))
)
nets = st.dictionaries(names, st.lists(blobs, min_size=1, max_size=2), min_size=1, max_size=4)


def put(path: Path, content: bytes) -> Path:
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


@given(nets, versions, st.booleans(), st.booleans(), st.booleans())
def test_any_net_comes_back_to_the_bit(tmp_path, net, version, packed, legacy, double):
    path = put(tmp_path / "a.caffemodel", b"")
    write_caffemodel(path, net, version, packed, legacy, double)
    assert looks_like_caffemodel(path)
    found = read_caffemodel(path)
    stored = [
        (f"{name}.{kind}", blob)
        for name, blobs in net.items()
        for kind, blob in zip(KINDS, blobs, strict=False)
    ]
    assert list(found) == [name for name, _ in stored]
    for tensor, (_, blob) in zip(found.values(), stored, strict=True):
        leading = (1,) * (4 - blob.ndim) if legacy else ()
        assert tensor.dtype == torch.float32 and tensor.shape == leading + blob.shape
        # A NaN that was a double on the way may have lost its lowest bits.
        if double:
            np.testing.assert_array_equal(tensor.numpy().reshape(blob.shape), blob)
        else:
            assert tensor.numpy().tobytes() == blob.tobytes()


dims = st.integers(-1, 5) | st.sampled_from([2**31 - 1, 2**40, 2**63 - 1])
numbers = st.lists(st.floats(width=32), max_size=40)


@st.composite
def blob_messages(draw, kind: str):
    """Any shape beside any numbers, as a program with a mistake would write them."""
    made = CLASSES[kind]()
    if draw(st.booleans()):
        for name in draw(st.sets(st.sampled_from(["num", "channels", "height", "width"]))):
            setattr(made, name, draw(st.integers(-1, 5) | st.just(2**31 - 1)))
    if draw(st.booleans()):
        made.shape.dim.extend(draw(st.lists(dims, max_size=10)))
        made.shape.SetInParent()
    made.data.extend(draw(numbers))
    made.diff.extend(draw(numbers))
    if draw(st.integers(0, 3)) == 0:
        made.double_data.extend(draw(st.lists(st.floats(), max_size=40)))
    return made


@st.composite
def net_messages(draw) -> tuple[bytes, list[tuple[str, list]]]:
    """A file, and its layers as the library that wrote it has them."""
    kind = draw(st.sampled_from(["PackedBlob", "UnpackedBlob"]))
    net = CLASSES[f"Net{kind}"](name=draw(names), input_dim=[1, 3])
    version = draw(versions)
    layers = net.layers if version == "V1" else net.layer
    for _ in range(draw(st.integers(0, 4))):
        made = layers.add(name=draw(names), bottom=[draw(names)])
        for blob in draw(st.lists(blob_messages(kind), max_size=3)):
            made.blobs.add().CopyFrom(blob)
    return net.SerializeToString(), [(layer.name, list(layer.blobs)) for layer in layers]


def sound(blob) -> list[float] | None:
    """Its numbers if the shape that it states, by the rules of Caffe, has as many; else None."""
    legacy = ["num", "channels", "height", "width"]
    if any(blob.HasField(name) for name in legacy):
        shape = [getattr(blob, name) for name in legacy]
    elif blob.HasField("shape"):
        shape = list(blob.shape.dim)
    else:
        return None
    values = list(blob.double_data) or list(blob.data)
    fits = len(shape) <= 8 and all(side > 0 for side in shape) and math.prod(shape) == len(values)
    return values if fits else None


@share(3)
@given(net_messages())
def test_any_message_is_read_as_its_writer_has_it_or_refused(tmp_path, made):
    content, layers = made
    path = put(tmp_path / "a.caffemodel", content)
    expected = [
        (f"{name}.{kind}", sound(blob))
        for name, blobs in layers
        for kind, blob in zip_longest(KINDS[: len(blobs)], blobs)
    ]
    heavy = [name for name, blobs in layers if blobs]
    refused = (
        not heavy
        or len(set(heavy)) < len(heavy)
        or any(len(blobs) > 2 for _, blobs in layers)
        or any(values is None for _, values in expected)
    )
    if refused:
        with pytest.raises(UserError) as error:
            read_caffemodel(path)
        assert one_line_naming(error.value, path)
        return
    found = read_caffemodel(path)
    assert list(found) == [name for name, _ in expected]
    for tensor, (_, values) in zip(found.values(), expected, strict=True):
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(tensor.flatten(), np.float32(values))


def check(path: Path, content: bytes) -> None:
    """Read or refused, within a few times the file's size and at once."""
    put(path, content)
    begun = time.perf_counter()
    tracemalloc.start()
    try:
        looks_like_caffemodel(path)
        for tensor in read_caffemodel(path).values():
            assert tensor.dtype == torch.float32 and 4 * tensor.numel() <= len(content)
    except UserError as error:
        assert one_line_naming(error, path), str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1e6 + 20 * len(content)
    assert time.perf_counter() - begun < SLOW


@share(3)
@given(damaged(net_messages().map(lambda made: made[0])))
def test_damaged_messages(tmp_path, content):
    check(tmp_path / "a.caffemodel", content)


@cache
def network(folder: Path, version: str) -> bytes:
    """FCN-8s at once as small as it gets."""
    layers = fcn_layers("fcn8s-atonce", classes=2, base=1, fc=4)
    write_caffemodel(folder / "network", layers, version, legacy_shape=version == "V1")
    return (folder / "network").read_bytes()


@given(st.data())
def test_a_damaged_network_is_converted_whole_or_not_at_all(tmp_path, data):
    content = data.draw(damaged(versions.map(partial(network, tmp_path))))
    source, target = put(tmp_path / "a.caffemodel", content), tmp_path / "out.pth"
    target.write_text("precious")
    try:
        convert(source, target)
    except UserError as error:
        assert one_line_naming(error, source)
        assert target.read_text() == "precious"
    else:
        state = torch.load(target, weights_only=True)["state_dict"]
        # Backbone, scores, scale; a kernel whose numbers changed counts as a learned one.
        assert 2 * 18 + 1 <= len(state) <= 2 * 18 + 4
        assert all(tensor.isfinite().all() for tensor in state.values())
    assert not list(tmp_path.glob("*.part"))
