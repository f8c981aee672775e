"""Files that make a folder when they are read as pickles: whether it is there tells.

And ``DOORS``: every way into the package for a file of weights.
"""

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmseg.apis import MMSegInferencer, init_model
from mmseg.registry import MODELS
from weights.constructor_attacks import Call

from fcn_plugin.conversion.convert import convert
from fcn_plugin.weights.files import check_checkpoint, read, read_content


def _saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save({"meta": {"iter": 1, "epoch": 1}, "state_dict": {"w": content}}, file, **options)
    return file.getvalue()


def _zipped(content: bytes) -> bytes:
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


def hostile(mark: str) -> dict[str, bytes]:
    """The bytes of each file by its name; ``mark`` is the folder to be made."""
    mkdir, text = Call(os.mkdir, mark), f"__import__('os').mkdir({mark!r})"
    # From a class that mmengine's checkpoints hold to the built-in functions.
    module = Call(getattr, Call(getattr, HistoryBuffer, "__init__"), "__globals__")
    builtins = Call(Call(getattr, module, "get"), "__builtins__")
    named = f"V{mark}\n".encode()
    return {
        "system.pth": _saved(Call(os.system, f"mkdir {mark}")),
        "eval.pth": _saved(Call(eval, text)),
        "getattr.pth": _saved(Call(Call(Call(getattr, builtins, "get"), "eval"), text)),
        "objects.pth": _saved(np.array([mkdir], dtype=object)),
        # A storage as bytes, which PyTorch reads by a torch.load of its own.
        "nested.pth": _saved(Call(torch.storage._load_from_bytes, _saved(mkdir))),
        "key.pth": _saved({mkdir: torch.zeros(1)}),
        "python2.pkl": f"c__builtin__\neval\n(V{text}\ntR.".encode(),
        "inst.pkl": b"(" + named + b"iposix\nmkdir\n.",
        "obj.pkl": b"(cposix\nmkdir\n" + named + b"o.",
        "persistent.pkl": b"cposix\nmkdir\n(" + named + b"tR0Pid\n.",
        "protocol0.pkl": pickle.dumps(mkdir, 0),
        "protocol2.pkl": pickle.dumps(mkdir, 2),
        "protocol5.pkl": pickle.dumps(mkdir, 5),
        "legacy.pth": _saved(mkdir, _use_new_zipfile_serialization=False),
        "zip.pth": _zipped(pickle.dumps(mkdir)),
        "tar.pth": _in_tar(pickle.dumps(mkdir, 2)),
        "torch.safetensors": _saved(mkdir),
        "text.caffemodel": pickle.dumps(mkdir, 0),
    }


FILES = list(hostile("mark"))


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
