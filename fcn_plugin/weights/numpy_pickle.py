"""Read vgg16.npy, which is a pickle, without unpickling: its opcodes make our tokens alone.

``numpy.load`` could read it only with ``allow_pickle=True``, which executes whatever the file says,
and PyTorch's restricted unpickler does not know Python 2's long strings, which hold the published
file's numbers. Here the opcodes, as ``pickletools`` parses them, move plain values on a stack, and
names stand for the tokens of ``weights.tokens``. Any other opcode or name is refused.
"""

import pickletools
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np

from fcn_plugin.errors import UserError, quoted
from fcn_plugin.system.progress import Progress
from fcn_plugin.weights.tokens import (
    StoredArray,
    StoredArrayType,
    StoredDtype,
    Token,
    without_tokens,
)

REMEDY = (
    "only machrisaa's vgg16.npy and vgg19.npy can be read; ask its source for the arrays alone: "
    "np.savez by the names layer_W and layer_b"
)
LATIN_1 = "latin1"  # each character stands for a byte of one of Python 2's strings
MARK = object()


class StoredObjectType(Token):
    """For the type of the outermost array, whose one object is the table of layers."""

    __slots__ = ()
    of = "numpy.dtype"

    def check(self) -> None:
        """Any arguments: nothing is made of them."""


def _dtype(kind: Any, *rest: Any) -> Token:
    return StoredObjectType() if kind in ("O", "O4", "O8") else StoredDtype(kind, *rest)


def _encoded(text: Any, encoding: Any) -> bytes:
    """Python 3's bytes in a pickle for Python 2."""
    if type(text) is not str or encoding != LATIN_1:
        raise UnpicklingError("bytes of another encoding")
    return text.encode(LATIN_1)


NAMES: dict[str, Callable[..., Any]] = {
    "numpy dtype": _dtype,
    "numpy ndarray": StoredArrayType,
    "numpy.core.multiarray _reconstruct": StoredArray,
    "numpy._core.multiarray _reconstruct": StoredArray,
    "_codecs encode": _encoded,
}
INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
STRINGS = ("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE")
BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
VALUES = (*INTEGERS, *STRINGS, *BYTES)
MADE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: MARK,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_layers(path: Path, file: BinaryIO, progress: Progress) -> dict[str, list[np.ndarray]]:
    """Kernel and bias of each layer, from a file whose header is read already.

    Raises:
        UserError: it asks for anything but NumPy's arrays, is damaged or truncated, or holds
            another thing than a table of layers.
    """
    try:
        table = _table(_content(file, path.stat().st_size, progress))
    except UnpicklingError as error:
        raise UserError(f"{path}: {quoted(error)}, and is not opened; {REMEDY}") from error
    # What pickletools raises on arbitrary bytes is not documented.
    except Exception as error:
        raise UserError(f"{path}: damaged or truncated ({quoted(error)}); {REMEDY}") from error
    layers = {}
    for layer, blobs in table.items():
        if isinstance(blobs, dict):  # of a network that was trained further
            blobs = [blobs.get(0), blobs.get(1)]
        pair = isinstance(blobs, list | tuple) and len(blobs) == 2
        if not (pair and all(isinstance(blob, np.ndarray) for blob in blobs)):
            raise UserError(f"{path}: {quoted(layer)} is not a kernel and a bias; {REMEDY}")
        layers[layer] = list(blobs)
    return layers


def _table(array: Any) -> dict[str, Any]:
    """The one object of the outermost array."""
    state = array.state if type(array) is StoredArray else None
    if type(state) is not tuple or len(state) != 5 or type(state[2]) is not StoredObjectType:
        raise UnpicklingError("holds no array of objects")
    objects = state[4]
    if type(objects) is not list or len(objects) != 1 or type(objects[0]) is not dict:
        raise UnpicklingError("holds no table of layers")
    table = without_tokens(objects[0])
    if not all(type(layer) is str for layer in table):
        raise UnpicklingError("holds no table of layers")
    return table


def _content(file: BinaryIO, size: int, progress: Progress) -> Any:
    """What the pickle says, in tokens, texts, bytes, whole numbers, tuples, lists and dicts."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        progress("reading", file.tell(), size)
        if name in VALUES:
            stack.append(argument)
        elif name in MADE:
            stack.append(MADE[name]())
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name == "TUPLE":
            stack.append(tuple(_marked(stack)))
        elif name in ("APPEND", "APPENDS"):
            items = _marked(stack) if name == "APPENDS" else [stack.pop()]
            list.extend(stack[-1], items)
        elif name in ("SETITEM", "SETITEMS"):
            items = _marked(stack) if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            for key, value in zip(items[::2], items[1::2], strict=True):
                if type(key) not in (str, int):
                    raise UnpicklingError("has a table whose keys are no names")
                dict.__setitem__(stack[-1], key, value)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            full_name = argument or f"{stack.pop(-2)} {stack.pop()}"
            if full_name not in NAMES:
                raise UnpicklingError(f"asks for {'.'.join(full_name.split())}")
            stack.append(NAMES[full_name])
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            if not any(function is known for known in NAMES.values()):
                raise UnpicklingError("calls what is no function")
            stack.append(function(*arguments))
        elif name == "BUILD":
            state = stack.pop()
            if type(stack[-1]) is StoredArray:
                state = tuple(s.encode(LATIN_1) if type(s) is str else s for s in state)
            if not isinstance(stack[-1], Token):
                raise UnpicklingError("sets attributes")
            stack[-1].__setstate__(state)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise UnpicklingError(f"has the opcode {name}")
    raise UnpicklingError("is truncated")


def _marked(stack: list[Any]) -> list[Any]:
    """Take what lies above the last mark off the stack, and the mark."""
    at = len(stack) - 1 - stack[::-1].index(MARK)
    items = stack[at + 1 :]
    del stack[at:]
    return items
