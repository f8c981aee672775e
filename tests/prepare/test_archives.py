"""Archives that are as they should be, hostile ones and damaged ones."""

import bz2
import errno
import gzip
import io
import lzma
import random
import shutil
import stat
import struct
import tarfile
import zipfile
from functools import partial
from pathlib import PurePosixPath

import pytest

from fcn_plugin.errors import UserError
from fcn_plugin.prepare import archives
from fcn_plugin.prepare.archives import unpack

FILES = {"set/list.txt": b"1\n2\n", "set/img/1.jpg": bytes(range(256)) * 9, "set/img/2.jpg": b""}
COMPRESS = {
    "tar": bytes,
    "tgz": lambda content: gzip.compress(content, 1),
    "tar.bz2": lambda content: bz2.compress(content, 1),  # in small blocks
    "tar.xz": lambda content: lzma.compress(content, preset=0),
}
FORMATS = [*COMPRESS, "zip"]
LINK, DEVICE, NO_FILE = "symbolic link", "device", "neither a file nor a folder"
ABSOLUTE, UP, NAMELESS = "is an absolute path", "leads out of the folder", "has no name"
PATHS = {
    ABSOLUTE: ("//evil", "C:evil", "a/c:/evil"),
    "has a backslash in its path": ("a\\..\\evil",),
    UP: ("..", "../evil", "a/../../evil", "a/..", "./../evil", "../evil/", "a/../b/"),
    "has control characters": ("a\nb", "a\x7f", "a/\x1b[2J"),
    NAMELESS: ("", ".", "././/"),
    "lies deeper than 32 folders": ("a/" * 33 + "b",),
    "has too long a path": ("a" * 256, ("a" * 99 + "/") * 10 + "b"),
}
DAMAGED = r"the\.archive: damaged archive, .+; delete it and download it again$"


def tar_info(path: str, **fields) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    for name, value in fields.items():
        setattr(info, name, value)
    return info


def tar_bytes(members, form=tarfile.PAX_FORMAT, **headers) -> bytes:
    """A tar of (path or TarInfo, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, **headers) as tar:
        for info, content in members:
            if isinstance(info, str):
                is_folder = info.endswith("/") and info.strip("./")
                kind, size = (tarfile.DIRTYPE, 0) if is_folder else (tarfile.REGTYPE, len(content))
                info = tar_info(info, size=size, type=kind)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_info(path: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = path  # as it is, where the class would correct it
    info.external_attr = (kind | 0o644) << 16 if kind else 0
    return info


def zip_bytes(members, method=zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of (path or ZipInfo, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for info, data in members:
            content.writestr(zip_info(info, 0) if isinstance(info, str) else info, data, method)
    return buffer.getvalue()


def of_format(name: str, files=FILES) -> bytes:
    return (
        COMPRESS[name](tar_bytes(files.items())) if name in COMPRESS else zip_bytes(files.items())
    )


def with_header(content: bytes, place: int, value: bytes) -> bytes:
    """A tar whose first header has other bytes, and the right sum."""
    changed = bytearray(content)
    changed[place : place + len(value)] = value
    changed[148:156] = b" " * 8
    changed[148:155] = b"%06o\0" % sum(changed[:512])
    return bytes(changed)


@pytest.fixture
def run(tmp_path):
    """Unpack; nothing outside the target may change, and errors are one line with the name."""
    (tmp_path / "around").mkdir()
    (tmp_path / "around/evil").write_text("untouched")
    archive = tmp_path / "the.archive"

    def outside() -> dict:
        paths = (path for path in tmp_path.rglob("*") if "target" not in path.parts)
        return {path: path.read_bytes() if path.is_file() else "folder" for path in paths}

    def run(content: bytes, where=lambda path: path, most: int = 1 << 20, **options) -> dict:
        """The files that were written; also of what failed, as ``run.written``."""
        target = tmp_path / "around/target"
        shutil.rmtree(target, ignore_errors=True)
        archive.write_bytes(content)
        before = outside()
        try:
            count = unpack(archive, target, where, most, **options)
        except UserError as error:
            assert str(error).startswith(f"{archive}: ") and str(error).isprintable()
            raise
        finally:
            assert outside() == before
            assert not any(path.is_symlink() for path in target.rglob("*"))
            run.written = {
                path.relative_to(target).as_posix(): path.read_bytes()
                for path in target.rglob("*")
                if path.is_file()
            }
        assert count == len(run.written)
        return run.written

    return run


def refused(run, content: bytes, member: str, reason: str) -> None:
    """Refused for a member that has written nothing, whether it is asked for or left out."""
    for where in (lambda path: path, lambda path: None):
        with pytest.raises(UserError) as raised:
            run(content, where)
        message = str(raised.value)
        assert f": {repr(member)[:90].rstrip(chr(39))}" in message and reason in message, message
        assert message.endswith("; do not use this archive, fetch it from its publisher again")
        assert set(run.written) <= {"before"}


def fails(run, content: bytes, match: str, **options) -> dict:
    """What was written before the error."""
    with pytest.raises(UserError, match=match):
        run(content, **options)
    return run.written


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(run, name):
    assert run(of_format(name)) == FILES
    pictures = {PurePosixPath(f"set/img/{n}.jpg"): PurePosixPath(f"pictures/{n}.jpg") for n in "12"}
    only = {"pictures/1.jpg": FILES["set/img/1.jpg"], "pictures/2.jpg": b""}
    assert run(of_format(name), pictures.get) == only
    # What Macs and tars of a folder have besides; folders are not asked for, nor made.
    files = {"empty/": b"", "./a/1": b"1", "./a//2": b"2", "./._a": b"", "__MACOSX/._a": b"fork"}
    seen: list[str] = []
    assert run(of_format(name, files), lambda path: seen.append(str(path))) == {}
    assert seen == ["a/1", "a/2", "._a", "__MACOSX/._a"]
    three = of_format(name, {"a": bytes(600), "b": bytes(400), "c": b"!"})
    assert run(three, {PurePosixPath(n): PurePosixPath(n) for n in "ac"}.get, 601).keys() == {*"ac"}
    over = fails(run, three, "'c' makes more than 1000 bytes in all; do not use", most=1000)
    assert set(over) == {"a", "b"}
    with pytest.raises(KeyError, match="mine"):  # not taken for damage
        run(of_format(name), lambda path: {}["mine"])


@pytest.mark.parametrize("name", ["tgz", "zip"])
def test_progress_in_bytes_of_the_archive(run, name):
    chance = random.Random(0)
    content = of_format(name, {str(number): chance.randbytes(50_000) for number in range(30)})
    calls: list[tuple[str, int, int]] = []
    run(content, most=1_500_000, progress=lambda *call: calls.append(call))
    assert {(step, total) for step, _, total in calls} == {("Unpacking the.archive", len(content))}
    counts = [done for _, done, _ in calls]
    assert counts == sorted(counts) and counts[0] < len(content) / 4
    assert len(set(counts)) > 5 and counts[-1] == len(content)


def test_kinds_of_tar(run, tmp_path):
    files = {"set/" + "n" * 90 + "/" + "m" * 90: b"long", "set/ä.jpg": b"umlaut"}
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert run(tar_bytes(files.items(), form)) == files
    first = tar_bytes([("a", b"old")], tarfile.USTAR_FORMAT)
    assert run(with_header(first, 257, bytes(8))) == {"a": b"old"}  # without magic
    # As git archive writes them.
    content = tar_bytes([("a/", b""), ("a/b", b"c")], pax_headers={"comment": "0123abc"})
    assert run(content) == {"a/b": b"c"}
    # Modes, owners and times are not taken over.
    run(tar_bytes([(tar_info("a", size=1, mode=0o6777, uid=12345, mtime=0), b"x")]))
    (tmp_path / "plain").touch()
    made, plain = (tmp_path / "around/target/a").stat(), (tmp_path / "plain").stat()
    assert (made.st_mode, made.st_uid) == (plain.st_mode, plain.st_uid) and made.st_mtime > 1e9


@pytest.mark.parametrize("reason", PATHS)
def test_hostile_paths(run, tmp_path, reason):
    before, after = ("before", b""), ("after", b"")
    inside = [f"{tmp_path}/around/evil", f"{tmp_path}/new"] if reason == ABSOLUTE else []
    for path in (*PATHS[reason], *inside):
        # Of a folder tarfile drops the slash at the end.
        shown = path.rstrip("/") if path.endswith("/") and path.strip("./") else path
        refused(run, tar_bytes([before, (path, b"evil"), after]), shown, reason)
        if path != "././/":  # a folder in a zip, which needs no name
            refused(run, zip_bytes([before, (path, b"evil"), after]), path, reason)
        # What `where` answers is checked as well.
        answer = partial(lambda path, _: PurePosixPath(path), path)
        fails(run, zip_bytes([("a", b"")]), f"'a' {reason}", where=answer)


def with_flag(content: bytes) -> bytes:
    """The last member of a zip is said to be encrypted."""
    changed = bytearray(content)
    for magic, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        changed[changed.rindex(magic) + flags] |= 1
    return bytes(changed)


def test_what_is_no_plain_file(run):
    of_tar = {
        tarfile.SYMTYPE: LINK, tarfile.LNKTYPE: "is a hard link", tarfile.CHRTYPE: DEVICE,
        tarfile.BLKTYPE: DEVICE, tarfile.FIFOTYPE: "is a named pipe", b"V": NO_FILE,
    }  # fmt: skip
    for kind, reason in of_tar.items():
        info = tar_info("it", type=kind, linkname="..")
        refused(run, tar_bytes([("before", b""), (info, b""), ("it/evil", b"")]), "it", reason)
    of_zip = {
        stat.S_IFLNK: LINK, stat.S_IFCHR: DEVICE, stat.S_IFBLK: DEVICE,
        stat.S_IFIFO: "is a named pipe", stat.S_IFSOCK: NO_FILE, stat.S_IFDIR: NO_FILE,
    }  # fmt: skip
    for kind, reason in of_zip.items():
        members = [("before", b""), (zip_info("it", kind), b".."), ("it/evil", b"")]
        refused(run, zip_bytes(members), "it", reason)
    for headers in (
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9999999"},
        {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9999999"},
    ):
        hole = tar_info("hole", size=512, pax_headers=headers)
        content = tar_bytes([(hole, b"1\n0\n1\n".ljust(512, b"\0"))])
        refused(run, content, "hole", "is a sparse file")
    old = with_header(tar_bytes([("hole", b"x")], tarfile.GNU_FORMAT), 156, tarfile.GNUTYPE_SPARSE)
    refused(run, old, "hole", "is a sparse file")
    # In a tar by way of a header that counts its bytes.
    nul = tar_bytes([(tar_info("a", size=4, pax_headers={"path": "a\0b"}), b"evil")])
    refused(run, nul, "a\0b", "has control characters")
    refused(run, zip_bytes([("a\0b", b"evil")]), "a\0b", "has control characters")
    locked = with_flag(zip_bytes([("before", b""), ("secret", b"text")]))
    refused(run, locked, "secret", "is encrypted")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(run, zip_bytes([("a", b"x")], method), "a", f"is compressed by method {method}")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes])
def test_members_that_are_too_many_or_for_one_path(run, monkeypatch, pack):
    for first, second in (("a", "./a"), ("a", "a/b"), ("a", "a/b/c"), ("a/b/c", "a")):
        content = pack([(first, b"1"), (second, b"2")])
        assert fails(run, content, f"'{second}' has the path of another") == {first: b"1"}
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert len(run(pack((f"{n}", b"") for n in range(3)))) == 3
    four = pack((f"{n}", b"") for n in range(4))
    assert "3" not in fails(run, four, "'3' is one of more than 3 members; do not use")


def test_bombs_in_a_compressed_tar(run):
    zeros = tar_bytes([("zeros", bytes(60_000_000))], tarfile.USTAR_FORMAT)
    announced = "'zeros' of 60000000 bytes is more than it can hold"
    for name in ("tar.bz2", "tar.xz", "tgz"):
        content = (pack := COMPRESS[name])(zeros)
        assert len(content) < 290_000
        # Left out it would take time, too.
        assert fails(run, content, announced, where=lambda path: None, most=1000) == {}
    fails(run, content, "'zeros' makes more than 59999999 bytes in all", most=59_999_999)
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        header = tar_info("h", type=kind, size=60_000_000).tobuf(tarfile.USTAR_FORMAT)
        fails(run, pack(header + zeros[512:]), "a header of the tar is longer than it can be")
    fails(run, pack(bytes(60_000_000)), "damaged archive, the tar ends long before the file")
    header = tar_info("h", type=tarfile.XHDTYPE, size=0).tobuf(tarfile.USTAR_FORMAT)
    assert fails(run, pack(header * 2000), DAMAGED) == {}


def test_tars_with_impossible_sizes(run):
    whole = tar_bytes([("a", b"x"), ("b", b"")], tarfile.GNU_FORMAT)
    for size in (-512, -1, 1 << 62, (1 << 88) - 1):
        binary = size & ((1 << 96) - 1) if size < 0 else (1 << 95) | size
        content = with_header(whole, 124, binary.to_bytes(12, "big"))
        assert fails(run, content, DAMAGED, most=1 << 90) == {}
    for key in ("size", "GNU.sparse.realsize"):
        for size in ("-1024", "5000", "99999999999"):
            headers = {"pax_headers": {key: size}}
            members = [(tar_info("a", size=4), b"text"), (tar_info("b", size=6000), b"b" * 6000)]
            one = [(tar_info("a", size=4, **headers), b"text"), members[1]]
            for content in (tar_bytes(members, **headers), tar_bytes(one)):
                fails(run, content, DAMAGED, most=1 << 90)


def test_zips_that_announce_other_sizes_or_share_bytes(run):
    less = bytearray(zip_bytes([("a", bytes(5_000_000))]))
    for magic, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", less, less.rindex(magic) + place, 10)
    assert sum(map(len, fails(run, bytes(less), DAMAGED, most=1000).values())) <= 10
    more = bytearray(zip_bytes([("a", b"text")], zipfile.ZIP_STORED))
    struct.pack_into("<I", more, more.rindex(b"PK\1\2") + 24, 2_000_000_000)
    fails(run, bytes(more), "'a' makes more than 1000 bytes", most=1000)
    fails(run, bytes(more), DAMAGED, most=1 << 40)
    inner = zip_bytes([("b", b"inner")], zipfile.ZIP_STORED)
    for data, nested in ((bytes(1_000_000), False), (inner, True)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED if nested else 8) as content:
            content.writestr("a", data)
            (first,) = content.infolist()
            second = zipfile.ZipInfo("b")
            copied = zipfile.ZipFile(io.BytesIO(inner)).infolist()[0] if nested else first
            for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
                setattr(second, name, getattr(copied, name))
            second.header_offset += 31 if nested else 0
            content.filelist.append(second)
        # From Python 3.12 on zipfile knows it, too.
        shared = r"'b' shares bytes with another|Overlapped .*'a'"
        assert set(fails(run, buffer.getvalue(), shared, most=1 << 40)) <= {"a"}


def test_no_archive_at_all(run):
    for content in (
        *(b"", b"x", b"not an archive\n" * 99, b"PK\3\4", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0"),
        *(gzip.compress(b"text", mtime=0), gzip.compress(b"", mtime=0), bz2.compress(b"")),
        *(b"\0" * 511, b"\0" * 512, b"<!DOCTYPE html>" * 100),
    ):
        fails(run, content, DAMAGED)


@pytest.mark.parametrize("name", FORMATS)
def test_cut_anywhere_it_is_refused_or_complete(run, name):
    content = of_format(name)
    near = [e + d for e in range(0, len(content), 512) for d in (-1, 0, 1)] if name == "tar" else []
    several = range(0, len(content), max(1, len(content) // 50))
    complete = 0
    for end in sorted({end for end in [*near, *several] if 0 <= end < len(content)}):
        try:
            assert run(content[:end]) == FILES
            complete += 1
        except UserError as error:
            assert ": damaged archive, " in str(error)
    # Of a plain tar what follows its end may be missing: two blocks of zeros.
    assert (complete > 0) == (name == "tar")
    if name in COMPRESS:
        whole = tar_bytes(FILES.items(), tarfile.USTAR_FORMAT)
        end = 3 * 512 + 512 + 5 * 512  # three headers, 4 bytes and 2304 bytes in blocks
        for kept in (0, 512):
            fails(run, COMPRESS[name](whole[: end + kept]), "damaged archive, .*(missing|end)")
        assert run(COMPRESS[name](whole[: end + 1024])) == FILES


@pytest.mark.parametrize("name", ["tar", "tgz", "zip"])
def test_flipped_bits(run, name):
    whole, refusals = of_format(name), 0
    # Every byte of the first and last headers, and some between them.
    spots = {*range(0, len(whole), 97), *range(512), *range(len(whole) - 100, len(whole))}
    for spot in sorted(spots & {*range(len(whole))})[::7]:
        content = bytearray(whole)
        content[spot] ^= 1 << spot % 8
        try:
            assert run(bytes(content)) == FILES or name != "tgz"  # which has a sum of all
        except UserError:
            refusals += 1
    assert refusals > 4
    content = bytearray(whole)
    content[{"zip": whole.find(b"set/img/1.jpg") + 20}.get(name, len(whole) - 8)] ^= 1
    if name != "tar":
        fails(run, bytes(content), DAMAGED)


def test_errors_of_the_system(tmp_path):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    archive, target = tmp_path / "a.tar", tmp_path / "target"
    archive.write_bytes(of_format("tar"))
    with pytest.raises(UserError, match="target: the disk is full; make room or choose another"):
        unpack(archive, target, full, 99)
    with pytest.raises(FileNotFoundError):
        unpack(tmp_path / "none.tar", target, full, 99)
    with pytest.raises(FileExistsError):
        unpack(archive, archive, full, 99)
