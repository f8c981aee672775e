"""Unpack an archive from the net: its plain files, below one folder, or nothing more of it.

The formats are read by the standard library. What it lets pass is refused here: members that lead
out of the folder or are no files, those that unpack to more than was asked for, and archives that
end too early.
"""

import bz2
import errno
import gzip
import io
import lzma
import re
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from fcn_plugin.errors import UserError
from fcn_plugin.system.files import disk_full

CHUNK = 1 << 20  # bytes
PAUSE = 0.05  # seconds between two calls of progress
MAX_MEMBERS = 1_000_000
MAX_DEPTH = 32  # folders
MAX_PATH = 1000  # characters
MAX_NAME = 255  # characters
# Bytes that a tar may have between two members, which are headers, and after the last, padding.
MAX_HEADERS = 1 << 20
# How far the members that are left out of a compressed tar may blow it up; deflate reaches 1000.
MAX_RATIO = 200

BLOCK = tarfile.BLOCKSIZE
COMPRESSED: dict[bytes, Callable[[io.BufferedReader], io.BufferedIOBase]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
ZIP = (b"PK\3\4", b"PK\5\6")  # of a member, and of the end of one without members
ENCRYPTED = 0x2041  # flags of a zip's member, by any of three ways
LOCAL_HEADER = 30  # bytes at least that a zip has before each member

REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
TAR_FAULTS = {
    tarfile.SYMTYPE: "is a symbolic link",
    tarfile.LNKTYPE: "is a hard link",
    tarfile.CHRTYPE: "is a device",
    tarfile.BLKTYPE: "is a device",
    tarfile.FIFOTYPE: "is a named pipe",
}
ZIP_FAULTS = {
    stat.S_IFLNK: "is a symbolic link",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
    stat.S_IFIFO: "is a named pipe",
}
NO_FILE = "is neither a file nor a folder"
NO_NAME = "has no name"
# What a path must not match.
PATH_FAULTS = {
    rf".{{{MAX_PATH + 1}}}|[^/]{{{MAX_NAME + 1}}}": "has too long a path",
    rf"(/+[^/]+){{{MAX_DEPTH + 1}}}": f"lies deeper than {MAX_DEPTH} folders",
    r"[\x00-\x1f\x7f-\x9f]": "has control characters in its name",
    r"\A\Z": NO_NAME,
    r"\A/|(\A|/)[A-Za-z]:": "is an absolute path",  # the drive at any place, as Windows takes it
    r"\\": "has a backslash in its path",
    r"(\A|/)\.\.(/|\Z)": "leads out of the folder by '..'",
}


class _Member(NamedTuple):
    path: str
    size: int  # bytes, as announced
    is_folder: bool
    fault: str | None  # why it is refused
    open: Callable[[], IO[bytes] | None]


def unpack(
    archive: Path,
    target: Path,
    place: Callable[[PurePosixPath], PurePosixPath | None],
    max_bytes: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the files of an archive below ``target``, in the archive's order.

    A tar, plain or compressed by gzip, bzip2 or xz, or a zip; which one is told by the content.
    Modes, owners and times of the archive are not taken over, folders are made as files need them.

    What was written before an error stays there: give a new folder, and delete it if this raises.
    Nothing outside of it is touched, also not by way of links that are in it.

    Args:
        archive: the file.
        target: folder; it and its parents are made.
        place: for the path of a file in the archive its path below ``target``, None to leave it
            out. Not asked for folders.
        max_bytes: that the files written may have together.
        progress: called with (bytes of the archive read, bytes of it in all).

    Returns:
        The number of files written.

    Raises:
        UserError: the archive is damaged or truncated; or one of its members, left out or not, is
            a link, a device or the like, encrypted, larger than it can be, or has a path that is
            absolute, leads out of the folder or cannot be sensible; or two are for one path, or
            the files take more than ``max_bytes``, or the disk is full.
    """
    total = archive.stat().st_size
    written = 0
    with archive.open("rb") as file, disk_full(target):
        tick = _ticker(progress, file, total)
        tree = _Tree(target)
        for number, member in enumerate(_members(archive, file, total, max_bytes), start=1):
            fault = member.fault or _path_fault(member)
            if number > MAX_MEMBERS:
                fault = f"is one of more than {MAX_MEMBERS} members"
            if fault:
                raise _refusal(archive, member, fault)
            goal = None if member.is_folder else place(PurePosixPath(member.path))
            if goal is not None:
                written += member.size
                fault = _path_fault(member._replace(path=str(goal))) or tree.fault(goal)
                if written > max_bytes:
                    fault = f"makes more than {max_bytes} bytes in all"
                if fault:
                    raise _refusal(archive, member, fault)
                with tree.create(goal) as new:
                    for chunk in _content(archive, member):
                        new.write(chunk)
                        tick()
            tick()
    if progress is not None:
        progress(total, total)
    return len(tree.files)


def _ticker(
    progress: Callable[[int, int], None] | None, file: IO[bytes], total: int
) -> Callable[[], None]:
    """A function that tells ``progress`` how far ``file`` is read, not too often."""
    if progress is None:
        return lambda: None
    told = time.monotonic()

    def tick() -> None:
        nonlocal told
        if time.monotonic() - told >= PAUSE:
            progress(file.tell(), total)
            told = time.monotonic()

    return tick


def _refusal(archive: Path, member: _Member, fault: str) -> UserError:
    return UserError(
        f"{archive}: {_shown(member.path)} {fault}; do not use this archive, fetch it from its "
        "publisher again"
    )


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:97]}...")


def _path_fault(member: _Member) -> str | None:
    for shape, fault in PATH_FAULTS.items():
        if re.search(shape, member.path, re.DOTALL):
            return fault
    return None if member.is_folder or PurePosixPath(member.path).parts else NO_NAME


class _Tree:
    """Files made below a folder: none of them twice, or by way of a link that was there before."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.files: set[PurePosixPath] = set()
        self.folders = {PurePosixPath()}

    def fault(self, path: PurePosixPath) -> str | None:
        """What speaks against a file at ``path``."""
        if path in self.files:
            return f"is the second file for {path}"
        if path in self.folders or not self.files.isdisjoint(path.parents):
            return "has the path of a file where another member has a folder"
        return None

    def create(self, path: PurePosixPath) -> IO[bytes]:
        """A new file, open for writing, and the folders that it is in."""
        for parent in reversed(path.parents):
            if parent not in self.folders:
                folder = self.root.joinpath(*parent.parts)
                folder.mkdir(exist_ok=not folder.is_symlink())
                self.folders.add(parent)
        self.files.add(path)
        return self.root.joinpath(*path.parts).open("xb")


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn what the standard library says of damaged content into one line."""
    try:
        yield
    except UserError:
        raise
    # What it raises on arbitrary bytes is not documented: among others TarError, BadZipFile,
    # EOFError, struct.error, zlib.error, RecursionError, and OSError.
    except Exception as error:
        # Without a number it is about the content, and so is a seek to before its start.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = "delete it and download it again"
        raise UserError(f"{archive}: damaged archive, {reason}; {remedy}") from error


def _content(archive: Path, member: _Member) -> Iterator[bytes]:
    """The bytes of a member, as many as it announces."""
    left = member.size
    with _reading(archive):
        content = member.open()
        assert content is not None  # as tarfile has it for what is no file
        with content:
            while chunk := content.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
        if left:
            raise EOFError(f"{_shown(member.path)} has not the {member.size} bytes it announces")


def _members(
    archive: Path, file: io.BufferedReader, total: int, max_bytes: int
) -> Iterator[_Member]:
    """What an archive of ``total`` bytes holds, each to be read before the next is asked for."""
    with _reading(archive):
        head = file.read(BLOCK)
        file.seek(0)
        if not head:
            raise EOFError("it is empty")
        opened = next((o for magic, o in COMPRESSED.items() if head.startswith(magic)), None)
        if head.startswith(ZIP):
            yield from _zip_members(file, total)
        elif opened:
            with opened(file) as content:
                yield from _tar_members(content, max_bytes + MAX_RATIO * total)
        else:
            yield from _tar_members(file, total)


class _Header(tarfile.TarInfo):
    """A tar's header; a damaged or missing one is an error where tarfile takes it for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf == bytes(BLOCK):
                raise  # the end
            reason = "it is neither zip nor tar, or a header of the tar is damaged or missing"
            raise tarfile.ReadError(reason) from error


class _Tape(io.BufferedReader):
    """A tar, read forward and up to ``end`` only.

    Of its own accord tarfile takes headers of any length into memory, and goes where they say.
    """

    end = MAX_HEADERS

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or self.tell() + size > self.end:
            raise tarfile.ReadError("a header of the tar is longer than it can be")
        return super().read(size)

    def seek(self, target: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET or target < self.tell():
            raise tarfile.ReadError("the members of the tar overlap")
        return super().seek(target)


def _tar_members(file: io.BufferedIOBase, total: int) -> Iterator[_Member]:
    """The members of a tar of at most ``total`` bytes, not compressed any more."""
    tape = _Tape(file)
    with tarfile.open(fileobj=tape, mode="r:", tarinfo=_Header) as tar:
        for info in tar:
            blocks = -(-info.size // BLOCK) if info.type in REGULAR else 0
            tape.end = info.offset_data + blocks * BLOCK
            fault = None
            if info.issparse():
                fault = "is a sparse file"
            elif info.type not in REGULAR and not info.isdir():
                fault = TAR_FAULTS.get(info.type, NO_FILE)
            elif info.size < 0 or tape.end > total:
                raise tarfile.ReadError(_too_large(info.name, info.size))
            yield _Member(info.name, info.size, info.isdir(), fault, partial(tar.extractfile, info))
            tape.end += MAX_HEADERS
    # One block of zeros made tarfile stop. To read on also checks the sum of a compressed tar.
    tape.end = tape.tell() + MAX_HEADERS + 1
    tail = tape.read(MAX_HEADERS + 1)
    if tail[:BLOCK] != bytes(BLOCK):
        raise tarfile.ReadError("the end of the tar is missing")
    if len(tail) > MAX_HEADERS:
        raise tarfile.ReadError("the tar ends long before the file")


def _zip_members(file: IO[bytes], total: int) -> Iterator[_Member]:
    """The members of a zip of ``total`` bytes, in the order of their bytes."""
    with zipfile.ZipFile(file) as content:
        end = 0
        for info in sorted(content.infolist(), key=lambda info: info.header_offset):
            path = info.orig_filename  # the other one is cut at NUL, or changed on Windows
            is_folder = path.endswith("/")
            kind = stat.S_IFMT(info.external_attr >> 16)
            fault = None
            if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
                fault = ZIP_FAULTS.get(kind, NO_FILE)
            elif info.flag_bits & ENCRYPTED:
                fault = "is encrypted"
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # The others' decompressors are not kept from filling the memory by zipfile.
                fault = f"is compressed by method {info.compress_type}, not by deflate"
            elif info.header_offset < end:
                fault = "shares bytes with another member"
            end = info.header_offset + LOCAL_HEADER + info.compress_size
            if end > total:
                raise zipfile.BadZipFile(_too_large(path, info.compress_size))
            yield _Member(path, info.file_size, is_folder, fault, partial(content.open, info))


def _too_large(path: str, size: int) -> str:
    return f"{_shown(path)} of {size} bytes is more than it can hold"
