"""numpy's arrays out of a checkpoint: all numbers come back, no damage reaches numpy's own code."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR

from fcn_plugin.weights.files import read_tensors
from fcn_plugin.weights.tokens import (
    CURVES,
    DEPTH,
    NUMBERS,
    STATISTICS,
    StoredArray,
    StoredArrayType,
    StoredCycle,
    StoredDtype,
    StoredLog,
    StoredMethod,
    StoredNumber,
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
    return read_tensors(tmp_path / "x.pth")["value"]


@pytest.mark.parametrize("name", ARRAYS)
def test_numbers_come_back(tmp_path, name):
    value = ARRAYS[name]
    found = through_a_file(tmp_path, value)
    assert type(found) is type(value)
    # numpy itself puts the bytes into this machine's order.
    assert found.dtype == value.dtype.newbyteorder("=") and found.shape == value.shape
    assert np.array_equal(found, value)
    assert found.flags.f_contiguous == value.flags.f_contiguous or name == "strided"
    if isinstance(found, np.ndarray):
        assert found.flags.writeable


def test_a_type_comes_back(tmp_path):
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


def test_what_is_shared_stays_shared(tmp_path):
    array = np.arange(3)
    found = through_a_file(tmp_path, [array, {"again": array}, (array, {1, 2})])
    assert found[0] is found[1]["again"] is found[2][0] and found[2][1] == {1, 2}


def test_names_of_tensors_keep_their_order_and_versions(tmp_path):
    state = torch.nn.BatchNorm2d(2).state_dict()
    found = through_a_file(tmp_path, state)
    assert list(found) == list(state) and found._metadata == state._metadata


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


@pytest.mark.parametrize("kind", ["O", "V8", "U3", "M8[s]", "f8,f8", 8, None, [("x", "f8")]])
def test_only_numbers_have_a_type(kind):
    with pytest.raises(pickle.UnpicklingError, match="numbers only"):
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
    "data that can change": (1, (1,), FLOAT, False, bytearray(8)),
}


def array(state=None):
    token = StoredArray(StoredArrayType, (0,), b"b")
    if state is not None:
        token.__setstate__(state)
    return token


def floats(*numbers: float, shape: tuple[int, ...] | None = None):
    return array((1, shape or (len(numbers),), FLOAT, False, np.array(numbers, float).tobytes()))


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_array_is_refused(fault):
    with pytest.raises(pickle.UnpicklingError):
        array(DAMAGED[fault])


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(16), "12345678", None])
def test_a_damaged_number_is_refused(data):
    with pytest.raises(pickle.UnpicklingError):
        StoredNumber(FLOAT, data)


LOG = dict(_log_history=floats(1, 2), _count_history=floats(1, 1), max_length=10)
LOGS = {
    "no table": [],
    "empty": {},
    "a list": dict(LOG, _log_history=[1, 2]),
    "an array's type": dict(LOG, _log_history=StoredArrayType),
    "without numbers": dict(LOG, _log_history=array()),
    "two axes": dict(LOG, _log_history=floats(1, 2, shape=(1, 2))),
    "of two lengths": dict(LOG, _count_history=floats(1)),
    "no length": dict(LOG, max_length="long"),
    "negative length": dict(LOG, max_length=-1),
}


@pytest.mark.parametrize("fault", LOGS)
def test_a_damaged_log_is_refused(fault):
    with pytest.raises(pickle.UnpicklingError):
        log = StoredLog()
        log.__setstate__(LOGS[fault])
        without_tokens([log])


def test_a_log_has_the_attributes_that_mmengine_gives_it():
    log = StoredLog()
    log.__setstate__(dict(LOG, update=1, __class__=2, statistics_methods={"mean": 3}))
    found = without_tokens(log)
    assert vars(found).keys() == vars(HistoryBuffer()).keys()
    assert found.statistics("mean") == 1.5


@pytest.mark.parametrize("call", [StoredArrayType, StoredCycle, StoredArray, StoredNumber])
def test_what_is_only_mentioned_is_not_called(call):
    for arguments in ((), ((1,), "O", bytes(8)), (StoredLog, (0,), b"b")):
        with pytest.raises(pickle.UnpicklingError):
            call(*arguments)


@pytest.mark.parametrize(
    "owner, name",
    [
        (StoredLog, "__init__"),
        (StoredLog, "register_statistics"),
        (StoredLog, CURVES[0]),
        (StoredCycle, STATISTICS[0]),
        (StoredArrayType, "tofile"),
        (HistoryBuffer, "mean"),
        (StoredLog, ["mean"]),
    ],
)
def test_no_other_attribute_is_given(owner, name):
    with pytest.raises(pickle.UnpicklingError):
        StoredMethod(owner, name)


@pytest.mark.parametrize("name", ["arguments", "state", "__class__", "anything"])
def test_nothing_of_a_token_can_be_set(name):
    token = floats(1)
    with pytest.raises(pickle.UnpicklingError):
        setattr(token, name, StoredLog)
    assert token.real().tolist() == [1]


@pytest.mark.parametrize("value", [StoredArrayType, StoredLog, StoredCycle, array(), StoredLog()])
def test_what_is_no_data_is_refused(value):
    with pytest.raises(pickle.UnpicklingError):
        without_tokens({"meta": [value]})


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


def test_nothing_hides_a_method_of_a_container_or_a_tensor():
    state, tensor = torch.nn.Linear(1, 1).state_dict(), torch.zeros(1)
    state.items, tensor.isfinite = 5, 5
    found, plain = without_tokens([state, tensor])
    assert list(found.items()) == list(dict.items(state))
    assert plain.isfinite().all() and plain.data_ptr() == tensor.data_ptr()


def test_the_sound_ones_are_read():
    """The negative control."""
    assert StoredNumber(FLOAT, np.float64(3).tobytes()).real() == 3
    assert floats(3).real().tolist() == [3]
    log = StoredLog()
    log.__setstate__(LOG)
    assert log.real().statistics("mean") == 1.5
    assert StoredMethod(StoredLog, "mean").real() is HistoryBuffer.mean
