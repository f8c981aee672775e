"""Any Caffe model comes back to the bit; any other bytes are refused, in little time and memory."""

import time
import tracemalloc

import numpy as np
import torch
from data.pictures import written
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from property.amounts import share
from property.damage import damaged, one_line_naming
from weights.caffe_files import write_caffemodel

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


@given(nets, versions, st.booleans(), st.booleans(), st.booleans())
def test_any_net_comes_back_to_the_bit(tmp_path, net, version, packed, legacy, double):
    path = written(tmp_path / "a.caffemodel", b"")
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


@share(3)
@given(nets, versions, st.booleans(), st.data())
def test_damaged_nets(tmp_path, net, version, packed, data):
    """Read or refused, within a few times the file's size and at once."""
    path = written(tmp_path / "a.caffemodel", b"")
    write_caffemodel(path, net, version, packed)
    content = data.draw(damaged(st.just(path.read_bytes())))
    begun = time.perf_counter()
    written(path, content)
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
