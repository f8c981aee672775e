"""Checkpoints that call and fill whatever the unpickler allows with whatever a file may say.

Some of them end a process where numpy's own classes are allowed, so they run in one of their own.
"""

import faulthandler
import gc
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler

from fcn_plugin.errors import UserError
from fcn_plugin.weights.files import read_content

NOWHERE = (0x4141414141414141).to_bytes(8, "little")  # an address
STRUCTURE = (3, "|", None, ("x",), {"x": (np.dtype("O"), 0)}, 8, 8, 0)
RECONSTRUCT, SCALAR = np._core.multiarray._reconstruct, np._core.multiarray.scalar


class Call:
    """Pickles as a call of any function, whose result is given a state."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Pickle demands it of a function; the one to be called is only made on reading."""


def dtype(kind: str, state: Any = (3, "<", None, None, None, -1, -1, 0)) -> Call:
    return Call(np.dtype, kind, False, True, state=state)


FLOATS = Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (1,), dtype("f8"), False, bytes(8)))
HOSTILE = dtype("f8", STRUCTURE)

ALLOWED = [np.ndarray, np.dtype, RECONSTRUCT, SCALAR, bytes, getattr, HistoryBuffer]
ALLOWED.append(OneCycleParamScheduler)
# What numpy's constructor takes: shape, dtype, buffer, offset, strides, order.
ARGUMENTS: dict[str, tuple] = {
    "nothing": (),
    "objects": ((1,), "O", NOWHERE),
    "objects by state": ((1,), HOSTILE, NOWHERE),
    "strides": ((2**20,), "f8", bytes(8), 0, (2**20,)),
    "offset": ((1,), "f8", bytes(8), 2**62),
    "a text": ("O",),
    "its own class": (np.ndarray,),
    "the log's class": (HistoryBuffer, "__init__"),
}
# Of each object that a name makes of the arguments it expects.
STATES: dict[str, Any] = {
    "objects": (1, (1,), np.dtype("O"), False, [1]),
    "an address": (1, (1,), HOSTILE, False, NOWHERE),
    "strides": (1, (2**40,), dtype("f8"), False, bytes(8)),
    "huge shape": (1, (2**62, 4), dtype("f8"), False, b""),
    "a structure": (3, "|", None, ("x",), {"x": (1, 2)}, 2**31 - 1, -1, 255),
    "attributes": {"__class__": 1, "statistics_methods": {"mean": 1}, "update": 2},
    "a log's": {"_log_history": 1, "_count_history": None, "max_length": "x"},
    "slots": (None, {"arguments": 1, "state": 2, "__class__": 3}),
}
OBJECTS: dict[Callable, tuple] = {
    np.dtype: ("f8", False, True),
    RECONSTRUCT: (np.ndarray, (0,), b"b"),
    SCALAR: (dtype("f8"), bytes(8)),
    bytes: (),
    getattr: (HistoryBuffer, "mean"),
    HistoryBuffer: (),
}


def tensor(storage: Any, stride: int, offset: int = 0) -> Call:
    build = torch._utils._rebuild_tensor_v2
    return Call(build, storage, offset, (4,), (stride,), False, OrderedDict())


def others() -> dict[str, Any]:
    derived = torch._tensor._rebuild_from_type_v2
    itself: list = []
    itself.append(itself)
    return {
        "an array for a storage": tensor(FLOATS, 1),
        "offset beyond": tensor(torch.zeros(4).storage(), 1, 2**40),
        "strides beyond": tensor(torch.zeros(4).storage(), 2**40),
        "a tensor of a log": Call(derived, HistoryBuffer, HistoryBuffer, (), {"state": 1}),
        "a tensor of a call": Call(derived, np.ndarray, np.ndarray, ((1,), "O", NOWHERE), {}),
        "a class": np.ndarray,
        "an element": Call(set, [FLOATS]),
        "a list in itself": itself,
    }


def attacks() -> Iterator[tuple[str, Any]]:
    """(name, object) of each."""
    for function in ALLOWED:
        for about, arguments in ARGUMENTS.items():
            yield f"{function.__name__} called with {about}", Call(function, *arguments)
    for function, arguments in OBJECTS.items():
        for about, state in STATES.items():
            yield f"{function.__name__} given {about}", Call(function, *arguments, state=state)
    yield from others().items()


def try_all(path: Path) -> None:
    """Each as the file ``path``: refused in one line, or loaded as data that can be saved again."""
    warnings.simplefilter("ignore")
    for name, attack in attacks():
        print(name, file=sys.stderr, flush=True)  # the last one, should it crash
        torch.save(dict(state_dict={}, rest=attack), path)
        loaded = None
        with suppress(Exception):  # plain torch.load gives tokens, and may say what it likes
            loaded = torch.load(path, weights_only=True)
            repr(loaded)
        assert loaded is None or not name.startswith("ndarray called")
        try:
            content = read_content(path)
        except UserError as error:
            assert str(error).isprintable() and str(path) in str(error)
            continue
        repr(content)  # uses all of it
        torch.save(content, path)
        read_content(path)
    gc.collect()


def with_numpys_class(path: Path) -> None:
    """Allows it, and dies of a signal."""
    faulthandler.disable()
    torch.save(Call(np.ndarray, *ARGUMENTS["objects"]), path)
    torch.serialization.clear_safe_globals()
    with torch.serialization.safe_globals([np.ndarray]):
        repr(torch.load(path, weights_only=True))
