"""Unpack an archive from the internet safely: only plain files, and only below one folder.

The standard library reads the formats, member by member. This module refuses what it lets pass:
paths that lead out of the folder, members that are not files, too many bytes, and truncated
archives.
"""

import bz2
import errno
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from fcn_plugin.errors import UserError
from fcn_plugin.system.files import disk_full
from fcn_plugin.system.progress import Progress, silent

CHUNK = 1 << 20  # bytes read at a time; longer headers and longer padding after a tar are refused
MAX_MEMBERS = 1_000_000
# A compressed tar may unpack to the bytes asked for and, for members that are left out, to this
# many times its own size. Hostile data can reach 1000 times by deflate.
MAX_RATIO = 200

BLOCK = tarfile.BLOCKSIZE
COMPRESSED: dict[bytes, Callable[[io.BufferedReader], io.BufferedIOBase]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
ZIP = (b"PK\3\4", b"PK\5\6")  # the start of a member, or of the end of an empty zip
ENCRYPTED = 0x2041  # flags of a zip's member, one for each of three ways to encrypt
LOCAL_HEADER = 30  # the least number of bytes before each member of a zip

# Refused types of a tar's members and file modes of a zip's members.
KINDS: dict[bytes | int, str] = {
    tarfile.SYMTYPE: "is a symbolic link",
    tarfile.LNKTYPE: "is a hard link",
    tarfile.CHRTYPE: "is a device",
    tarfile.BLKTYPE: "is a device",
    tarfile.FIFOTYPE: "is a named pipe",
    stat.S_IFLNK: "is a symbolic link",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
    stat.S_IFIFO: "is a named pipe",
}
NO_FILE = "is neither a file nor a folder"
# Patterns that a path must not match.
PATHS = {
    r".{1001}|[^/]{256}": "has too long a path",
    r"(/+[^/]+){33}": "lies deeper than 32 folders",
    r"[\x00-\x1f\x7f-\x9f]": "has control characters in its name",
    r"\A\Z": "has no name",
    r"\A/|(\A|/)[A-Za-z]:": "is an absolute path",  # Windows obeys a drive anywhere
    r"\\": "has a backslash in its path",
    r"(\A|/)\.\.(/|\Z)": "leads out of the folder by '..'",
}


class _Member(NamedTuple):
    path: str
    size: int  # bytes, as announced
    is_folder: bool
    fault: str | None  # why it is refused, or None
    open: Callable[[], IO[bytes] | None]


def unpack(
    archive: Path,
    target: Path,
    place: Callable[[PurePosixPath], PurePosixPath | None],
    max_bytes: int,
    progress: Progress = silent,
) -> int:
    """Write the files of an archive below ``target``, in the archive's order.

    The archive is a zip, or a tar, plain or compressed by gzip, bzip2 or xz, whatever its name.
    Modes, owners and times are not restored. If this raises, the files written so far stay: delete
    the folder.

    Args:
        target: a new folder; it and its parents are made.
        place: gives a file's path below ``target`` for its path in the archive; None: leave it out.
        max_bytes: limit for all written files together.
        progress: counts the bytes read of the archive.

    Returns:
        The number of files written.

    Raises:
        UserError: the archive is damaged or truncated; a member, even one left out, is a link, a
            device or the like, is encrypted or larger than the archive can hold, or has a path
            that is absolute, leads out of the folder or makes no sense; two members have one path;
            the files take more than ``max_bytes``; or the disk is full.
    """
    total, files, left = archive.stat().st_size, 0, max_bytes
    step = f"Unpacking {archive.name}"
    target.mkdir(parents=True, exist_ok=True)
    with archive.open("rb") as file, disk_full(target):
        for number, member in enumerate(_members(archive, file, total, max_bytes), start=1):
            fault = member.fault or _path_fault(member.path, member.is_folder)
            if number > MAX_MEMBERS:
                fault = f"is one of more than {MAX_MEMBERS} members"
            goal = None if fault or member.is_folder else place(PurePosixPath(member.path))
            if goal is not None:
                left -= member.size
                fault = _path_fault(str(goal))
                if left < 0:
                    fault = f"makes more than {max_bytes} bytes in all"
                fault = fault or _write(archive, member, target.joinpath(*goal.parts))
                files += 1
            if fault:
                raise UserError(
                    f"{archive}: {_shown(member.path)} {fault}; do not use this archive, fetch it "
                    "from its publisher again"
                )
            progress(step, file.tell(), total)
    progress(step, total, total)
    return files


def _path_fault(path: str, is_folder: bool = False) -> str | None:
    for shape, fault in PATHS.items():
        if re.search(shape, path, re.DOTALL):
            return fault
    return None if is_folder or PurePosixPath(path).parts else "has no name"


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:97]}...")


def _write(archive: Path, member: _Member, path: Path) -> str | None:
    """Write a member's content; if its path is taken, return that as its fault."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    except (FileExistsError, NotADirectoryError):
        return "has the path of another member"
    with file, _reading(archive):
        content, left = member.open(), member.size
        assert content is not None  # tarfile gives None only for what is not a file
        with content:
            while chunk := content.read(min(CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    break
                file.write(chunk)
        if left:
            raise EOFError(f"{_shown(member.path)} has fewer than its {member.size} bytes")
    return None


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn the standard library's errors about damaged content into a `UserError` of one line."""
    try:
        yield
    except UserError:
        raise
    # What it raises on damaged data is not documented: TarError, BadZipFile, EOFError,
    # struct.error, zlib.error, RecursionError, OSError and others.
    except Exception as error:
        # An OSError without a number is about the content; so is EINVAL, a seek before the start.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{archive}: damaged archive, {reason}; delete it and download it again"
        ) from error


def _members(
    archive: Path, file: io.BufferedReader, total: int, max_bytes: int
) -> Iterator[_Member]:
    """The members of an archive of ``total`` bytes; read each before asking for the next."""
    with _reading(archive):
        head = file.read(BLOCK)
        file.seek(0)
        decompress = next((f for magic, f in COMPRESSED.items() if head.startswith(magic)), None)
        if head.startswith(ZIP):
            yield from _zip_members(file, total)
        elif decompress:
            with decompress(file) as content:
                yield from _tar_members(content, max_bytes + MAX_RATIO * total)
        else:
            yield from _tar_members(file, total)


class _Tape(io.BufferedReader):
    """A tar, read forward only and in chunks. Otherwise tarfile would read headers of any length
    into memory, and seek wherever they point.
    """

    last = b""  # the bytes of the last read

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= CHUNK:
            raise tarfile.ReadError("a header of the tar is longer than it can be")
        self.last = super().read(size)
        return self.last

    def seek(self, target: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET or target < self.tell():
            raise tarfile.ReadError("the members of the tar overlap")
        return super().seek(target)


def _tar_members(file: io.BufferedIOBase, total: int) -> Iterator[_Member]:
    """The members of a decompressed tar of at most ``total`` bytes."""
    tape = _Tape(file)
    with tarfile.open(fileobj=tape, mode="r:") as tar:
        for info in tar:
            fault = None if info.isreg() or info.isdir() else KINDS.get(info.type, NO_FILE)
            if info.issparse():
                fault = "is a sparse file"
            elif not fault and (info.size < 0 or info.offset_data + info.size > total):
                raise tarfile.ReadError(_too_large(info.name, info.size))
            yield _Member(info.name, info.size, info.isdir(), fault, partial(tar.extractfile, info))
    # tarfile also stops, without an error, at a damaged header and at the end of the file.
    end, tail = tape.last, tape.read(BLOCK)
    if end != bytes(BLOCK):
        raise tarfile.ReadError("neither zip nor tar, or a header of it is damaged or missing")
    if tail != bytes(BLOCK):
        raise tarfile.ReadError("the end of the tar is missing")
    tape.read(CHUNK)  # padding; reading on also verifies the checksum of a compressed tar
    if tape.read(1):
        raise tarfile.ReadError("the tar ends long before the file")


def _zip_members(file: IO[bytes], total: int) -> Iterator[_Member]:
    """The members of a zip of ``total`` bytes, in the order of their bytes."""
    with zipfile.ZipFile(file) as content:
        end = 0
        for info in sorted(content.infolist(), key=lambda info: info.header_offset):
            path = info.orig_filename  # info.filename is cut at NUL, and changed on Windows
            is_folder = path.endswith("/")
            kind = stat.S_IFMT(info.external_attr >> 16)
            fault = None
            if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
                fault = KINDS.get(kind, NO_FILE)
            elif info.flag_bits & ENCRYPTED:
                fault = "is encrypted"
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile lets the decompressors of other methods fill the memory.
                fault = f"is compressed by method {info.compress_type}, not by deflate"
            elif info.header_offset < end:
                fault = "shares bytes with another member"
            end = info.header_offset + LOCAL_HEADER + info.compress_size
            if end > total:
                raise zipfile.BadZipFile(_too_large(path, info.compress_size))
            yield _Member(path, info.file_size, is_folder, fault, partial(content.open, info))


def _too_large(path: str, size: int) -> str:
    return f"{_shown(path)} of {size} bytes is more than it can hold"
