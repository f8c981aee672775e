"""Checkpoints that call, fill and misplace whatever the unpickler allows, by every way there is.

Some of them end a process where numpy's own classes are allowed. So they run in one of their own:
``python constructor_attacks.py FOLDER`` tries each at one door and by plain ``torch.load``, and a
few at every door, and prints what came of it as JSON; ``python constructor_attacks.py FOLDER
control`` allows numpy's class, and dies of a signal.
"""

import gc
import io
import json
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

import fcn_plugin  # noqa: F401  # the tokens
from fcn_plugin.errors import UserError
from fcn_plugin.weights.tokens import ALLOWED, Token

NAMES = [name for _, name in ALLOWED]
NOWHERE = (0x4141414141414141).to_bytes(8, "little")  # an address
REDUCE, NEWOBJ, BUILD = b"R", b"\x81", b"b"
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
)


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def plain(value: Any) -> bytes:
    """Pickled, to stand within another pickle."""
    return pickle.dumps(value, 2)[2:-1]


def listed(*parts: bytes) -> bytes:
    """A tuple of what has been pickled."""
    return b"(" + b"".join(parts) + b"t"


def called(name: str, arguments: bytes, way: bytes = REDUCE) -> bytes:
    return named(name) + arguments + way


def dtype(kind: Any, state: Any = (3, "<", None, None, None, -1, -1, 0)) -> bytes:
    return called("numpy.dtype", plain((kind, False, True))) + plain(state) + BUILD


ND, CORE = "numpy.ndarray", "numpy._core.multiarray"
EMPTY = called(f"{CORE}._reconstruct", listed(named(ND), plain((0,)), plain(b"b")))
STRUCTURE = (3, "|", None, ("x",), {"x": (np.dtype("O"), 0)}, 8, 8, 0)
HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"


def array(*state: bytes) -> bytes:
    return EMPTY + listed(plain(1), *state) + BUILD


FLOATS = array(plain((1,)), dtype("f8"), plain(False), plain(bytes(8)))

# What numpy's constructor takes: shape, dtype, buffer, offset, strides, order.
ARGUMENTS = {
    "nothing": plain(()),
    "objects": plain(((1,), "O", NOWHERE)),
    "objects by state": listed(plain((1,)), dtype("f8", STRUCTURE), plain(NOWHERE)),
    "structures": plain(((1,), [("x", "O")], NOWHERE)),
    "strides": plain(((2**20,), "f8", bytes(8), 0, (2**20,))),
    "negative strides": plain(((4,), "f8", bytes(8), 0, (-(2**20),))),
    "offset": plain(((1,), "f8", bytes(8), 2**62)),
    "negative shape": plain(((-1,), "f8")),
    "huge shape": plain(((2**62, 2**62), "f8")),
    "shape without data": plain(((2**40,), "O")),
    "a number": plain((1,)),
    "a text": plain(("O",)),
    "its own class": listed(named(ND)),
    "the log's class": listed(named(HISTORY), plain("__init__")),
    "two texts": plain(("mean", "mean")),
}
# What BUILD gives, to each object that a name makes of the arguments it expects.
STATES = {
    "objects": listed(*map(plain, (1, (1,), np.dtype("O"), False, [1]))),
    "an address": listed(
        plain(1), plain((1,)), dtype("f8", STRUCTURE), plain(False), plain(NOWHERE)
    ),
    "strides": listed(plain(1), plain((2**40,)), dtype("f8"), plain(False), plain(bytes(8))),
    "negative shape": listed(plain(1), plain((-1, -1)), dtype("f8"), plain(False), plain(bytes(8))),
    "huge shape": listed(plain(1), plain((2**62, 4)), dtype("f8"), plain(False), plain(b"")),
    "a type without size": plain((3, "|", None, None, None, 0, 0, 0)),
    "a structure": plain((3, "|", None, ("x",), {"x": (1, 2)}, 2**31 - 1, -1, 255)),
    "a bad version": plain((99, "<", 1, 2, 3, 4, 5, 6, 7)),
    "attributes": plain({"__class__": 1, "statistics_methods": {"mean": 1}, "update": 2}),
    "a log's": plain({"_log_history": 1, "_count_history": None, "max_length": "x"}),
    "slots": plain((None, {"arguments": 1, "state": 2, "__class__": 3})),
    "nothing": plain(None),
    "itself": b"q\x07h\x07",
}
OBJECTS = {
    "numpy.dtype": called("numpy.dtype", plain(("f8", False, True))),
    ND: EMPTY,
    f"{CORE}.scalar": called(f"{CORE}.scalar", listed(dtype("f8"), plain(bytes(8)))),
    "builtins.bytes": called("builtins.bytes", plain(())),
    "builtins.getattr": called("builtins.getattr", listed(named(HISTORY), plain("mean"))),
    HISTORY: called(HISTORY, plain(()), NEWOBJ),
    "OneCycle": named("mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler"),
}
REBUILD = "torch._tensor._rebuild_from_type_v2"
TENSOR = "torch._utils._rebuild_tensor_v2"
HOOKS = called("collections.OrderedDict", plain(()))


def tensor(offset: bytes, size: bytes, stride: bytes, storage: bytes = STORAGE) -> bytes:
    return called(TENSOR, listed(storage, offset, size, stride, plain(False), HOOKS))


TENSORS = {
    "an array for its storage": tensor(plain(0), plain((4,)), plain((1,)), FLOATS),
    "a class for its storage": tensor(plain(0), plain((4,)), plain((1,)), named(ND)),
    "an array for its size": tensor(plain(0), FLOATS, plain((1,))),
    "a number for its offset": tensor(OBJECTS[f"{CORE}.scalar"], plain((4,)), plain((1,))),
    "offset beyond": tensor(plain(2**40), plain((4,)), plain((1,))),
    "offset negative": tensor(plain(-4), plain((4,)), plain((1,))),
    "size beyond": tensor(plain(0), plain((2**40,)), plain((1,))),
    "size negative": tensor(plain(0), plain((-4,)), plain((1,))),
    "size beyond counting": tensor(plain(0), plain((2**62, 4)), plain((4, 1))),
    "strides beyond": tensor(plain(0), plain((4,)), plain((2**40,))),
    "strides beyond counting": tensor(plain(0), plain((2, 2**31)), plain((2**62, 2**32))),
    "strides negative": tensor(plain(0), plain((4,)), plain((-1,))),
    "strides and sizes": tensor(plain(0), plain((4, 4)), plain((1,))),
    "from an array": called(
        "torch._utils._rebuild_device_tensor_from_numpy",
        listed(FLOATS, named("torch.float32"), plain("cpu"), plain(False)),
    ),
    "of a token's class": called(
        REBUILD, listed(named(HISTORY), named(HISTORY), plain(()), plain({"state": 1}))
    ),
    "of a call": called(
        REBUILD, listed(named(ND), named(ND), plain(((1,), "O", NOWHERE)), plain({}))
    ),
}
SHAPES = {
    "an array's class": named(ND),
    "a key": b"}" + FLOATS + plain(1) + b"s",
    "an element": called("builtins.set", listed(b"]" + FLOATS + b"a")),
    "a type as key": b"}" + dtype("f8") + plain(1) + b"s",
    "a list in itself": b"]q\x05h\x05a",
    "a table in itself": b"}q\x05" + plain("x") + b"h\x05s",
    "deep": b"]" * 5000 + b"a" * 4999,
    "a type that is changed later": listed(
        dtype("f8") + b"q\x06",
        EMPTY + listed(plain(1), plain((1,)), b"h\x06", plain(False), plain(bytes(8))) + BUILD,
        b"h\x06" + plain((3, "O", None, None, None, 2**20, 1, 255)) + BUILD,
    ),
    "an array without numbers": EMPTY,
    "twice an array": FLOATS + listed(plain(1), plain((9,)), dtype("f8"), plain((1, 2))) + BUILD,
}


def attacks() -> Iterator[tuple[str, bytes]]:
    """(name, pickled object) of each."""
    for name in NAMES:
        for about, arguments in ARGUMENTS.items():
            yield f"{name}: called with {about}", called(name, arguments)
            yield f"{name}: new with {about}", called(name, arguments, NEWOBJ)
    for name, made in OBJECTS.items():
        for about, state in STATES.items():
            yield f"{name}: given {about}", made + state + BUILD
    yield from ((f"tensor: {about}", made) for about, made in TENSORS.items())
    yield from ((f"content: {about}", made) for about, made in SHAPES.items())


def file_of(pickled: bytes, key: str = "w") -> bytes:
    """A checkpoint with the object in its state_dict, or as mean of its input."""
    content = plain("state_dict") + b"}" + plain(key) + pickled + b"s"
    if key == "mean":
        rest = plain({"order": "BGR", "std": (1, 1, 1)})
        content = plain("state_dict") + b"}" + plain("meta") + b"}" + plain("input") + rest
        content += plain(key) + pickled + b"sss"
        content = plain("state_dict") + b"}s" + content.removeprefix(plain("state_dict") + b"}")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}" + content + b"s.")
        archive.writestr("x/version", b"3\n")
        archive.writestr("x/byteorder", b"little")
        archive.writestr("x/data/0", bytes(16))
    return file.getvalue()


KINDS = (str, int, float, bool, bytes, complex, type(None), bytearray, torch.Size, torch.dtype)


def touched(value: Any, seen: set[int]) -> None:
    """Use all of a value; raises AssertionError if it may be anything but data."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        for key, item in value.items():
            touched(key, seen)
            touched(item, seen)
    elif isinstance(value, list | tuple | set) and not isinstance(value, torch.Size):
        for item in value:
            touched(item, seen)
    elif isinstance(value, np.ndarray | np.generic | np.dtype):
        assert np.dtype(getattr(value, "dtype", value)).kind in "biufc"
        if not isinstance(value, np.dtype):
            assert value.tolist() is not None
    elif isinstance(value, torch.Tensor):
        assert value.numel() < 10 and value.tolist() is not None
    elif isinstance(value, HistoryBuffer):
        touched(list(value.data), seen)
    elif isinstance(value, Token):
        assert repr(value) and not hasattr(value, "__dict__")
        touched([value.arguments, value.state], seen)
    elif isinstance(value, type):
        assert issubclass(value, Token)
    elif callable(value):
        assert value.__qualname__ in ("no_bytes", "HistoryBuffer.mean")
    else:
        assert type(value) in KINDS, type(value)


def outcome(load: Callable[[Path], Any], path: Path) -> str:
    try:
        content = load(path)
    except UserError as error:
        message = str(error)
        return "refused" if message.isprintable() and str(path) in message else f"says {message!r}"
    except Exception as error:
        return f"raised {type(error).__name__}"
    try:
        touched(content, set())
    except AssertionError as error:
        return f"is no data: {error}"
    except RecursionError:  # of ``touched``
        pass
    return "loaded"


FEW = (
    "numpy.ndarray: called with objects",
    "numpy.ndarray: new with objects",
    "numpy.ndarray: given an address",
    "tensor: strides beyond",
    f"{HISTORY}: given a log's",
)


def main() -> None:
    from tools.running import config
    from weights.hostile_files import DOORS

    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    config(folder)
    path = folder / "attack.pth"
    if sys.argv[2:] == ["control"]:
        path.write_bytes(file_of(called(ND, ARGUMENTS["objects"])))
        torch.serialization.clear_safe_globals()
        with torch.serialization.safe_globals([np.ndarray]):
            repr(torch.load(path, weights_only=True))
        return
    every = {"torch.load": partial(torch.load, weights_only=True), **DOORS}
    quick = {name: every[name] for name in ("torch.load", "read_content")}
    found: dict[str, dict[str, str]] = {}
    for name, pickled in attacks():
        for key in ("w", "mean") if name in FEW else ("w",):
            path.write_bytes(file_of(pickled, key))
            doors = every if name in FEW else quick
            found[f"{name} ({key})"] = {door: outcome(load, path) for door, load in doors.items()}
            print(f"{name} ({key})", file=sys.stderr, flush=True)  # the last one, should it crash
    gc.collect()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
