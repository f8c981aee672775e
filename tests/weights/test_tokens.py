"""numpy's arrays out of a checkpoint: all numbers come back, no damage reaches numpy's own code.

Whatever a file may say through the unpickler is tried in constructor_attacks.py.
"""

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
    StoredDtype,
    StoredLog,
    StoredMethod,
    StoredNumber,
    Token,
    without_tokens,
)

KINDS = [f"{order}{kind}" for kind in NUMBERS for order in "<>"]
ARRAYS = {kind: np.arange(3).astype(kind) for kind in KINDS} | {
    "scalar array": np.array(2.5),
    "empty": np.zeros((0, 3)),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(12.0).reshape(3, 4)[::2, 1:],
    "number": np.float32(0.1),
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


def test_a_log_and_a_schedule_go_on_as_they_were(tmp_path):
    log, other = HistoryBuffer([1.0, 2.0], [1, 1]), HistoryBuffer([1.0, 2.0], [1, 1])
    found = through_a_file(tmp_path, log)
    for buffer in (found, other):
        buffer.update(6.0)
    assert found.statistics("mean") == other.statistics("mean") == 3
    assert vars(found).keys() == vars(HistoryBuffer()).keys()
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


def array(*state: Any) -> Token:
    return given(StoredArray(StoredArrayType, (0,), b"b"), (1, *state))


def floats(*numbers: float) -> Token:
    return array((len(numbers),), FLOAT, False, np.array(numbers, float).tobytes())


def log(**changes: Any) -> Token:
    sound = dict(_log_history=floats(1, 2), _count_history=floats(1, 1), max_length=10)
    return given(StoredLog(), sound | changes)


FLOAT = StoredDtype("f8")
DAMAGED: dict[str, Callable[[], Any]] = {
    "type of objects": lambda: StoredDtype("O"),
    "order unknown": lambda: given(StoredDtype("f8"), (3, "x", None, None, None, -1, -1, 0)),
    "array of numpy's own type": lambda: array((1,), np.dtype("f8"), False, bytes(8)),
    "array of another type": lambda: StoredArray(StoredLog),
    "shape twice negative": lambda: array((-1, -1), FLOAT, False, bytes(8)),
    "shape beyond the data": lambda: array((2,), FLOAT, False, bytes(8)),
    "data that can change": lambda: array((1,), FLOAT, False, bytearray(8)),
    "number too long": lambda: StoredNumber(FLOAT, bytes(16)),
    "log called": lambda: StoredLog(1),
    "log of lists": lambda: log(_log_history=[1, 2]),
    "log of two lengths": lambda: log(_count_history=floats(1)),
    "log's length zero": lambda: log(max_length=0),
    "log's class": lambda: StoredLog,
    "array's class called": lambda: StoredArrayType((1,), "O", bytes(8)),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damage_is_refused(fault):
    with pytest.raises(pickle.UnpicklingError):
        without_tokens({"meta": [DAMAGED[fault]()]})


@pytest.mark.parametrize(
    ("owner", "name"),
    [(StoredLog, "__init__"), (StoredArrayType, "tofile"), (HistoryBuffer, "mean")],
)
def test_no_other_attribute_is_given_and_none_is_set(owner, name):
    with pytest.raises(pickle.UnpicklingError):
        StoredMethod(owner, name)
    token = floats(1)
    for attribute in ("arguments", "state", "__class__"):
        with pytest.raises(pickle.UnpicklingError):
            setattr(token, attribute, StoredLog)
    assert token.real().tolist() == [1]


def test_containers_that_hold_themselves_or_have_no_end_are_refused():
    itself: list = []
    itself.append((itself,))
    deep: list = []
    for _ in range(DEPTH):
        deep = [deep]
    for hostile in (itself, deep):
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
