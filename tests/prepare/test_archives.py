"""Archives that are as they should be, hostile ones and damaged ones."""

import bz2
import errno
import gzip
import io
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
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
LINK, NO_FILE, UP = "symbolic link", "neither a file nor a folder", "leads out of the folder"
# path of a member, why it is refused
PATHS = [
    *[(path, "is an absolute path") for path in ("//evil", "/evil", "a/c:/evil")],
    *[(path, UP) for path in ("..", "a/../../evil", "a/..", "../evil/")],
    ("a\\..\\evil", "has a backslash in its path"),
    *[(path, "has control characters") for path in ("a\nb", "a/\x1b[2J", "a\x7f")],
    *[(path, "has no name") for path in ("", ".")],
    ("a/" * 33 + "b", "lies deeper than 32 folders"),
    *[(path, "has too long a path") for path in ("a" * 256, ("a" * 99 + "/") * 10 + "b")],
]
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


def zip_info(path: str, kind: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = path  # as it is, where the class would correct it
    info.external_attr = (kind | 0o644) << 16 if kind else 0
    return info


def zip_bytes(members, method=zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of (path or ZipInfo, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for info, data in members:
            content.writestr(zip_info(info) if isinstance(info, str) else info, data, method)
    return buffer.getvalue()


def of_format(name: str, files=FILES) -> bytes:
    packed = zip_bytes if name == "zip" else lambda members: COMPRESS[name](tar_bytes(members))
    return packed(files.items())


@pytest.fixture
def run(tmp_path):
    """Unpack; nothing outside the target may change, and errors are one line with the name."""
    (tmp_path / "around").mkdir()
    (tmp_path / "around/evil").write_text("untouched")
    archive = tmp_path / "the.archive"

    def outside() -> dict:
        paths = (path for path in tmp_path.rglob("*") if "target" not in path.parts)
        return {path: path.read_bytes() if path.is_file() else "folder" for path in paths}

    def run(content: bytes, where=lambda path: path, most: int = 1 << 20) -> dict:
        """The files that were written; also of what failed, as ``run.written``."""
        target = tmp_path / "around/target"
        shutil.rmtree(target, ignore_errors=True)
        archive.write_bytes(content)
        before = outside()
        try:
            count = unpack(archive, target, where, most)
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


def refused(run, content: bytes, reason: str) -> None:
    """Refused for a member that has written nothing, whether it is asked for or left out."""
    for where in (lambda path: path, lambda path: None):
        with pytest.raises(UserError) as raised:
            run(content, where)
        message = str(raised.value)
        assert reason in message, message
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
    picture = {PurePosixPath("set/img/1.jpg"): PurePosixPath("pictures/1.jpg")}
    assert run(of_format(name), picture.get) == {"pictures/1.jpg": FILES["set/img/1.jpg"]}
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


@pytest.mark.parametrize(("path", "reason"), PATHS)
def test_hostile_paths(run, path, reason):
    for pack in (tar_bytes, zip_bytes):
        refused(run, pack([("before", b""), (path, b"evil"), ("after", b"")]), reason)
    # What `where` answers is checked as well.
    fails(run, zip_bytes([("a", b"")]), f"'a' {reason}", where=lambda _: PurePosixPath(path))


def with_flag(content: bytes) -> bytes:
    """The last member of a zip is said to be encrypted."""
    changed = bytearray(content)
    for magic, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        changed[changed.rindex(magic) + flags] |= 1
    return bytes(changed)


def test_what_is_no_plain_file(run):
    for kind, reason in (
        (tarfile.SYMTYPE, LINK),
        (tarfile.LNKTYPE, "is a hard link"),
        (tarfile.BLKTYPE, "is a device"),
        (b"V", NO_FILE),
    ):
        info = tar_info("it", type=kind, linkname="..")
        refused(run, tar_bytes([("before", b""), (info, b""), ("it/evil", b"")]), reason)
    for kind, reason in ((stat.S_IFLNK, LINK), (stat.S_IFSOCK, NO_FILE), (stat.S_IFDIR, NO_FILE)):
        members = [("before", b""), (zip_info("it", kind), b".."), ("it/evil", b"")]
        refused(run, zip_bytes(members), reason)
    headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9999999"}
    hole = tar_info("hole", size=512, pax_headers=headers)
    refused(run, tar_bytes([(hole, b"1\n0\n1\n".ljust(512, b"\0"))]), "is a sparse file")
    refused(run, zip_bytes([("a\0b", b"evil")]), r"'a\x00b' has control characters")
    locked = with_flag(zip_bytes([("before", b""), ("secret", b"text")]))
    refused(run, locked, "is encrypted")
    refused(run, zip_bytes([("a", b"x")], zipfile.ZIP_LZMA), "is compressed by method 14")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes])
def test_members_that_are_too_many_or_for_one_path(run, monkeypatch, pack):
    for first, second in (("a", "./a"), ("a", "a/b"), ("a/b/c", "a")):
        content = pack([(first, b"1"), (second, b"2")])
        assert fails(run, content, f"'{second}' has the path of another") == {first: b"1"}
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert len(run(pack((f"{n}", b"") for n in range(3)))) == 3
    four = pack((f"{n}", b"") for n in range(4))
    assert "3" not in fails(run, four, "'3' is one of more than 3 members; do not use")


@pytest.mark.parametrize("name", ["tgz", "tar.bz2", "tar.xz"])
def test_bombs_in_a_compressed_tar(run, name):
    zeros = tar_bytes([("zeros", bytes(60_000_000))], tarfile.USTAR_FORMAT)
    pack = COMPRESS[name]
    content = pack(zeros)
    assert len(content) < 290_000
    # Left out it would take time, too.
    announced = "'zeros' of 60000000 bytes is more than it can hold"
    assert fails(run, content, announced, where=lambda path: None, most=1000) == {}
    header = tar_info("h", type=tarfile.XHDTYPE, size=60_000_000).tobuf(tarfile.USTAR_FORMAT)
    fails(run, pack(header + zeros[512:]), "a header of the tar is longer than it can be")
    fails(run, pack(bytes(60_000_000)), "damaged archive, the tar ends long before the file")


def test_tars_with_impossible_sizes(run):
    for key in ("size", "GNU.sparse.realsize"):
        for size in ("-1024", "99999999999"):
            one = tar_info("a", size=4, pax_headers={key: size})
            content = tar_bytes([(one, b"text"), ("b", b"b" * 6000)])
            fails(run, content, DAMAGED, most=1 << 90)


def test_zips_that_announce_other_sizes_or_share_bytes(run):
    less = bytearray(zip_bytes([("a", bytes(5_000_000))]))
    for magic, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", less, less.rindex(magic) + place, 10)
    assert sum(map(len, fails(run, bytes(less), DAMAGED, most=1000).values())) <= 10
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("a", bytes(1_000_000))
        (first,) = content.infolist()
        second = zipfile.ZipInfo("b")
        for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
            setattr(second, name, getattr(first, name))
        content.filelist.append(second)
    # From Python 3.12 on zipfile knows it, too.
    shared = r"'b' shares bytes with another|Overlapped .*'a'"
    assert set(fails(run, buffer.getvalue(), shared, most=1 << 40)) <= {"a"}


def test_no_archive_at_all(run):
    for content in (b"", b"not an archive\n" * 99, b"PK\3\4", b"\x1f\x8b", gzip.compress(b"text")):
        fails(run, content, DAMAGED)


@pytest.mark.parametrize("name", FORMATS)
def test_cut_or_flipped_anywhere_it_is_refused_or_complete(run, name):
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
    if name != "tar":  # which has no sum of its contents
        place = content.find(b"set/img/1.jpg") + 20 if name == "zip" else len(content) - 8
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        fails(run, flipped, DAMAGED)


def test_a_full_disk(tmp_path):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.tar").write_bytes(of_format("tar"))
    with pytest.raises(UserError, match="target: the disk is full; make room or choose another"):
        unpack(tmp_path / "a.tar", tmp_path / "target", full, 99)
