"""Any archive: accepted by ``archive_faults`` only if it is what the server wants, to the pixel."""

import gzip
import io
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from evaluation.archives import FOLDER, MIT, VOC, packed, path_of, png, unpacked
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from property.amounts import share
from property.damage import damaged

from fcn_plugin.evaluation.submission_archive import archive_faults

SLOW = 5.0  # seconds
WANTED = dict(a=(4, 3), b=(1, 1), c=(7, 2))  # width and height of each image
boards = pytest.mark.parametrize("board", (VOC, MIT), ids=lambda board: board.name)
pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name", "ignore::UserWarning:PIL")


@st.composite
def sound_members(draw, board) -> list[tuple[str, bytes]]:
    made = []
    for name in draw(st.permutations(sorted(WANTED))):
        width, height = WANTED[name]
        values = st.sampled_from(board.numbers)
        labels = draw(npst.arrays(np.uint8, (height, width), elements=values))
        made.append((path_of(board, name), png(board, labels)))
    return made


def faults(folder: Path, board, content: bytes) -> list[str]:
    """Of these bytes as an archive; each in one line, found at once."""
    path = folder / "made"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    begun = time.perf_counter()
    found = archive_faults(path, board, {path_of(board, n): size for n, size in WANTED.items()})
    assert time.perf_counter() - begun < SLOW
    assert all(len(fault.splitlines()) == 1 and "object at" not in fault for fault in found), found
    return found


@boards
@share(0.5)
@given(data=st.data())
def test_a_sound_archive_is_accepted(tmp_path, board, data):
    members = data.draw(sound_members(board))
    assert faults(tmp_path, board, packed(board, members)) == []


# --- one thing wrong -----------------------------------------------------------------------------

hostile_names = st.sampled_from(
    [
        *("/etc/passwd", "../a.png", "..", ".", "results/../../a.png", "a.png/", "C:\\a.png"),
        *(f"/{FOLDER}a.png", f"./{FOLDER}a.png", f"{FOLDER}a.PNG", f"{FOLDER}d.png", "./a.png"),
        *("A.png", "a.png.png", "\u0430.png", "a\u0000.png", "a\n.png", "a" * 300),
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def other_name(draw, members) -> str:
    """What no member is called; archives end a name at its first NUL."""
    taken = {"", *(name for name, _ in members)}
    return draw(hostile_names.filter(lambda name: name.split("\0")[0] not in taken))


def extra(draw, board, members):
    return [*members, (other_name(draw, members), draw(st.sampled_from(members))[1])]


def renamed(draw, board, members):
    return [(other_name(draw, members), members[0][1]), *members[1:]]


def of_another_value(draw, board, members):
    width, height = WANTED["a"]
    labels = np.full((height, width), board.numbers[0], np.uint8)
    wrong = sorted({0, board.numbers[-1] + 1, 255} - {*board.numbers})
    place = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    labels[place] = draw(st.sampled_from(wrong))
    return with_a(board, members, png(board, labels))


OTHER_KINDS = [
    *(("RGB", "PNG"), ("RGBA", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("I;16", "PNG")),
    *(("L", "JPEG"), ("L", "BMP"), ("P", "GIF"), ("L", "TIFF"), ("RGB", "WEBP")),
]


def of_another_kind(draw, board, members):
    mode, kind = draw(st.sampled_from(OTHER_KINDS))
    stream = io.BytesIO()
    Image.new(mode, WANTED["a"], 1).save(stream, kind)
    return with_a(board, members, stream.getvalue())


def with_a(board, members, content: bytes):
    return [(n, content if n == path_of(board, "a") else c) for n, c in members]


def swollen(draw, board, members):
    """Some megabytes that pack to some kilobytes."""
    return with_a(board, members, bytes(draw(st.integers(1, 4)) << 20))


@boards
@pytest.mark.parametrize(
    "wrong", [extra, renamed, of_another_value, of_another_kind, swollen], ids=lambda f: f.__name__
)
@share(0.25)
@given(data=st.data())
def test_an_archive_with_one_thing_wrong_is_not(tmp_path, board, wrong, data):
    members = wrong(data.draw, board, data.draw(sound_members(board)))
    assert faults(tmp_path, board, packed(board, members)) != []


LINKS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]


@share(0.5)
@given(st.sampled_from(LINKS), st.sampled_from(["/etc/passwd", "../../x", f"{FOLDER}b.png", ""]))
def test_a_link_or_a_device_in_the_place_of_a_file_is_not_followed(tmp_path, kind, target):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, (width, height) in WANTED.items():
            info = tarfile.TarInfo(path_of(VOC, name))
            content = png(VOC, np.zeros((height, width), np.uint8))
            if name == "a":
                info.type, info.linkname, content = kind, target, b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert any(
        "a.png: a damaged PNG" in fault for fault in faults(tmp_path, VOC, stream.getvalue())
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["made"]  # nothing is unpacked


# --- accidents -----------------------------------------------------------------------------------


@boards
@share(2)
@given(data=st.data())
def test_a_damaged_archive_is_accepted_only_if_all_pixels_are_there(tmp_path, board, data):
    members = data.draw(sound_members(board))
    made = data.draw(damaged(st.just(packed(board, members))))
    if faults(tmp_path, board, made) == []:
        assert unpacked(made) == dict(members)


@boards
@share(2)
@given(content=st.binary(max_size=300) | st.binary(max_size=300).map(gzip.compress))
def test_any_bytes_are_no_archive(tmp_path, board, content):
    assert faults(tmp_path, board, content) != []


@boards
@share(2)
@given(data=st.data())
def test_a_damaged_png_in_a_sound_archive(tmp_path, board, data):
    """Its checksums tell: accepted only with the pixels that it had."""
    members = dict(data.draw(sound_members(board)))
    name = path_of(board, "a")
    before = members[name]
    members[name] = data.draw(damaged(st.just(before)))
    if faults(tmp_path, board, packed(board, list(members.items()))) == []:
        pixels = [np.asarray(Image.open(io.BytesIO(c))) for c in (before, members[name])]
        np.testing.assert_array_equal(*pixels)
