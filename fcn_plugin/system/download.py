"""Fetch a file once: with progress, resumed where it stopped, checked, then put in place."""

import hashlib
import http.client
import os
import time
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
PAUSE = 1  # second before the next attempt


class Digest(NamedTuple):
    """The hash of a file's bytes, or its first digits."""

    algorithm: str  # as hashlib calls it
    digits: str  # hexadecimal


def download(url: str, target: Path, digest: Digest | None) -> Path:
    """Fetch ``url`` to ``target`` unless it is there already.

    A connection that breaks off is taken up again for as long as every attempt brings new bytes.

    Args:
        target: the file; until it is complete and checked its bytes are in ``target.part``,
            from which an interrupted download goes on.
        digest: hash of the file, or the first digits of it; None if none is published, and then
            only the length that the server announces is checked.

    Raises:
        UserError: no network, or a file with another hash.
    """
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        name = url.rsplit("/", 1)[-1]
        arriving = bar.add_task(name, total=None)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetch_all(url, part, lambda done, of: bar.update(arriving, completed=done, total=of))
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise UserError(
                f"{url}: cannot be downloaded ({reason}); fetch it elsewhere and put it at {target}"
            ) from error
        if digest is not None:
            checking = bar.add_task(f"checking {name}", total=part.stat().st_size)
            _check(url, part, digest, lambda done: bar.update(checking, completed=done))
    os.replace(part, target)
    return target


def _fetch_all(url: str, part: Path, progress: Callable[[int, int | None], None]) -> None:
    """Append what is missing to ``part``, in as many attempts as bring something."""
    while True:
        before = _size(part)
        try:
            return _fetch(url, part, progress)
        except (OSError, http.client.HTTPException):
            if _size(part) <= before:
                raise
        time.sleep(PAUSE)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fetch(url: str, part: Path, progress: Callable[[int, int | None], None]) -> None:
    """Append what is missing to ``part``, or start over if the server cannot resume.

    ``progress`` is told how many bytes of how many are there; None if the server does not say.
    """
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # There is nothing after what we have; how much there should be is in "bytes */LENGTH".
        if error.headers.get("Content-Range", "").rpartition("/")[2] in ("", "*", str(have)):
            return
        part.unlink()
        return _fetch(url, part, progress)
    with answer:
        resumed = answer.status == 206
        done = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        progress(done, total)  # so that what was there does not count into the speed
        with part.open("ab" if resumed else "wb") as file:
            # Whatever has arrived, not a whole chunk: what was read and not written is lost.
            while chunk := answer.read1(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if total is not None and done < total:
        raise OSError(f"the connection ended at {done} of {total} bytes")


def _check(url: str, part: Path, digest: Digest, progress: Callable[[int], None]) -> None:
    found = file_digests(part, [digest.algorithm], progress)[digest.algorithm]
    if not found.startswith(digest.digits):
        part.unlink()
        raise UserError(
            f"{url}: what arrived has {digest.algorithm} {found}, expected {digest.digits}; it "
            "was deleted, try again"
        )


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
