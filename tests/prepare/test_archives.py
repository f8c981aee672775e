"""Archives that are as they should be, hostile ones and damaged ones."""

import bz2
import errno
import gzip
import io
import lzma
import os
import random
import shutil
import stat
import struct
import tarfile
import time
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from fcn_plugin.errors import UserError
from fcn_plugin.prepare import archives
from fcn_plugin.prepare.archives import NO_NAME, unpack

FILES = {"set/list.txt": b"1\n2\n", "set/img/1.jpg": bytes(range(256)) * 9, "set/img/2.jpg": b""}
PLENTY = 1 << 20  # bytes
FORMATS = {
    "tar": bytes,
    "tgz": gzip.compress,
    "tar.bz2": lambda content: bz2.compress(content, 1),  # in small blocks
    "tar.xz": lzma.compress,
    "zip": None,
}
LINK = "is a symbolic link"
TAR_KINDS = {
    tarfile.SYMTYPE: LINK,
    tarfile.LNKTYPE: "is a hard link",
    tarfile.CHRTYPE: "is a device",
    tarfile.BLKTYPE: "is a device",
    tarfile.FIFOTYPE: "is a named pipe",
    b"V": "is neither a file nor a folder",
}
ZIP_KINDS = {
    stat.S_IFLNK: LINK,
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
    stat.S_IFIFO: "is a named pipe",
    stat.S_IFSOCK: "is neither a file nor a folder",
    stat.S_IFDIR: "is neither a file nor a folder",
}
PATHS = {
    "//evil": "is an absolute path",
    "C:evil": "is an absolute path",
    "a/c:/evil": "is an absolute path",
    "a\\..\\evil": "has a backslash in its path",
    "..": "leads out of the folder",
    "../evil": "leads out of the folder",
    "a/../../evil": "leads out of the folder",
    "a/..": "leads out of the folder",
    "./../evil": "leads out of the folder",
    "a\nb": "has control characters",
    "a\x7f": "has control characters",
    "a/\x1b[2J": "has control characters",
    "": "has no name",
    ".": "has no name",
    "././/": "has no name",
    "a/" * 33 + "b": "lies deeper than 32 folders",
    "a" * 256: "has too long a path",
    ("a" * 99 + "/") * 10 + "b": "has too long a path",
}


# --- building -----------------------------------------------------------------------------------


def tar_bytes(members, form=tarfile.PAX_FORMAT) -> bytes:
    """A tar of (path or TarInfo, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_bytes(members, method=zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of (path or ZipInfo, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for info, data in members:
            if isinstance(info, str):
                path, info = info, zipfile.ZipInfo("x")
                info.filename = path  # as it is, where the class would correct it
            content.writestr(info, data, method)
    return buffer.getvalue()


def zip_info(path: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path)
    info.external_attr = (kind | 0o644) << 16
    return info


def tar_info(path: str, **fields) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    for name, value in fields.items():
        setattr(info, name, value)
    return info


def of_format(name: str, files=FILES) -> bytes:
    compress = FORMATS[name]
    return compress(tar_bytes(files.items())) if compress else zip_bytes(files.items())


# --- running ------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path):
    """The folder to unpack to, with neighbours that nothing may happen to."""
    folder = tmp_path / "around" / "target"
    folder.parent.mkdir()
    (folder.parent / "evil").write_text("untouched")
    return folder


def snapshot(folder: Path, target: Path) -> dict:
    """All that is below ``folder``, leaving out what is below ``target``."""
    return {
        path: path.read_bytes() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if target not in (path, *path.parents) and path not in target.parents
    }


def as_it_is(path: PurePosixPath) -> PurePosixPath:
    return path


def run(content: bytes, target: Path, place=as_it_is, max_bytes: int = PLENTY) -> int:
    """Unpack; nothing outside the target may change, and errors are one line with the name."""
    around = next(parent for parent in target.parents if parent.name == "around")
    archive = around / "the.archive"
    archive.write_bytes(content)
    before = snapshot(around.parent, target)
    try:
        return unpack(archive, target, place, max_bytes)
    except UserError as error:
        assert str(error).startswith(f"{archive}: ")
        assert str(error).isprintable()
        raise
    finally:
        assert snapshot(around.parent, target) == before
        assert not any(path.is_symlink() for path in target.rglob("*"))


def written(target: Path) -> dict[str, bytes]:
    return {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    }


def refused(content: bytes, target: Path, member: str, reason: str) -> None:
    """Refused for a member that has written nothing, whether it is asked for or left out."""
    shown = repr(member)[:90].rstrip("'")  # a long one is shortened
    for number, where in enumerate((as_it_is, lambda path: None)):
        shutil.rmtree(target, ignore_errors=True)
        with pytest.raises(UserError) as raised:
            run(content, target / f"{number}", where)
        message = str(raised.value)
        assert f": {shown}" in message and reason in message
        assert message.endswith("; do not use this archive, fetch it from its publisher again")
        assert set(written(target / f"{number}")) <= {"before"}


# --- as it should be ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_under_any_name(place, name):
    assert run(of_format(name), place) == 3
    assert written(place) == FILES


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_kinds_of_tar(place, form):
    files = {"set/" + "n" * 90 + "/" + "m" * 90: b"long", "set/ä.jpg": b"umlaut"}
    assert run(tar_bytes(files.items(), form), place) == 2
    assert written(place) == files


def test_the_first_tar_without_magic(place):
    content = bytearray(tar_bytes([("a", b"old")], tarfile.USTAR_FORMAT))
    content[257:265] = bytes(8)
    content[148:156] = b" " * 8
    content[148:155] = b"%06o\0" % sum(content[:512])
    assert run(bytes(content), place) == 1


def test_headers_for_all_members_as_git_archive_writes_them(place):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "0123abc"}) as tar:
        tar.addfile(tar_info("a/", type=tarfile.DIRTYPE))
        tar.addfile(tar_info("a/b", size=1), io.BytesIO(b"c"))
    assert run(buffer.getvalue(), place) == 1
    assert written(place) == {"a/b": b"c"}


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_in_it(place, name):
    assert run(of_format(name, {}), place) == 0
    assert written(place) == {}


def test_place_renames_and_leaves_out(place):
    def where(path: PurePosixPath) -> PurePosixPath | None:
        return PurePosixPath("pictures", path.name) if path.suffix == ".jpg" else None

    for name in FORMATS:
        target = place / name
        archive = place.parents[1] / "archive"
        archive.write_bytes(of_format(name))
        assert unpack(archive, target, where, PLENTY) == 2
        expected = {"pictures/1.jpg": FILES["set/img/1.jpg"], "pictures/2.jpg": b""}
        assert written(target) == expected


@pytest.mark.parametrize("name", FORMATS)
def test_what_macs_and_tars_of_a_folder_have_besides(place, name):
    files = {"./a/1": b"1", "./a//2": b"2", "./._a": b"", "__MACOSX/._a": b"resource"}
    seen = []
    assert run(of_format(name, files), place, lambda path: seen.append(str(path))) == 0
    assert seen == ["a/1", "a/2", "._a", "__MACOSX/._a"]


def test_folders_are_not_asked_for_and_only_made_for_files(place):
    contents = (
        tar_bytes(
            [
                (tar_info("./", type=tarfile.DIRTYPE), b""),
                (tar_info("empty", type=tarfile.DIRTYPE), b""),
                ("a/b", b"c"),
            ]
        ),
        zip_bytes([("empty/", b""), (zip_info("a/", stat.S_IFDIR), b""), ("a/b", b"c")]),
    )
    for number, content in enumerate(contents):
        target = place.with_name(str(number))
        seen = []
        assert run(content, target, lambda path, seen=seen: seen.append(path) or path) == 1
        assert seen == [PurePosixPath("a/b")]
        assert [path.name for path in target.iterdir()] == ["a"]


def test_modes_and_owners_are_not_taken_over(place):
    special = tar_info("a", size=1, mode=0o6777, uid=12345, mtime=0)
    run(tar_bytes([(special, b"x")]), place)
    (place.parent / "plain").touch()
    made, plain = (place / "a").stat(), (place.parent / "plain").stat()
    assert (made.st_mode, made.st_uid) == (plain.st_mode, plain.st_uid)
    assert made.st_mtime > 1e9


@pytest.mark.parametrize("name", FORMATS)
def test_progress_in_bytes_of_the_archive(place, tmp_path, monkeypatch, name):
    chance = random.Random(0)
    files = {str(number): chance.randbytes(50_000) for number in range(30)}
    archive = tmp_path / "archive"
    archive.write_bytes(of_format(name, files))
    size = archive.stat().st_size
    seen = []
    monkeypatch.setattr(archives, "PAUSE", 0)
    unpack(archive, place, as_it_is, 30 * 50_000, lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {size} and seen[-1] == (size, size)
    counts = [done for done, _ in seen]
    assert counts == sorted(counts) and counts[0] < size / 4 and len(set(counts)) > 5


def test_progress_is_not_told_too_often(place, tmp_path):
    archive = tmp_path / "archive"
    archive.write_bytes(tar_bytes((str(number), b"") for number in range(500)))
    seen = []
    begin = time.monotonic()
    unpack(archive, place, as_it_is, 0, lambda done, total: seen.append(done))
    assert 1 <= len(seen) <= 2 + (time.monotonic() - begin) / archives.PAUSE


# --- hostile ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_hostile_paths(place, path):
    inside = ("before", b"")
    refused(tar_bytes([inside, (path, b"evil"), ("after", b"")]), place, path, PATHS[path])
    if not path.endswith("/"):  # else it is a folder, which needs no name
        refused(zip_bytes([inside, (path, b"evil"), ("after", b"")]), place, path, PATHS[path])


def test_absolute_paths_to_where_one_may_write(place):
    for path in (f"{place.parent}/evil", f"{place.parent}/new", f"{place}/new"):
        for content in (tar_bytes([(path, b"changed")]), zip_bytes([(path, b"changed")])):
            with pytest.raises(UserError, match="is an absolute path; do not use this archive"):
                run(content, place)
            assert written(place) == {}


@pytest.mark.parametrize("path", ["../evil/", "/", "/evil/", "a/../b/"])
def test_hostile_folders(place, path):
    info = tar_info(path, type=tarfile.DIRTYPE)
    reason = "is an absolute path" if path.startswith("/") else "leads out of the folder"
    refused(zip_bytes([(path, b"")]), place, path, reason)
    # Of a folder tarfile drops the slash at the end.
    refused(tar_bytes([(info, b"")]), place, path.rstrip("/"), NO_NAME if path == "/" else reason)


def test_a_name_with_nul(place):
    refused(zip_bytes([("a\0b", b"evil")]), place, "a\0b", "has control characters")
    # In a tar by way of a header that counts its bytes.
    content = tar_bytes([(tar_info("a", size=4, pax_headers={"path": "a\0b"}), b"evil")])
    refused(content, place, "a\0b", "has control characters")


@pytest.mark.parametrize("kind", TAR_KINDS)
def test_tars_of_what_is_no_file(place, kind):
    info = tar_info("it", type=kind, linkname="../evil")
    refused(tar_bytes([("before", b""), (info, b"")]), place, "it", TAR_KINDS[kind])


@pytest.mark.parametrize("kind", ZIP_KINDS)
def test_zips_of_what_is_no_file(place, kind):
    content = zip_bytes([("before", b""), (zip_info("it", kind), b"../evil")])
    refused(content, place, "it", ZIP_KINDS[kind])


def test_writing_through_a_link_of_the_archive(place):
    link = tar_info("it", type=tarfile.SYMTYPE, linkname="..")
    refused(tar_bytes([(link, b""), ("it/evil", b"changed")]), place, "it", LINK)
    content = zip_bytes([(zip_info("it", stat.S_IFLNK), b".."), ("it/evil", b"changed")])
    refused(content, place, "it", LINK)


@pytest.mark.parametrize("headers", [
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9999999"},
    {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9999999"},
])  # fmt: skip
def test_sparse_files(place, headers):
    info = tar_info("hole", size=512, pax_headers=headers)
    refused(tar_bytes([(info, b"1\n0\n1\n".ljust(512, b"\0"))]), place, "hole", "is a sparse file")


def test_old_sparse_files(place):
    block = bytearray(tar_bytes([("hole", b"x")], tarfile.GNU_FORMAT))
    block[156:157] = tarfile.GNUTYPE_SPARSE
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block[:512])
    refused(bytes(block), place, "hole", "is a sparse file")


@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_for_one_path(place, pack):
    cases = {
        "twice": ([("a", b"1"), ("./a", b"2")], "is the second file for a"),
        "below": ([("a", b"1"), ("a/b", b"2")], "where another member has a folder"),
        "above": ([("a/b/c", b"1"), ("a", b"2")], "where another member has a folder"),
    }
    for name, (members, reason) in cases.items():
        target = place.with_name(name)
        with pytest.raises(UserError, match=f"'{members[1][0]}' .*{reason}.*; do not use"):
            run(pack(members), target)
        assert written(target) == {members[0][0]: b"1"}
    with pytest.raises(UserError, match="'c/d' is the second file for same"):
        run(pack([("a", b"1"), ("c/d", b"2")]), place, lambda path: PurePosixPath("same"))


@pytest.mark.parametrize("goal", ["../evil", "/evil", "a/../../evil", "", "a\\b"])
def test_what_place_answers_is_checked_as_well(place, goal):
    with pytest.raises(UserError, match=r"'a' (leads|is an abs|has no name|has a backslash)"):
        run(tar_bytes([("a", b"changed")]), place, lambda path: PurePosixPath(goal))
    assert written(place) == {}


def test_an_error_of_place_is_not_taken_for_damage(place):
    def where(path):
        raise KeyError("mine")

    for name in FORMATS:
        with pytest.raises(KeyError, match="mine"):
            run(of_format(name), place, where)


def test_links_that_were_in_the_target_before(place):
    place.mkdir()
    (place / "out").symlink_to("..")
    (place / "evil").symlink_to("../evil")
    (place / "dangling").symlink_to("../new")
    for path in ("out/evil", "evil", "dangling"):
        archive = place.parent.parent / "the.archive"
        archive.write_bytes(tar_bytes([(path, b"changed")]))
        with pytest.raises(FileExistsError):
            unpack(archive, place, as_it_is, PLENTY)
    assert (place.parent / "evil").read_text() == "untouched"
    assert not (place.parent / "new").exists()


def test_encrypted(place):
    content = bytearray(zip_bytes([("before", b""), ("secret", b"text")]))
    for magic, place_of_flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.rindex(magic) + place_of_flags] |= 1
    refused(bytes(content), place, "secret", "is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_by_other_methods(place, method):
    refused(zip_bytes([("a", b"x")], method), place, "a", f"is compressed by method {method}")


@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes])
def test_too_many_members(place, monkeypatch, pack):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert run(pack((f"{n}", b"") for n in range(3)), place.with_name("few")) == 3
    with pytest.raises(UserError, match="'3' is one of more than 3 members; do not use"):
        run(pack((f"{n}", b"") for n in range(4)), place)
    assert "3" not in written(place)


@pytest.mark.parametrize("name", FORMATS)
def test_more_bytes_than_asked_for(place, name):
    content = of_format(name, {"a": bytes(600), "b": bytes(400), "c": b"!"})
    with pytest.raises(UserError, match="'c' makes more than 1000 bytes in all; do not use"):
        run(content, place, max_bytes=1000)
    assert set(written(place)) == {"a", "b"}
    only = {"a", "c"}
    where = lambda path: path if str(path) in only else None  # noqa: E731
    assert run(content, place.with_name("less"), where, max_bytes=601) == 2


# --- bombs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zeros() -> bytes:
    """A tar of one file of 200 MB."""
    return tar_bytes([("zeros", bytes(200_000_000))], tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("compress", [
    lambda content: gzip.compress(content, 1), bz2.compress,
    lambda content: lzma.compress(content, preset=0),
], ids=["gzip", "bzip2", "xz"])  # fmt: skip
def test_bombs_in_a_tar(place, zeros, compress):
    content = compress(zeros)
    assert len(content) < 2_000_000
    begin = time.monotonic()
    for where in (as_it_is, lambda path: None):  # left out it would take time, too
        with pytest.raises(UserError, match="'zeros' of 200000000 bytes is more than it can hold"):
            run(content, place, where, max_bytes=1_000_000)
    with pytest.raises(UserError, match="'zeros' makes more than 199999999 bytes in all"):
        run(content, place, max_bytes=199_999_999)
    assert time.monotonic() - begin < 5
    assert written(place) == {}


def test_a_bomb_that_is_no_tar(place):
    content = gzip.compress(bytes(200_000_000), 1)
    begin = time.monotonic()
    with pytest.raises(UserError, match="damaged archive, the tar ends long before the file"):
        run(content, place, max_bytes=1_000_000)
    assert time.monotonic() - begin < 5
    assert written(place) == {}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_of_headers(place, kind, zeros):
    header = tar_info("h", type=kind, size=200_000_000).tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(UserError, match="damaged archive, a header of the tar is longer than"):
        run(gzip.compress(header + zeros[512:], 1), place)


def test_a_bomb_of_headers_of_headers(place):
    header = tar_info("h", type=tarfile.XHDTYPE, size=0).tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(UserError, match="damaged archive, "):
        run(gzip.compress(header * 2000), place)


@pytest.mark.parametrize("size", [-512, -1, 1 << 62, (1 << 88) - 1])
def test_a_tar_with_impossible_sizes(place, size):
    content = bytearray(tar_bytes([("a", b"x"), ("b", b"")], tarfile.GNU_FORMAT))
    content[124:136] = (
        (size & ((1 << 96) - 1)).to_bytes(12, "big")
        if size < 0
        else ((1 << 95) | size).to_bytes(12, "big")
    )
    content[148:156] = b" " * 8
    content[148:155] = b"%06o\0" % sum(content[:512])
    with pytest.raises(UserError, match=r"damaged archive, .*; delete it and download it again"):
        run(bytes(content), place, max_bytes=1 << 90)
    assert written(place) == {}


@pytest.mark.parametrize("key", ["size", "GNU.sparse.realsize"])
@pytest.mark.parametrize("size", ["-1024", "5000", "99999999999"])
@pytest.mark.parametrize("for_all", [False, True])
def test_a_pax_header_with_an_impossible_size(place, key, size, for_all):
    headers = {"pax_headers": {key: size}}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **(headers if for_all else {})) as tar:
        tar.addfile(tar_info("a", size=4, **({} if for_all else headers)), io.BytesIO(b"text"))
        tar.addfile(tar_info("b", size=6000), io.BytesIO(b"b" * 6000))
    with pytest.raises(UserError, match=r"damaged archive, .*; delete it and download it again"):
        run(buffer.getvalue(), place, max_bytes=1 << 90)


def test_a_zip_that_announces_less_than_it_holds(place):
    content = bytearray(zip_bytes([("a", bytes(5_000_000))]))
    for magic, place_of_size in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.rindex(magic) + place_of_size, 10)
    with pytest.raises(UserError, match=r"damaged archive, .*; delete it and download it again"):
        run(bytes(content), place, max_bytes=1000)
    assert sum(map(len, written(place).values())) <= 10


def test_a_zip_that_announces_more_than_it_holds(place):
    content = bytearray(zip_bytes([("a", b"text")], zipfile.ZIP_STORED))
    struct.pack_into("<I", content, content.rindex(b"PK\1\2") + 24, 2_000_000_000)
    with pytest.raises(UserError, match="'a' makes more than 1000 bytes"):
        run(bytes(content), place, max_bytes=1000)
    with pytest.raises(UserError, match=r"damaged archive, .*; delete it and download it again"):
        run(bytes(content), place, max_bytes=1 << 40)


def test_a_zip_whose_members_share_their_bytes(place):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("a", bytes(1_000_000))
        (first,) = content.infolist()
        for number in range(50):
            again = zipfile.ZipInfo(f"b{number}")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
                setattr(again, name, getattr(first, name))
            content.filelist.append(again)
    with pytest.raises(UserError, match="'b0' shares bytes with another member; do not use"):
        run(buffer.getvalue(), place, max_bytes=1 << 40)
    assert set(written(place)) <= {"a"}


def test_a_zip_within_a_member_of_a_zip(place):
    """Nested: the second begins in the bytes of the first."""
    inner = zip_bytes([("b", b"inner")], zipfile.ZIP_STORED)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        content.writestr("a", inner)
        (first,) = content.infolist()
        with zipfile.ZipFile(io.BytesIO(inner)) as within:
            (second,) = within.infolist()
        second.header_offset = 30 + len(first.filename)
        content.filelist.append(second)
    with pytest.raises(UserError, match=r"'b' shares bytes with|Overlapped .*'a'"):
        run(buffer.getvalue(), place)  # from Python 3.12 on zipfile knows it, too


# --- damaged ------------------------------------------------------------------------------------


NO_ARCHIVES = [
    *(b"", b"x", b"not an archive\n" * 99, b"PK\3\4", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0"),
    *(gzip.compress(b"text", mtime=0), gzip.compress(b"", mtime=0), bz2.compress(b"")),
    *(b"\0" * 511, b"\0" * 512, b"<!DOCTYPE html>" * 100),
]
REMEDY = "delete it and download it again$"


@pytest.mark.parametrize("content", NO_ARCHIVES, ids=range(len(NO_ARCHIVES)))
def test_no_archive_at_all(place, content):
    with pytest.raises(UserError, match=rf"the.archive: damaged archive, .+; {REMEDY}"):
        run(content, place)


@pytest.mark.parametrize("name", FORMATS)
def test_cut_anywhere_it_is_refused_or_complete(place, name):
    content = of_format(name)
    complete = 0
    for number, end in enumerate(cuts(name, content)):
        target = place / f"{number}"
        shutil.rmtree(place, ignore_errors=True)
        try:
            run(content[:end], target)
        except UserError as error:
            assert ": damaged archive, " in str(error)
            assert str(error).endswith("; delete it and download it again")
        else:
            assert written(target) == FILES
            complete += 1
    # Of a plain tar what follows the end of the archive may be missing.
    if name == "tar":
        assert complete > 0
    else:
        assert complete == 0


def cuts(name: str, content: bytes) -> list[int]:
    near = [e + d for e in range(0, len(content), 512) for d in (-1, 0, 1)] if name == "tar" else []
    several = range(0, len(content), max(1, len(content) // 100))
    return sorted({end for end in [*near, *several] if 0 <= end < len(content)})


def test_a_tar_without_its_end(place):
    content = tar_bytes(FILES.items(), tarfile.USTAR_FORMAT)
    end = 3 * 512 + 512 + 5 * 512  # three headers, 4 bytes and 2304 bytes in blocks
    assert content[end - 512 : end].strip(b"\0") and not content[end:].strip(b"\0")
    for kept in (0, 512):
        for compress in (bytes, gzip.compress, bz2.compress, lzma.compress):
            target = place.with_name(f"{kept}{compress.__module__}")
            with pytest.raises(UserError, match=r"damaged archive, .*(missing|end)"):
                run(compress(content[: end + kept]), target)
    assert run(content[: end + 1024], place) == 3


def test_sums_are_checked(place):
    content = bytearray(of_format("zip"))
    content[content.index(b"set/img/1.jpg") + 20] ^= 1
    with pytest.raises(UserError, match=r"damaged archive, .*; delete it and download it again"):
        run(bytes(content), place.with_name("zip"))
    content = bytearray(of_format("tgz"))
    content[-8] ^= 1
    with pytest.raises(UserError, match="damaged archive, CRC check failed"):
        run(bytes(content), place.with_name("tgz"))


@pytest.mark.parametrize("name", FORMATS)
def test_flipped_bits(place, name):
    whole = of_format(name)
    chance = random.Random(name)
    results = {"refused": 0, "unpacked": 0}
    for number in range(100):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3))):
            # Half of them where the headers are: in the first and last bytes.
            spot = chance.randrange(len(content))
            if chance.random() < 0.5:
                spot = chance.choice((chance.randrange(512), -1 - chance.randrange(512)))
                spot %= len(content)
            content[spot] ^= 1 << chance.randrange(8)
        target = place / f"{number}"
        shutil.rmtree(place, ignore_errors=True)
        try:
            run(bytes(content), target)
        except UserError:
            results["refused"] += 1
        else:
            results["unpacked"] += 1
            # A plain tar has no sums of the contents.
            if name in ("tgz", "tar.xz"):
                assert written(target) == FILES
    assert results["refused"] > 10


def test_a_full_disk(place, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archives, "_content", full)
    archive = place.parent / "a.tar"
    archive.write_bytes(of_format("tar"))
    with pytest.raises(UserError, match="target: the disk is full; make room or choose another"):
        unpack(archive, place, as_it_is, PLENTY)


def test_other_errors_of_the_system_are_passed_on(place):
    place.parent.mkdir(exist_ok=True)
    with pytest.raises(FileNotFoundError):
        unpack(place.parent / "none.tar", place, as_it_is, PLENTY)
    place.write_text("a file")
    archive = place.parent / "a.tar"
    archive.write_bytes(of_format("tar"))
    with pytest.raises(FileExistsError):
        unpack(archive, place, as_it_is, PLENTY)
