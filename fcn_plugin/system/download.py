"""Download a file once: resume if interrupted, check the hash, then move it into place."""

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fcn_plugin.errors import UserError
from fcn_plugin.system.progress import Progress, progress_bar, silent

CHUNK = 1 << 20  # bytes
TIMEOUT = 30  # seconds without a byte
PAUSE = 1  # second before the next attempt
TOKEN = "Authorization"  # header of a user's token
# "-" and the first 8 or more digits of a file's hash, unless they read as a date, perhaps with the
# time of day, or as a count of iterations filled up with zeros.
DATE = r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d*"
HASH_IN_NAME = rf"-(?!(?:{DATE}|00\d+)\.)([0-9a-f]{{8,64}})\."


class Digest(NamedTuple):
    """The hash of a file, or the first digits of the hash."""

    algorithm: str  # its name in hashlib
    digits: str  # hexadecimal


def digest_in(name: str) -> Digest | None:
    """The hash in the name of a published file, as torch's hub and OpenMMLab write it; or None.

    Of safetensors alone: PyTorch's own files hold checksums.

    >>> digest_in("fcn8s-1a2b3c4d.safetensors").digits
    '1a2b3c4d'
    >>> digest_in("fcn8s-20310131.safetensors")  # a date
    """
    match = re.search(HASH_IN_NAME + r"safetensors\Z", name)
    return Digest("sha256", match[1]) if match else None


def digits_for_name(sha256: str) -> str:
    """The first digits of a hash that ``digest_in`` finds in a name: 8, more if those are a date.

    >>> digits_for_name("1a2b3c4d" + 56 * "0"), digits_for_name("20310131a" + 55 * "0")
    ('1a2b3c4d', '20310131a')
    """
    lengths = range(8, len(sha256) + 1)
    return next(sha256[:n] for n in lengths if digest_in(f"-{sha256[:n]}.safetensors"))


def download(url: str, target: Path, digest: Digest | None, token: str | None = None) -> Path:
    """Download ``url`` to ``target`` unless that file exists; returns ``target``.

    A broken connection is resumed as long as every attempt brings new bytes.

    Args:
        target: the file; until it is complete and checked its bytes are in ``target.part``,
            from which the next call resumes.
        digest: expected hash; None if none is published: only the length is checked.
        token: of a user of the server, which no other server gets.

    Raises:
        UserError: the download failed, or the file has another hash.
    """
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    with progress_bar(of_bytes=True) as progress:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetch_all(url, part, progress, token)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise UserError(
                f"{url}: cannot be downloaded ({reason}); fetch it elsewhere and put it at {target}"
            ) from error
        if digest is not None:
            actual = file_digests(part, [digest.algorithm], progress)[digest.algorithm]
            if not actual.startswith(digest.digits):
                part.unlink()
                raise UserError(
                    f"{url}: what arrived has {digest.algorithm} {actual}, expected "
                    f"{digest.digits}; it was deleted: try again, or fetch it yourself and give "
                    "its path"
                )
    os.replace(part, target)
    return target


def why_unreachable(url: str, patience: float) -> str:
    """Why ``url`` cannot be downloaded now, in a few words; empty if its server answers for it.

    Args:
        patience: seconds to wait for an answer.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=patience):
            return ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", None) or error)


def _fetch_all(url: str, part: Path, progress: Progress, token: str | None) -> None:
    """Append the missing bytes to ``part``; try again while attempts bring any."""
    while True:
        before = _size(part)
        try:
            return _fetch(url, part, progress, token)
        except (OSError, http.client.HTTPException):
            if _size(part) <= before:
                raise
        time.sleep(PAUSE)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follow redirects; a token goes along only to the server that it was meant for."""

    def redirect_request(self, req: Any, *answer: Any) -> Any:
        request = super().redirect_request(req, *answer)
        if request and (token := req.unredirected_hdrs.get(TOKEN)):
            before, after = (urlsplit(each.full_url) for each in (req, request))
            if before[:2] == after[:2]:  # scheme, and host with port
                request.add_unredirected_header(TOKEN, token)
        return request


def _fetch(url: str, part: Path, progress: Progress, token: str | None) -> None:
    """Append the missing bytes to ``part``, or start over if the server cannot resume."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    if token:
        request.add_unredirected_header(TOKEN, f"Bearer {token}")
    try:
        answer = urllib.request.build_opener(_SameServer).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # 416: no bytes after ours; the header "bytes */LENGTH" tells whether ours are complete.
        if error.headers.get("Content-Range", "").rpartition("/")[2] in ("", "*", str(have)):
            return
        part.unlink()
        return _fetch(url, part, progress, token)
    with answer:
        resumed = answer.status == 206
        done = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else 0
        progress(part.stem, done, total)  # so the speed does not count earlier bytes
        with part.open("ab" if resumed else "wb") as file:
            # read1 returns what has arrived; waiting for a whole chunk could lose it.
            while chunk := answer.read1(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(part.stem, done, total)
    if done < total:
        raise OSError(f"the connection ended at {done} of {total} bytes")


def file_digests(
    path: Path, algorithms: Iterable[str], progress: Progress = silent
) -> dict[str, str]:
    """Algorithm -> hash of a file, which is read only once."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    step, size = f"Checking {path.name.removesuffix('.part')}", path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for digest in digests.values():
                digest.update(chunk)
            progress(step, file.tell(), size)
    return {name: digest.hexdigest() for name, digest in digests.items()}
