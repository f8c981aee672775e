"""What a checkpoint is given for the objects of numpy and mmengine that it asks for: tokens.

mmengine's logs are arrays, which are pickled as calls of numpy's own functions. Those trust their
arguments: ``numpy.ndarray((1,), "O", ADDRESS)`` is any object in memory. And PyTorch's unpickler
calls whatever is allowed with whatever a file says, gives the result any state, and sets any of its
attributes. So nothing of a library is allowed. A token keeps what the file says, once it is known
to be a number, or an array of as many numbers as its shape says, or a log of such arrays; and when
the whole file is read, ``without_tokens`` puts the real objects in the tokens' places.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

CODES = "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]
NUMBERS = sorted({np.dtype(code).str[1:] for code in CODES})  # "f8" and the like
ORDERS = ("<", ">", "|", "=")
STATISTICS = ("min", "max", "current", "mean")  # of a HistoryBuffer
CURVES = ("_annealing_cos", "_annealing_linear")  # of a schedule of one cycle
DEPTH = 64  # of containers within containers; mmengine's checkpoints have 6


class Token:
    """Stands for an object; nothing of it can be changed but by ``__setstate__``."""

    __slots__ = ("arguments", "state")
    arguments: tuple
    state: Any
    of = "?"  # the object's type

    def __new__(cls, *arguments: Any) -> "Token":
        token = object.__new__(cls)
        object.__setattr__(token, "arguments", arguments)
        object.__setattr__(token, "state", None)
        token.check()
        return token

    def __setstate__(self, state: Any) -> None:
        object.__setattr__(self, "state", self.checked(state))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise UnpicklingError("a checkpoint may not set attributes")

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As the real object: what plain ``torch.load`` has read can be saved again."""
        return self.real().__reduce_ex__(protocol)

    def check(self) -> None:
        """Raise an UnpicklingError unless ``arguments`` are sound."""
        raise UnpicklingError(f"a call of GLOBAL {self.of}")

    def checked(self, state: Any) -> Any:
        """What is kept of ``state``; raises an UnpicklingError unless it is sound."""
        raise UnpicklingError(f"a state for GLOBAL {self.of}")

    def real(self) -> Any:
        """The object that this stands for."""
        raise UnpicklingError(f"GLOBAL {self.of} is no data")


class StoredDtype(Token):
    """For numpy.dtype, which a pickle calls with its kind and then gives its byte order."""

    __slots__ = ()
    of = "numpy.dtype"

    def check(self) -> None:
        kind = self.arguments[0] if self.arguments else None
        if type(kind) is not str or kind not in NUMBERS:
            raise UnpicklingError("a checkpoint may hold arrays of numbers only")

    def checked(self, state: Any) -> Any:
        # Version, byte order, and of structures the rest.
        order = state[1] if type(state) is tuple and len(state) > 1 else None
        if type(order) is not str or order not in ORDERS:
            raise UnpicklingError("an array's type is damaged")
        return order

    def real(self) -> np.dtype:
        return np.dtype((self.state or "=") + self.arguments[0])


class StoredArrayType(Token):
    """For numpy.ndarray, which is only ever mentioned."""

    __slots__ = ()
    of = "numpy.ndarray"


class StoredArray(Token):
    """For the empty array of numpy's _reconstruct, which is given a state."""

    __slots__ = ()
    of = "numpy.ndarray"

    def check(self) -> None:
        if not self.arguments or self.arguments[0] is not StoredArrayType:
            raise UnpicklingError("an array of another type than numpy.ndarray")

    def checked(self, state: Any) -> Any:
        if type(state) is not tuple or len(state) != 5:
            raise UnpicklingError("an array is damaged")
        _, shape, dtype, columns_first, data = state
        if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
            raise UnpicklingError("an array's shape is damaged")
        if math.prod(shape) * _size(dtype) != _length(data):
            raise UnpicklingError("an array's numbers are not as many as its shape says")
        return shape, dtype, columns_first is True, data

    def real(self) -> np.ndarray:
        if self.state is None:
            raise UnpicklingError("an array without numbers")
        shape, dtype, columns_first, data = self.state
        stored = np.frombuffer(data, dtype.real())
        stored = stored.reshape(shape, order="F" if columns_first else "C")
        # A copy of its own, in this machine's byte order.
        return stored.astype(stored.dtype.newbyteorder("="), order="K")


class StoredNumber(Token):
    """For numpy's scalar."""

    __slots__ = ()
    of = "numpy.generic"

    def check(self) -> None:
        if len(self.arguments) != 2 or _size(self.arguments[0]) != _length(self.arguments[1]):
            raise UnpicklingError("a number is damaged")

    def real(self) -> np.generic:
        dtype, data = self.arguments
        return np.frombuffer(data, dtype.real())[0]


class StoredLog(Token):
    """For mmengine's HistoryBuffer."""

    __slots__ = ()
    of = "mmengine.logging.HistoryBuffer"

    def check(self) -> None:
        if self.arguments:
            raise UnpicklingError("a log is damaged")

    def checked(self, state: Any) -> Any:
        state = dict(state) if type(state) is dict else {}
        arrays = state.get("_log_history"), state.get("_count_history")
        if not all(type(array) is StoredArray for array in arrays):
            raise UnpicklingError("a log is damaged")
        length = state.get("max_length")
        if type(length) is not int or length < 1:
            raise UnpicklingError("a log's length is damaged")
        return *arrays, length

    def real(self) -> Any:
        from mmengine.logging import HistoryBuffer

        if self.state is None:
            raise UnpicklingError("a log without numbers")
        values, counts, length = self.state
        values, counts = values.real(), counts.real()
        if values.ndim != 1 or values.shape != counts.shape or "c" in values.dtype.kind:
            raise UnpicklingError("a log is damaged")
        return HistoryBuffer(values, counts, length)

    def __reduce_ex__(self, protocol: Any) -> Any:
        log = self.real()
        return type(log), (), log.__getstate__()


class StoredCycle(Token):
    """For the schedule of one cycle, which is only ever mentioned."""

    __slots__ = ()
    of = "mmengine.optim.OneCycleParamScheduler"


class StoredMethod(Token):
    """For getattr.

    A HistoryBuffer is pickled with four of its methods, each as getattr(HistoryBuffer, name), and a
    schedule of one cycle with its curve. The real getattr would let a file reach any function from
    there.
    """

    __slots__ = ()
    of = "builtins.getattr"

    def check(self) -> None:
        owner, name = self.arguments if len(self.arguments) == 2 else (None, None)
        known: dict[type, tuple[str, ...]] = {StoredLog: STATISTICS, StoredCycle: CURVES}
        if not isinstance(owner, type) or type(name) is not str or name not in known.get(owner, ()):
            raise UnpicklingError(f"a checkpoint may not ask for the attribute {name!r}")

    def real(self) -> Callable[..., Any]:
        return getattr(*self._named())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return getattr, self._named()

    def _named(self) -> tuple[type, str]:
        from mmengine.logging import HistoryBuffer
        from mmengine.optim import OneCycleParamScheduler

        owner, name = self.arguments
        return HistoryBuffer if owner is StoredLog else OneCycleParamScheduler, name


def no_bytes() -> bytes:
    """For bytes, which the pickle of an empty array calls."""
    return b""


# All that is allowed beside PyTorch's own list. numpy 2 moved its private functions, and files of
# both ages name them.
ALLOWED: tuple[tuple[Callable[..., Any], str], ...] = (
    (StoredArrayType, "numpy.ndarray"),
    (StoredDtype, "numpy.dtype"),
    *((StoredArray, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((StoredNumber, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    (no_bytes, "builtins.bytes"),
    (StoredMethod, "builtins.getattr"),
    (StoredLog, "mmengine.logging.history_buffer.HistoryBuffer"),
    (StoredCycle, "mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler"),
)


def without_tokens(content: Any) -> Any:
    """A copy of what ``torch.load`` has read, with the real objects in place of tokens.

    Tensors are the same ones, without attributes that the file sets. Of an OrderedDict's attributes
    only PyTorch's own ``_metadata`` is kept.

    Raises:
        UnpicklingError: a token is no data, or containers hold themselves or nest too deep.
    """
    return _real(content, {}, 0)


def _real(value: Any, done: dict[int, Any], depth: int) -> Any:
    kind = type(value)
    if kind in (str, int, float, bool, bytes, type(None)):
        return value
    if isinstance(value, Tensor):
        return torch.Tensor.detach(value) if vars(value) else value
    if isinstance(value, type) and issubclass(value, Token):
        raise UnpicklingError(f"GLOBAL {value.of} is no data")
    if kind not in (dict, OrderedDict, Counter, list, tuple, set) and not isinstance(value, Token):
        return value
    if id(value) in done:
        if done[id(value)] is done:
            raise UnpicklingError("a container that holds itself")
        return done[id(value)]
    if depth == DEPTH:
        raise UnpicklingError(f"containers nest deeper than {DEPTH}")
    done[id(value)] = done
    if isinstance(value, Token):
        found = value.real()
    elif isinstance(value, dict):
        found = kind()
        for key in dict.keys(value):
            place = _real(key, done, depth + 1)
            found[place] = _real(dict.__getitem__(value, key), done, depth + 1)
        if "_metadata" in getattr(value, "__dict__", ()):
            found._metadata = _real(vars(value)["_metadata"], done, depth + 1)
    else:
        found = kind(_real(item, done, depth + 1) for item in value)
    done[id(value)] = found
    return found


def _size(dtype: Any) -> int:
    """Bytes of a number."""
    if type(dtype) is not StoredDtype:
        raise UnpicklingError("an array's type is damaged")
    return dtype.real().itemsize


def _length(data: Any) -> int:
    if type(data) is not bytes:
        raise UnpicklingError("an array's numbers are damaged")
    return len(data)
