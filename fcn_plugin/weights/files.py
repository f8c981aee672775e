"""The one way into a file of tensors: it is data, and nothing in it is executed.

Whatever the environment says: ``weights_only`` is stated, so that neither
``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` nor a library's own default can turn it off.
"""

import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from fcn_plugin.errors import UserError
from fcn_plugin.weights.quoting import quoted
from fcn_plugin.weights.safetensors_files import (
    START_BYTES,
    looks_like_safetensors,
    read_safetensors,
)
from fcn_plugin.weights.structure import check_content
from fcn_plugin.weights.tokens import ALLOWED, without_tokens

ZIP_MAGIC = b"PK\x03\x04"  # as torch.load has it
DOS_FOLDER = 0x10  # among a record's attributes
PROGRAM = "constants.pkl"  # only TorchScript's archives have it
# In PyTorch's message, and in the tokens'.
ASKED = re.compile(r"(?:GLOBAL|the attribute) '?([\w.]{1,100})")
OUR_CONFIG = re.compile(r"configs/[\w.-]+\.py")
TENSORS_ALONE = "ask its source for the tensors alone: torch.save(model.state_dict(), FILE)"
ANEW = "copy or download it again"


def read_tensors(path: Path, map_location: Any = "cpu", mmap: bool = False) -> Any:
    """The content of a PyTorch or safetensors file, recognised by its bytes, not by its name.

    Args:
        map_location: as of ``torch.load``; of a safetensors file a device, anything else is "cpu".
        mmap: leave the tensors in the file until they are used, where its format allows. The file
            must not be written to meanwhile.

    Returns:
        What was saved, without the meta data's "config": mmengine executes that on resuming.

    Raises:
        UserError: the file asks for more than tensors, numbers, texts and mmengine's logs, is
            damaged, truncated or no such file at all, or its parts are not of the right types.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        start = file.read(START_BYTES)
        if looks_like_safetensors(start):
            content = read_safetensors(path, map_location)
        else:
            mapped = mmap and start.startswith(ZIP_MAGIC)
            content = _unpickle(path, file, map_location, mapped)
    check_content(path, content)
    return _without_config(content)


def verify(path: Path) -> None:
    """Compare a file's bytes with the checksums that it holds, which ``torch.load`` ignores.

    PyTorch's zip archives have one for each tensor; its older files and safetensors have none. The
    whole file is read, at some GB per second if it is in memory.

    Raises:
        UserError: they differ.
    """
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
        raise UserError(f"{path}: damaged, the checksum of {quoted(damaged)} does not fit; {ANEW}")


def _unpickle(path: Path, file: BinaryIO, map_location: Any, mmap: bool) -> Any:
    try:
        _check_archive(path, file)
        # By its name PyTorch takes a file for safetensors, but not where it is given opened.
        source = path if mmap and path.suffix != ".safetensors" else file
        with _allowed():
            content = torch.load(
                source, map_location=map_location, weights_only=True, mmap=source is path
            )
        return without_tokens(content)
    except (UserError, torch.OutOfMemoryError):
        raise
    # What torch.load raises on arbitrary bytes is not documented.
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
            # Without PyTorch's own message, which advises to execute the file.
            raise _refused(path, str(error)) from None
        raise _unreadable(path, error) from error


@contextmanager
def _allowed() -> Iterator[None]:
    """Where a program has allowed the classes themselves that we have tokens for, ours count."""
    before, names = torch.serialization.get_safe_globals(), {entry[1] for entry in ALLOWED}
    if not (others := [each for each in before if each not in ALLOWED and _name(each) in names]):
        yield
        return
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([each for each in before if each not in others])
    try:
        yield
    finally:
        torch.serialization.add_safe_globals(others)


def _name(allowed: Any) -> str:
    return allowed[1] if isinstance(allowed, tuple) else f"{allowed.__module__}.{allowed.__name__}"


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Refuse what torch.save does not write: programs, compression (it hides sizes) and folders.

    PyTorch does not read a record that one wrong bit marks as a folder, and says nothing: its
    tensor is whatever was in memory.
    """
    file.seek(0)
    if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        if any(member.filename.rpartition("/")[2] == PROGRAM for member in members):
            raise UserError(f"{path}: a TorchScript program, which is not opened; {TENSORS_ALONE}")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise UserError(f"{path}: compressed, as no PyTorch file is; save it by torch.save")
        if folder := next((m.filename for m in members if m.external_attr & DOS_FOLDER), None):
            raise UserError(f"{path}: damaged, {quoted(folder)} is marked as a folder; {ANEW}")
    file.seek(0)


def _refused(path: Path, message: str) -> UserError:
    asked = ASKED.search(message)
    if asked is None:
        return UserError(
            f"{path}: not a PyTorch checkpoint, damaged, or it holds more than tensors and is not "
            f"opened; {ANEW}, or {TENSORS_ALONE}"
        )
    return UserError(
        f"{path}: asks for {asked[1]}, which may run code, and is not opened; {TENSORS_ALONE}"
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: damaged or truncated, or no PyTorch file ({quoted(error)}); {ANEW}")


def _without_config(content: Any) -> Any:
    """Drop the meta data's "config", which mmengine's Runner executes as Python on resuming.

    Our checkpoints once had the name of a config there, which is "made_for" now.
    """
    meta = content.get("meta") if isinstance(content, dict) else None
    if isinstance(meta, dict) and "config" in meta:
        config = meta.pop("config")
        if isinstance(config, str) and OUR_CONFIG.fullmatch(config):
            meta.setdefault("made_for", config)
    return content
