"""numpy's arrays out of a checkpoint: all numbers come back, no damage reaches numpy's own code."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR

from fcn_plugin.weights.files import read_content
from fcn_plugin.weights.tokens import (
    DEPTH,
    NUMBERS,
    StoredArray,
    StoredArrayType,
    StoredCycle,
    StoredDtype,
    StoredLog,
    StoredMethod,
    StoredNumber,
    Token,
    without_tokens,
)

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
    return read_content(tmp_path / "x.pth")["value"]


def test_numbers_come_back(tmp_path):
    for name, found in through_a_file(tmp_path, ARRAYS).items():
        value = ARRAYS[name]
        assert type(found) is type(value), name
        # numpy itself puts the bytes into this machine's order.
        assert found.dtype == value.dtype.newbyteorder("=") and found.shape == value.shape, name
        assert np.array_equal(found, value), name
        assert found.flags.f_contiguous == value.flags.f_contiguous or name == "strided", name
        assert found.flags.writeable or not isinstance(found, np.ndarray), name
    assert through_a_file(tmp_path, np.dtype(">f4")) == np.dtype(">f4")


def test_a_log_goes_on_as_it_was(tmp_path):
    log, other = HistoryBuffer([1.0, 2.0], [1, 1]), HistoryBuffer([1.0, 2.0], [1, 1])
    found = through_a_file(tmp_path, log)
    for buffer in (found, other):
        buffer.update(6.0)
    assert found.statistics("mean") == other.statistics("mean") == 3
    assert np.array_equal(found.data[0], other.data[0])
    assert vars(found).keys() == vars(HistoryBuffer()).keys()


def test_a_schedule_of_one_cycle_comes_back(tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    schedule = OneCycleLR(optimizer, eta_max=1, total_steps=9, by_epoch=False)
    assert through_a_file(tmp_path, schedule.state_dict()) == schedule.state_dict()


def test_containers_keep_what_is_shared_their_order_and_versions(tmp_path):
    array = np.arange(3)
    found = through_a_file(tmp_path, [array, {"again": array}, (array, {1, 2})])
    assert found[0] is found[1]["again"] is found[2][0] and found[2][1] == {1, 2}
    state = torch.nn.BatchNorm2d(2).state_dict()
    found = through_a_file(tmp_path, state)
    assert list(found) == list(state) and found._metadata == state._metadata


def given(token: Token, state: Any) -> Token:
    token.__setstate__(state)
    return token


def array(state: Any) -> Token:
    return given(StoredArray(StoredArrayType, (0,), b"b"), state)


def floats(*numbers: float):
    return array((1, (len(numbers),), FLOAT, False, np.array(numbers, float).tobytes()))


def log(**changes: Any) -> Token:
    sound = dict(_log_history=floats(1, 2), _count_history=floats(1, 1), max_length=10)
    return given(StoredLog(), sound | changes)


FLOAT = StoredDtype("f8")
FLOATS = (1, (1,), FLOAT, False, bytes(8))
PLANE = array((1, (1, 2), FLOAT, False, bytes(16)))
COMPLEX = array((1, (2,), StoredDtype("c16"), False, bytes(32)))
TYPES = ["O", "V8", "U3", "M8[s]", "f8,f8", 8, None, [("x", "f8")]]
DAMAGED: dict[str, Callable[[], Any]] = {
    **{f"type {kind}": lambda kind=kind: StoredDtype(kind) for kind in TYPES},
    "type of nothing": StoredDtype,
    "type by no tuple": lambda: given(StoredDtype("f8"), []),
    "order a number": lambda: given(StoredDtype("f8"), (3, 1, None, None, None, -1, -1, 0)),
    "order unknown": lambda: given(StoredDtype("f8"), (3, "x", None, None, None, -1, -1, 0)),
    "array of no tuple": lambda: array([]),
    "array of too few": lambda: array((1, (1,), FLOAT, False)),
    "array of numpy's own type": lambda: array((1, (1,), np.dtype("f8"), False, bytes(8))),
    "shape a list": lambda: array((1, [1], FLOAT, False, bytes(8))),
    "shape twice negative": lambda: array((1, (-1, -1), FLOAT, False, bytes(8))),
    "shape of floats": lambda: array((1, (1.0,), FLOAT, False, bytes(8))),
    "shape beyond the data": lambda: array((1, (2,), FLOAT, False, bytes(8))),
    "data a text": lambda: array((1, (1,), FLOAT, False, "12345678")),
    "data that can change": lambda: array((1, (1,), FLOAT, False, bytearray(8))),
    "array without numbers": lambda: array(None),
    "array of another type": lambda: given(StoredArray(StoredLog), FLOATS),
    "number without": lambda: StoredNumber(FLOAT, b""),
    "number too short": lambda: StoredNumber(FLOAT, bytes(7)),
    "number too long": lambda: StoredNumber(FLOAT, bytes(16)),
    "number of one argument": lambda: StoredNumber(FLOAT),
    "log without": StoredLog,
    "log called": lambda: given(StoredLog(1), log().state),
    "log of lists": lambda: log(_log_history=[1, 2]),
    "log without numbers": lambda: log(_log_history=array(None)),
    "log without counts": lambda: log(_count_history=None),
    "log of two axes": lambda: log(_log_history=PLANE, _count_history=PLANE),
    "log of two lengths": lambda: log(_count_history=floats(1)),
    "log of complex numbers": lambda: log(_log_history=COMPLEX),
    "log's length a text": lambda: log(max_length="long"),
    "log's length zero": lambda: log(max_length=0),
    "log's class": lambda: StoredLog,
    "array's class called": lambda: StoredArrayType((1,), "O", bytes(8)),
    "array's class, new": lambda: StoredArrayType.__new__(StoredArrayType, (1,), "O", bytes(8)),
    "cycle's class": lambda: StoredCycle,
    "cycle's class called": StoredCycle,
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damage_is_refused(fault):
    with pytest.raises(pickle.UnpicklingError):
        without_tokens({"meta": [DAMAGED[fault]()]})


def test_no_other_attribute_is_given_and_none_is_set():
    for owner, name in (
        (StoredLog, "__init__"),
        (StoredLog, "register_statistics"),
        (StoredLog, "_annealing_cos"),
        (StoredCycle, "mean"),
        (StoredArrayType, "tofile"),
        (HistoryBuffer, "mean"),
        (StoredLog(), "mean"),
        (StoredLog, ["mean"]),
    ):
        with pytest.raises(pickle.UnpicklingError):
            StoredMethod(owner, name)
    for name in ("arguments", "state", "__class__", "anything"):
        token = floats(1)
        with pytest.raises(pickle.UnpicklingError):
            setattr(token, name, StoredLog)
        assert token.real().tolist() == [1]


def test_containers_that_hold_themselves_or_have_no_end_are_refused():
    itself: list = []
    itself.append(itself)
    table: dict = {}
    table["again"] = (table,)
    deep: list = []
    for _ in range(DEPTH):
        deep = [deep]
    for hostile in (itself, table, deep):
        with pytest.raises(pickle.UnpicklingError):
            without_tokens(hostile)
    laughs: list = []
    for _ in range(DEPTH - 1):
        laughs = [laughs, laughs]
    without_tokens(laughs)  # each once


def test_nothing_hides_a_method_of_a_container_a_tensor_or_a_log():
    state, tensor = torch.nn.Linear(1, 1).state_dict(), torch.zeros(1)
    state.items, tensor.isfinite = 5, 5
    found, plain = without_tokens([state, tensor])
    assert list(found.items()) == list(dict.items(state))
    assert plain.isfinite().all() and plain.data_ptr() == tensor.data_ptr()
    buffer = without_tokens(log(update=1, __class__=2, statistics_methods={"mean": 3}))
    assert vars(buffer).keys() == vars(HistoryBuffer()).keys()
    assert buffer.statistics("mean") == 1.5


def test_the_sound_ones_are_read():
    """The negative control."""
    assert StoredNumber(FLOAT, np.float64(3).tobytes()).real() == 3
    assert floats(3).real().tolist() == [3]
    assert log().real().statistics("mean") == 1.5
    assert StoredMethod(StoredLog, "mean").real() is HistoryBuffer.mean
