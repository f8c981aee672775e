"""Tokens: harmless placeholders for the numpy and mmengine objects in a pickled checkpoint.

mmengine's logs are arrays, which are pickled as calls of numpy's own functions. Those trust their
arguments: ``numpy.ndarray((1,), "O", ADDRESS)`` is any object in memory. PyTorch's unpickler calls
any allowed function with the file's arguments, gives the result any state, and sets any of its
attributes. So no library function is allowed. A token checks its arguments, keeps the state that
the file gives it, and does nothing. When the whole file is read, ``without_tokens`` checks the
tokens and replaces them by the real numbers, arrays and logs.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor

CODES = "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]
NUMBERS = sorted({np.dtype(code).str[1:] for code in CODES})  # "f8" and the like
ORDERS = ("<", ">", "|", "=")
DEPTH = 64  # of nested containers; mmengine's checkpoints have 6


class Token:
    """Placeholder for an unpickled object: keeps arguments and state, executes nothing."""

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
        object.__setattr__(self, "state", state)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise UnpicklingError("a checkpoint may not set attributes")

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as the real object, so that what plain ``torch.load`` read can be saved again."""
        return self.real().__reduce_ex__(protocol)

    def check(self) -> None:
        """Raise UnpicklingError unless ``arguments`` are allowed."""
        raise UnpicklingError(f"a call of GLOBAL {self.of}")

    def real(self) -> Any:
        """The real object; raises UnpicklingError unless the state is valid."""
        raise UnpicklingError(f"GLOBAL {self.of} is no data")


class StoredDtype(Token):
    """For numpy.dtype: the argument is the kind, the state holds the byte order."""

    __slots__ = ()
    of = "numpy.dtype"

    def check(self) -> None:
        kind = self.arguments[0] if self.arguments else None
        if type(kind) is not str or kind not in NUMBERS:
            raise UnpicklingError("a checkpoint may hold arrays of numbers only")

    def real(self) -> np.dtype:
        # Version and byte order; the other entries describe structured types.
        state = (3, "=") if self.state is None else self.state
        order = state[1] if type(state) is tuple and len(state) > 1 else None
        if type(order) is not str or order not in ORDERS:
            raise _damaged("an array's type")
        return np.dtype(order + self.arguments[0])


class StoredArrayType(Token):
    """For the class numpy.ndarray, which a pickle names and never calls."""

    __slots__ = ()
    of = "numpy.ndarray"


class StoredArray(Token):
    """For numpy's _reconstruct, which makes an empty array; the state holds its content."""

    __slots__ = ()
    of = "numpy.ndarray"

    def check(self) -> None:
        if not self.arguments or self.arguments[0] is not StoredArrayType:
            raise UnpicklingError("an array of another type than numpy.ndarray")

    def real(self) -> np.ndarray:
        if type(self.state) is not tuple or len(self.state) != 5:
            raise _damaged("an array")
        _, shape, dtype, columns_first, data = self.state
        if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
            raise _damaged("an array's shape")
        numbers = _numbers(dtype, data, math.prod(shape))
        numbers = numbers.reshape(shape, order="F" if columns_first is True else "C")
        # A writable copy, in this machine's byte order.
        return numbers.astype(numbers.dtype.newbyteorder("="), order="K")


class StoredNumber(Token):
    """For a numpy scalar: the arguments are its type and its bytes."""

    __slots__ = ()
    of = "numpy.generic"

    def check(self) -> None:
        if len(self.arguments) != 2:
            raise _damaged("a number")
        self.real()

    def real(self) -> np.generic:
        dtype, data = self.arguments
        return _numbers(dtype, data, 1)[0]


class StoredLog(Token):
    """For mmengine's HistoryBuffer; the state holds its two arrays."""

    __slots__ = ()
    of = "mmengine.logging.HistoryBuffer"

    def check(self) -> None:
        if self.arguments:
            raise _damaged("a log")

    def real(self) -> Any:
        from mmengine.logging import HistoryBuffer

        state = self.state if type(self.state) is dict else {}
        values, counts = state.get("_log_history"), state.get("_count_history")
        if type(values) is not StoredArray or type(counts) is not StoredArray:
            raise _damaged("a log")
        values, counts = values.real(), counts.real()
        if values.ndim != 1 or values.shape != counts.shape or "c" in values.dtype.kind:
            raise _damaged("a log")
        length = state.get("max_length")
        if type(length) is not int or length < 1:
            raise _damaged("a log's length")
        return HistoryBuffer(values, counts, length)

    def __reduce_ex__(self, protocol: Any) -> Any:
        log = self.real()
        return type(log), (), log.__getstate__()


class StoredCycle(Token):
    """For the class OneCycleParamScheduler, which a pickle names and never calls."""

    __slots__ = ()
    of = "mmengine.optim.OneCycleParamScheduler"


class StoredMethod(Token):
    """For getattr, which may only return the methods in ``known``.

    A HistoryBuffer is pickled with four of its methods, each as getattr(HistoryBuffer, name); a
    OneCycleParamScheduler with one of its two curves. Through the real getattr a file could reach
    any function.
    """

    __slots__ = ()
    of = "builtins.getattr"
    known: ClassVar[dict[Any, tuple[str, ...]]] = {
        StoredLog: ("min", "max", "current", "mean"),
        StoredCycle: ("_annealing_cos", "_annealing_linear"),
    }

    def check(self) -> None:
        owner, name = self.arguments if len(self.arguments) == 2 else (None, None)
        names = self.known.get(owner, ()) if isinstance(owner, type) else ()
        if type(name) is not str or name not in names:
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
    """For bytes(), which the pickle of an empty array calls."""
    return b""


# All that is allowed beside PyTorch's own list. numpy 2 moved its private functions; files may use
# the old or the new names.
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
    """A copy of what ``torch.load`` has read, with real objects in place of tokens.

    Tensors are not copied, but lose attributes that the file sets. Of an OrderedDict's attributes
    only PyTorch's own ``_metadata`` is kept.

    Raises:
        UnpicklingError: a token is not valid, or a container contains itself or nests too deep.
    """
    return _real(content, {}, 0)


def _real(value: Any, done: dict[int, Any], depth: int) -> Any:
    kind = type(value)
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
        real = value.real()
    elif isinstance(value, dict):
        real = kind()
        for key in dict.keys(value):
            real_key = _real(key, done, depth + 1)
            real[real_key] = _real(dict.__getitem__(value, key), done, depth + 1)
        if "_metadata" in getattr(value, "__dict__", ()):
            real._metadata = _real(vars(value)["_metadata"], done, depth + 1)
    else:
        real = kind(_real(item, done, depth + 1) for item in value)
    done[id(value)] = real
    return real


def _numbers(dtype: Any, data: Any, count: int) -> np.ndarray:
    """``data`` as ``count`` numbers; raises UnpicklingError if it has another length."""
    if type(dtype) is not StoredDtype or type(data) is not bytes:
        raise _damaged("an array's type or data")
    real = dtype.real()
    if count * real.itemsize != len(data):
        raise UnpicklingError("an array's numbers are not as many as its shape says")
    return np.frombuffer(data, real)


def _damaged(what: str) -> UnpicklingError:
    return UnpicklingError(f"{what} is damaged")
