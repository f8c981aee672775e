"""What reads a checkpoint's numpy arrays in numpy's place.

mmengine's logs are arrays, which are pickled as calls of numpy's own functions. Those trust their
arguments: one wrong byte in the state of a dtype, and the process is gone or its memory is written
to. These look at every argument first, and know numbers only: no objects, no texts, no structures.
"""

import math
from pickle import UnpicklingError
from typing import Any

import numpy as np

CODES = "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]
NUMBERS = sorted({np.dtype(code).str[1:] for code in CODES})  # "f8" and the like
ORDERS = ("<", ">", "|", "=")


class StoredDtype:
    """In place of numpy.dtype, which a pickle calls with its kind and then gives its byte order."""

    def __init__(self, kind: Any, *flags: Any) -> None:
        if kind not in NUMBERS:
            raise UnpicklingError(f"a checkpoint may not hold arrays of {kind!r}")
        self.kind = kind
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        # Version, byte order, and of structures the rest.
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ORDERS:
            raise UnpicklingError("an array's type is damaged")
        self.order = state[1]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.kind)


class StoredArray(np.ndarray):
    """In place of numpy.ndarray; it is pickled as that again."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnpicklingError("an array is damaged")
        _, shape, stored, fortran, data = state
        dtype = _checked(stored, data)
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise UnpicklingError("an array's shape is damaged")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise UnpicklingError("an array's numbers are not as many as its shape says")
        checked: Any = (1, shape, dtype, bool(fortran), data)
        super().__setstate__(checked)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def stored_array(*arguments: Any) -> StoredArray:
    """In place of numpy's _reconstruct: an empty array, which its state is given to."""
    return np.empty(0).view(StoredArray)


def stored_number(stored: Any, data: Any) -> np.generic:
    """In place of numpy's scalar."""
    dtype = _checked(stored, data)
    if len(data) != dtype.itemsize:
        raise UnpicklingError("a number is damaged")
    return np.frombuffer(data, dtype)[0]


def no_bytes() -> bytes:
    """In place of bytes, which the pickle of an empty array calls."""
    return b""


def _checked(stored: Any, data: Any) -> np.dtype:
    if type(stored) is not StoredDtype or not isinstance(data, bytes):
        raise UnpicklingError("an array is damaged")
    return stored.dtype
