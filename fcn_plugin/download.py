"""Fetch a file once: with progress, resumed where it stopped, checked, then put in place."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from fcn_plugin.errors import UserError

CHUNK = 1 << 20  # bytes
TIMEOUT = 30  # seconds without a byte


class Digest(NamedTuple):
    """The hash of a file's bytes, or its first digits."""

    algorithm: str  # as hashlib calls it
    digits: str  # hexadecimal


def download(url: str, target: Path, digest: Digest) -> Path:
    """Fetch ``url`` to ``target`` unless it is there already.

    Args:
        target: the file; until it is complete and checked its bytes are in ``target.part``,
            from which an interrupted download goes on.
        digest: hash of the file, or the first digits of it.

    Raises:
        UserError: no network, or a file with another hash.
    """
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{url}: cannot be downloaded ({reason}); fetch it elsewhere and put it at {target}"
        ) from error
    found = file_digests(part, [digest.algorithm])[digest.algorithm]
    if not found.startswith(digest.digits):
        part.unlink()
        raise UserError(
            f"{url}: what arrived has {digest.algorithm} {found}, expected {digest.digits}; it "
            "was deleted, try again"
        )
    os.replace(part, target)
    return target


def _fetch(url: str, part: Path) -> None:
    """Append what is missing to ``part``, or start over if the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing
            return
        raise
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with answer, Progress(*columns, console=Console(stderr=True)) as progress:
        resumed = answer.status == 206
        start = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        task = progress.add_task(url.rsplit("/", 1)[-1], total=total, completed=start)
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                progress.advance(task, len(chunk))
    if total is not None and part.stat().st_size < total:
        raise OSError(f"the connection ended at {part.stat().st_size} of {total} bytes")


def file_digests(
    path: Path, algorithms: Iterable[str], progress: Callable[[int], None] = lambda read: None
) -> dict[str, str]:
    """The hashes of a file, read once; ``progress`` is told how many bytes of it are read."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for digest in digests.values():
                digest.update(chunk)
            progress(file.tell())
    return {name: digest.hexdigest() for name, digest in digests.items()}
