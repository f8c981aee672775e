"""Files that make a folder when they are read as pickles: whether it is there tells.

And ``DOORS``: every way into the package for a file of weights.
"""

import copyreg
import io
import os
import pickle
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmseg.apis import MMSegInferencer, init_model
from mmseg.registry import MODELS

from fcn_plugin.conversion.convert import convert
from fcn_plugin.weights.files import check_checkpoint, read, read_content

EXTENSION = 240  # for pickle's opcode EXT1, which names a function by a registered number


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Pickle demands it of a function; the one to be called is only made on reading."""


def through_getattr(mark: str) -> Call:
    """From a class that mmengine's checkpoints hold to the built-in functions."""
    module = Call(getattr, Call(getattr, HistoryBuffer, "__init__"), "__globals__")
    builtins = Call(Call(getattr, module, "get"), "__builtins__")
    return Call(Call(Call(getattr, builtins, "get"), "eval"), f"__import__('os').mkdir({mark!r})")


def nested(mark: str) -> Call:
    """A storage as bytes, which PyTorch reads by a torch.load of its own."""
    inner = io.BytesIO()
    torch.save(Call(os.mkdir, mark), inner)
    return Call(torch.storage._load_from_bytes, inner.getvalue())


CALLS: dict[str, Callable[[str], Any]] = {
    "system": lambda mark: Call(os.system, f"mkdir {mark}"),
    "eval": lambda mark: Call(eval, f"__import__('os').mkdir({mark!r})"),
    "exec": lambda mark: Call(exec, f"import os; os.mkdir({mark!r})"),
    "import": lambda mark: Call(Call(getattr, Call(__import__, "os"), "mkdir"), mark),
    "getattr": through_getattr,
    "subprocess": lambda mark: Call(subprocess.check_call, ["mkdir", mark]),
    "objects": lambda mark: np.array([Call(os.mkdir, mark)], dtype=object),
    "nested": nested,
    "key": lambda mark: {Call(os.mkdir, mark): torch.zeros(1)},
}

# Written by hand; MARK is the folder.
STREAMS = {
    "python2": b"c__builtin__\neval\n(V__import__('os').mkdir('MARK')\ntR.",
    "inst": b"(VMARK\niposix\nmkdir\n.",
    "obj": b"(cposix\nmkdir\nVMARK\no.",
    "extension": b"\x80\x02\x82\xf0(VMARK\ntR.",
    "persistent": b"cposix\nmkdir\n(VMARK\ntR0Pid\n.",
    "nt": b"cos\nmkdir\n(VMARK\ntR.",
}


def _torch(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save({"meta": {"iter": 1, "epoch": 1}, "state_dict": {"w": content}}, file, **options)
    return file.getvalue()


def _in_zip(content: bytes) -> bytes:
    """As PyTorch's hub still unpacks it: one file in an archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights.pth", content)
    return file.getvalue()


def _in_tar(content: bytes) -> bytes:
    """PyTorch's first format."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def mkdir(mark: str) -> Call:
    return Call(os.mkdir, mark)


# The bytes of each file, for the folder that is to be made.
FILES: dict[str, Callable[[str], bytes]] = {
    **{f"{name}.pth": lambda mark, call=call: _torch(call(mark)) for name, call in CALLS.items()},
    **{
        f"{name}.pkl": lambda mark, stream=stream: stream.replace(b"MARK", mark.encode())
        for name, stream in STREAMS.items()
    },
    **{
        f"protocol{number}.pkl": lambda mark, number=number: pickle.dumps(mkdir(mark), number)
        for number in (0, 1, 2, 4, 5)
    },
    "protocol4.pth": lambda mark: _torch(mkdir(mark), pickle_protocol=4),
    "legacy.pth": lambda mark: _torch(mkdir(mark), _use_new_zipfile_serialization=False),
    "zip.pth": lambda mark: _in_zip(pickle.dumps(mkdir(mark))),
    "tar.pth": lambda mark: _in_tar(pickle.dumps(mkdir(mark), 2)),
    "torch.safetensors": lambda mark: _torch(mkdir(mark)),
    "pickle.safetensors": lambda mark: pickle.dumps(mkdir(mark)),
    "torch.caffemodel": lambda mark: _torch(mkdir(mark)),
    "text.caffemodel": lambda mark: pickle.dumps(mkdir(mark), 0),
}


@contextmanager
def extension_registered() -> Iterator[None]:
    """As in a process where some library has given a function a number."""
    copyreg.add_extension("posix", "mkdir", EXTENSION)
    try:
        yield
    finally:
        copyreg.remove_extension("posix", "mkdir", EXTENSION)


def execute(path: Path) -> None:
    """Read ``path`` in every way that executes it; what they raise is of no interest."""
    files = [path.open("rb")]  # PyTorch's first format is not read from memory
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            files += [io.BytesIO(archive.read(name)) for name in archive.namelist()]
    for load in (pickle.load, partial(torch.load, weights_only=False)):
        for file in files:
            file.seek(0)
            with suppress(Exception):
                load(file)
    files[0].close()


def _backbone(path: Path, **settings: Any) -> None:
    weights = dict(type="Pretrained", checkpoint=str(path))
    MODELS.build(dict(settings, base_channels=2, init_cfg=weights)).init_weights()


def _tiny(path: Path) -> str:
    return str(path.parent / "tiny.py")


READERS = ("read_content", "mapped", "loader")  # which take any data
DOORS: dict[str, Callable[[Path], Any]] = {
    "read_content": read_content,
    "mapped": partial(read_content, mmap=True),
    "read": read,
    "check_checkpoint": check_checkpoint,
    "loader": lambda path: CheckpointLoader.load_checkpoint(str(path)),
    "backbone": partial(_backbone, type="ConvolutionalizedVGG", depth=11, fc_channels=8),
    "mmseg's backbone": partial(_backbone, type="ResNetV1c", depth=18, stem_channels=2),
    "convert": lambda path: convert(path, path.parent / "converted.safetensors"),
    "init_model": lambda path: init_model(_tiny(path), str(path), device="cpu"),
    "inferencer": lambda path: MMSegInferencer(_tiny(path), str(path), device="cpu"),
    "inferencer alone": lambda path: MMSegInferencer(None, str(path), device="cpu"),
}
