"""numpy's arrays out of a checkpoint: all numbers come back, no damage reaches numpy's own code."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from fcn_plugin.weights.reading import read_tensors
from fcn_plugin.weights.stored_arrays import NUMBERS, StoredArray, StoredDtype, stored_number

ARRAYS = {
    **{
        f"{order}{kind}": np.arange(3).astype(f"{order}{kind}")
        for kind in NUMBERS
        for order in "<>"
    },
    "scalar array": np.array(2.5),
    "empty": np.zeros((0, 3)),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(12.0).reshape(3, 4)[::2, 1:],
    "number": np.float32(0.1),
    "flag": np.bool_(True),
    "long": np.longdouble(1) / 3,
}


def through_a_file(tmp_path, value):
    torch.save(dict(value=value), tmp_path / "x.pth")
    return read_tensors(tmp_path / "x.pth")["value"]


@pytest.mark.parametrize("name", ARRAYS)
def test_numbers_come_back(tmp_path, name):
    value = ARRAYS[name]
    found = through_a_file(tmp_path, value)
    # numpy itself puts the bytes into this machine's order.
    assert found.dtype == value.dtype.newbyteorder("=") and found.shape == value.shape
    assert np.array_equal(found, value)
    # What was read is saved as numpy's own again.
    again = pickle.loads(pickle.dumps(found))
    assert type(again) is type(value) and np.array_equal(again, value)
    assert b"fcn_plugin" not in pickle.dumps(found, 2)


def test_a_log_goes_on_as_it_was(tmp_path):
    log, other = HistoryBuffer([1.0, 2.0], [1, 1]), HistoryBuffer([1.0, 2.0], [1, 1])
    found = through_a_file(tmp_path, log)
    for buffer in (found, other):
        buffer.update(6.0)
    assert found.statistics("mean") == other.statistics("mean") == 3
    assert np.array_equal(found.data[0], other.data[0])


STATES = {
    "no tuple": [],
    "too short": (),
    "order a number": (3, 1, None, None, None, -1, -1, 0),
    "order unknown": (3, "x", None, None, None, -1, -1, 0),
}


@pytest.mark.parametrize("state", STATES)
def test_a_damaged_type_is_refused(state):
    with pytest.raises(pickle.UnpicklingError):
        StoredDtype("f8").__setstate__(STATES[state])


@pytest.mark.parametrize("kind", ["O", "V8", "U3", "M8[s]", "f8,f8", 8, None])
def test_only_numbers_have_a_type(kind):
    with pytest.raises(pickle.UnpicklingError, match="may not hold arrays of"):
        StoredDtype(kind)


FLOAT = StoredDtype("f8")
DAMAGED = {
    "no tuple": [],
    "too short": (1, (1,), FLOAT, False),
    "numpy's own type": (1, (1,), np.dtype("f8"), False, bytes(8)),
    "no type": (1, (1,), None, False, bytes(8)),
    "shape a list": (1, [1], FLOAT, False, bytes(8)),
    "shape negative": (1, (-1,), FLOAT, False, bytes(8)),
    "shape of floats": (1, (1.0,), FLOAT, False, bytes(8)),
    "shape beyond the data": (1, (2,), FLOAT, False, bytes(8)),
    "shape beyond memory": (1, (2**62, 4), FLOAT, False, b""),
    "data a text": (1, (1,), FLOAT, False, "12345678"),
    "data a list": (1, (1,), FLOAT, False, [1.0]),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_array_is_refused(fault):
    with pytest.raises(pickle.UnpicklingError):
        np.empty(0).view(StoredArray).__setstate__(DAMAGED[fault])


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(16), "12345678", None])
def test_a_damaged_number_is_refused(data):
    with pytest.raises(pickle.UnpicklingError):
        stored_number(FLOAT, data)


def test_the_sound_ones_are_read():
    """The negative control."""
    assert stored_number(FLOAT, np.float64(3).tobytes()) == 3
    array = np.empty(0).view(StoredArray)
    array.__setstate__((1, (1,), FLOAT, False, np.float64(3).tobytes()))
    assert array.tolist() == [3]
