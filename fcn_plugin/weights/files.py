"""Read any file of weights without executing anything in it. All loading goes through here.

``weights_only`` is always passed to ``torch.load``, so that neither
``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` nor a library's own default can turn it off.
"""

import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from fcn_plugin.errors import UserError, quoted
from fcn_plugin.system.download import digest_in, file_digests
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights import keras_files, matlab_files, numpy_files
from fcn_plugin.weights.caffemodel import looks_like_caffemodel, read_caffemodel
from fcn_plugin.weights.foreign import Foreign
from fcn_plugin.weights.keras_files import read_keras
from fcn_plugin.weights.matconvnet import read_matconvnet
from fcn_plugin.weights.numpy_files import looks_like_npz, read_npy, read_npz
from fcn_plugin.weights.safetensors_files import (
    looks_like_safetensors,
    read_safetensors,
)
from fcn_plugin.weights.structure import (
    EXTRA_STATE,
    NO_STATE_DICT,
    check_content,
    check_names,
    check_tensors,
)
from fcn_plugin.weights.tokens import ALLOWED, without_tokens

ZIP_MAGIC, PICKLE_MAGIC = b"PK\x03\x04", b"\x80"  # PyTorch's files since 2020, and before
START_BYTES = 128  # that tell the format
DOS_FOLDER = 0x10  # bit of a zip member's attributes
PROGRAM = "constants.pkl"  # only TorchScript's archives have it
KERAS_WEIGHTS = "model.weights.h5"  # only Keras' archives (.keras) have it
# The function's name in PyTorch's message, and in the tokens'.
ASKED = re.compile(r"(?:GLOBAL|the attribute) '?([\w.]{1,100})")
TENSORS_ALONE = "ask its source for the tensors alone: torch.save(model.state_dict(), FILE)"
AGAIN = "copy or download it again"

# Other frameworks' formats, which hold no checkpoint: how each begins, and how it is read.
FOREIGN: dict[str, tuple[Callable[[bytes], bool], Callable[[Path, Progress], Foreign]]] = {
    "mat": (lambda start: start.startswith(matlab_files.MAGICS), read_matconvnet),
    "npy": (lambda start: start.startswith(numpy_files.MAGIC), read_npy),
    "npz": (looks_like_npz, read_npz),
    "hdf5": (lambda start: start.startswith(keras_files.MAGIC), read_keras),
}


def format_of(path: Path) -> str | None:
    """The format by the first bytes: "torch", "safetensors", "caffemodel" or a key of ``FOREIGN``.

    None if it is unknown.
    """
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if looks_like_safetensors(start):
        return "safetensors"
    for kind, (looks_like, _) in FOREIGN.items():
        if looks_like(start):
            return kind
    if start.startswith((ZIP_MAGIC, PICKLE_MAGIC)):
        return "torch"
    return "caffemodel" if looks_like_caffemodel(path) else None


def read(
    path: Path, progress: Progress = silent
) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors of a file of weights, by the file's own names, and its meta data.

    The format is recognised by the bytes, and may be any but ``FOREIGN``'s. PyTorch's zip archives
    are memory-mapped.

    Returns:
        Tensors, and meta data; None for a caffemodel, which cannot have any.

    Raises:
        UserError: as ``read_content``, or the file holds no tensors.
    """
    if format_of(path) == "caffemodel":
        tensors = read_caffemodel(path, progress)
        check_names(path, tensors)
        return tensors, None
    content = read_content(path, mmap=True)
    verify(path)
    return tensors_and_meta(path, content)


def read_content(path: Path, map_location: Any = "cpu", mmap: bool = False) -> Any:
    """The whole content of a PyTorch or safetensors file, as mmengine's loaders return it.

    Args:
        map_location: as in ``torch.load``; for a safetensors file a device, else "cpu" is taken.
        mmap: memory-map the tensors of PyTorch's zip archives. The file must not be written to
            meanwhile.

    Returns:
        What was saved, without the meta data's "config": mmengine executes that on resuming.

    Raises:
        UserError: the file holds more than tensors, numbers, texts and mmengine's logs, is
            damaged, truncated or of another format, or its parts have the wrong types.
        OSError: it cannot be opened.
    """
    kind = format_of(path)
    if kind == "caffemodel" or kind in FOREIGN:
        framework = "a Caffe model" if kind == "caffemodel" else "another framework's file"
        raise UserError(f"{path}: {framework}; make a checkpoint of it: fcn-plugin convert_weights")
    if kind == "safetensors":
        content = read_safetensors(path, map_location)
    else:
        content = _unpickle(path, map_location, mmap)
    check_content(path, content)
    meta = content.get("meta") if isinstance(content, dict) else None
    if isinstance(meta, dict):
        meta.pop("config", None)
    return content


def tensors_and_meta(path: Path, content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and meta data from ``read_content``'s result.

    The tensors are its "state_dict", "model_state_dict" or "model_state", else all of it.

    Raises:
        UserError: there are no tensors, or some cannot fill a network (sparse, quantized, ...).
    """
    if not isinstance(content, dict):
        raise UserError(f"{path}: {NO_STATE_DICT}")
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    if "arch" in content:  # the class of pytorch-fcn's network
        meta = meta | {"arch": content["arch"]}
    for key in ("state_dict", "model_state_dict", "model_state"):
        if isinstance(content.get(key), dict):
            content = content[key]
    # A module's extra state need not be a tensor.
    tensors = {k: v for k, v in content.items() if not str(k).endswith(EXTRA_STATE)}
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in tensors.items()):
        raise UserError(f"{path}: {NO_STATE_DICT}")
    check_tensors(path, tensors, finite=False)
    if all(name.startswith("module.") for name in tensors):  # saved from DataParallel
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors, meta


def check_checkpoint(path: Path, finite: bool = True) -> dict[str, Any]:
    """The content of a sound checkpoint; a damaged or foreign file is refused.

    The whole file is read once, to compare checksums.

    Args:
        finite: also refuse weights with NaN or inf.

    Returns:
        As ``read_content`` with ``mmap``.

    Raises:
        UserError: it is missing, hostile, damaged, truncated or of another format, or its weights
            contain NaN or inf.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; train one first with fcn-plugin train")
    content = read_content(path, mmap=True)
    tensors, _ = tensors_and_meta(path, content)
    verify(path)
    check_tensors(path, tensors, finite)
    return content


def verify(path: Path) -> None:
    """Compare a file's bytes with the checksums that it holds, which ``torch.load`` ignores.

    PyTorch's zip archives have one for each tensor; its older files and safetensors have none, but
    a published file has one in its name. The whole file is read, at some GB per second if it is in
    memory.

    Raises:
        UserError: a checksum differs.
    """
    if digest := digest_in(path.name):
        actual = file_digests(path, [digest.algorithm])[digest.algorithm]
        if not actual.startswith(digest.digits):
            raise UserError(
                f"{path}: damaged, or another file than its name says: its {digest.algorithm} "
                f"begins with {actual[: len(digest.digits)]}, not {digest.digits}; {AGAIN}, or "
                "rename it if that was never its hash"
            )
    with path.open("rb") as file:
        if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
            return
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
        # What zipfile raises on arbitrary bytes is not documented.
        except Exception as error:
            raise _unreadable(path, error) from error
    if damaged is not None:
        raise UserError(f"{path}: damaged, the checksum of {quoted(damaged)} does not fit; {AGAIN}")


def _unpickle(path: Path, map_location: Any, mmap: bool) -> Any:
    with path.open("rb") as file:
        try:
            mmap = _is_archive(path, file) and mmap
            # PyTorch reads a path ending in .safetensors as safetensors, but not an open file.
            source = path if mmap and path.suffix != ".safetensors" else file
            with _tokens_only():
                content = torch.load(
                    source, map_location=map_location, weights_only=True, mmap=source is path
                )
            return without_tokens(content)
        except (UserError, torch.OutOfMemoryError):
            raise
        # What torch.load raises on arbitrary bytes is not documented.
        except Exception as error:
            if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
                # PyTorch's own message is left out: it advises executing the file.
                raise _refused(path, str(error)) from None
            raise _unreadable(path, error) from error


@contextmanager
def _tokens_only() -> Iterator[None]:
    """While loading, hide the real classes that the program allowed; our placeholders apply."""
    allowed, names = torch.serialization.get_safe_globals(), {name for _, name in ALLOWED}
    others = [entry for entry in allowed if entry not in ALLOWED and _name(entry) in names]
    if not others:
        yield
        return
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([entry for entry in allowed if entry not in others])
    try:
        yield
    finally:
        torch.serialization.add_safe_globals(others)


def _name(entry: Any) -> str:
    return entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__name__}"


def _is_archive(path: Path, file: BinaryIO) -> bool:
    """Whether it is one of PyTorch's zip archives; refuses what torch.save never writes into one.

    That is programs, compression (it hides sizes) and folders: one wrong bit marks a tensor as a
    folder, and PyTorch then silently returns whatever was in memory.
    """
    archived = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    if archived:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        if any(member.filename.rpartition("/")[2] == PROGRAM for member in members):
            raise UserError(f"{path}: a TorchScript program, which is not opened; {TENSORS_ALONE}")
        if any(member.filename == KERAS_WEIGHTS for member in members):
            raise UserError(
                f"{path}: Keras' archive of a network; take the weights out of it: "
                f"unzip {path.name} {KERAS_WEIGHTS}"
            )
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise UserError(f"{path}: compressed, as no PyTorch file is; save it with torch.save")
        if folder := next((m.filename for m in members if m.external_attr & DOS_FOLDER), None):
            raise UserError(f"{path}: damaged, {quoted(folder)} is marked as a folder; {AGAIN}")
    file.seek(0)
    return archived


def _refused(path: Path, message: str) -> UserError:
    asked = ASKED.search(message)
    if asked is None:
        return UserError(
            f"{path}: not a PyTorch checkpoint, damaged, or it holds more than tensors and is not "
            f"opened; {AGAIN}, or {TENSORS_ALONE}"
        )
    return UserError(
        f"{path}: asks for {asked[1]}, which may run code, and is not opened; {TENSORS_ALONE}"
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: damaged or truncated, or no PyTorch file ({quoted(error)}); {AGAIN}")
