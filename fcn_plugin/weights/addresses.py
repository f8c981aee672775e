"""Fetch a file of weights by its address: http, https, or hf, which names a file on a model hub."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from urllib.parse import urlparse

import torch

from fcn_plugin.errors import UserError
from fcn_plugin.system.download import HASH_IN_NAME, digest_in, download
from fcn_plugin.system.locks import only_one_at_work

WEB, HUB = ("http://", "https://"), "hf://"
ENDPOINT = "https://huggingface.co"  # unless HF_ENDPOINT names another, as for huggingface_hub
PATIENCE = 3600  # seconds to wait for another process that fetches a file, perhaps this one


def is_address(checkpoint: str | Path) -> bool:
    """Whether it is an address that ``fetched`` takes."""
    return str(checkpoint).startswith((*WEB, HUB))


@contextmanager
def fetched(address: str) -> Iterator[Path]:
    """The file at ``address``, kept in torch's own cache as mmengine does; the block reads it.

    A file without a hash in its name has a folder of its own there, named by the hash of the
    address. Only one process at a time downloads; what arrives is compared with the hash in its
    name.

    Args:
        address: http:// or https://, or hf://OWNER/NAME/FILE, a file of a model there; of a private
            one if the user is logged in (hf auth login), or by the token in HF_TOKEN.

    Raises:
        UserError: it names no file, cannot be downloaded, has another hash, or the block refuses
            it. The message leaves out what may be secret in the address.
    """
    url = _web_address(address)
    name = Path(urlparse(url).path).name
    if name in ("", ".."):
        raise UserError(f"{address}: names no file; give the whole address of a checkpoint")
    folder = Path(torch.hub.get_dir(), "checkpoints")
    # A hash is one file's, wherever that is; model.safetensors is the name of many.
    if not re.search(HASH_IN_NAME, name):
        folder /= hashlib.sha256(url.encode()).hexdigest()[:8]
    target = folder / name
    if not target.is_file():
        with only_one_at_work(target.parent, PATIENCE):
            if address.startswith(HUB):
                _download_from_hub(url, target)
            else:
                download(url, target, digest_in(name))
    try:
        yield target
    except UserError as error:
        raise UserError(f"{error} (from {address}; delete the file to fetch it again)") from error


def _download_from_hub(url: str, target: Path) -> None:
    try:
        download(url, target, digest_in(target.name), _token())
    except UserError as error:
        if getattr(error.__cause__, "code", None) not in (401, 403):
            raise
        raise UserError(f"{error}, or log in (hf auth login), or set HF_TOKEN") from error


def _token() -> str | None:
    """The user's token for a hub, as huggingface_hub finds it; without it the one in HF_TOKEN."""
    try:
        return import_module("huggingface_hub").get_token()
    except ImportError:
        return os.environ.get("HF_TOKEN", "").strip() or None


def _web_address(address: str) -> str:
    if not address.startswith(HUB):
        return address
    owner, _, rest = address.removeprefix(HUB).partition("/")
    name, _, file = rest.partition("/")
    if not file:
        raise UserError(f"{address}: names no file of a model; give hf://OWNER/NAME/FILE")
    endpoint = os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
    return f"{endpoint}/{owner}/{name}/resolve/main/{file}"
