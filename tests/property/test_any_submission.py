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
        values = st.sampled_from(board.numbers)
        labels = draw(npst.arrays(np.uint8, WANTED[name][::-1], elements=values))
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


hostile_names = st.sampled_from(
    [
        *("/etc/passwd", "../a.png", "..", ".", "results/../../a.png", "a.png/", "C:\\a.png"),
        *(f"/{FOLDER}a.png", f"./{FOLDER}a.png", f"{FOLDER}a.PNG", f"{FOLDER}d.png", "./a.png"),
        *("A.png", "a.png.png", "\u0430.png", "a\u0000.png", "a\n.png", "a" * 300),
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def with_a(board, members, content: bytes):
    return [(n, content if n == path_of(board, "a") else c) for n, c in members]


@boards
@pytest.mark.parametrize("wrong", ["extra", "renamed", "value", "swollen"])
@share(0.25)
@given(data=st.data())
def test_an_archive_with_one_thing_wrong_is_refused(tmp_path, board, wrong, data):
    members = data.draw(sound_members(board))
    assert faults(tmp_path, board, packed(board, members)) == []
    taken = {"", *dict(members)}  # archives end a name at its first NUL
    name = data.draw(hostile_names.filter(lambda name: name.split("\0")[0] not in taken))
    if wrong == "extra":
        members = [*members, (name, members[0][1])]
    elif wrong == "renamed":
        members = [(name, members[0][1]), *members[1:]]
    elif wrong == "value":  # of one pixel
        labels = np.full(WANTED["a"][::-1], board.numbers[0], np.uint8)
        illegal = sorted({0, board.numbers[-1] + 1, 255} - {*board.numbers})
        labels.flat[data.draw(st.integers(0, 11))] = data.draw(st.sampled_from(illegal))
        members = with_a(board, members, png(board, labels))
    else:  # megabytes that pack to kilobytes
        members = with_a(board, members, bytes(data.draw(st.integers(1, 4)) << 20))
    assert faults(tmp_path, board, packed(board, members)) != []


LINKS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]


@share(0.5)
@given(st.sampled_from(LINKS), st.sampled_from(["/etc/passwd", "../../x", f"{FOLDER}b.png", ""]))
def test_a_link_or_a_device_in_the_place_of_a_file_is_not_followed(tmp_path, kind, target):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, size in WANTED.items():
            info, content = tarfile.TarInfo(path_of(VOC, name)), png(VOC, np.zeros(size, np.uint8))
            if name == "a":
                info.type, info.linkname, content = kind, target, b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = faults(tmp_path, VOC, stream.getvalue())
    assert any("a.png: a damaged PNG" in fault for fault in found)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["made"]  # nothing is unpacked


@boards
@share(2)
@given(data=st.data())
def test_a_damaged_archive_is_accepted_only_if_all_pixels_are_there(tmp_path, board, data):
    members = dict(data.draw(sound_members(board)))
    made = data.draw(damaged(st.just(packed(board, [*members.items()]))))
    if faults(tmp_path, board, made) == []:
        assert unpacked(made) == members
    a = path_of(board, "a")
    png_of_a = data.draw(damaged(st.just(members[a])))
    if faults(tmp_path, board, packed(board, [*(members | {a: png_of_a}).items()])) == []:
        pixels = [np.asarray(Image.open(io.BytesIO(each))) for each in (members[a], png_of_a)]
        np.testing.assert_array_equal(*pixels)


@boards
@share(2)
@given(content=st.binary(max_size=300) | st.binary(max_size=300).map(gzip.compress))
def test_any_bytes_are_no_archive(tmp_path, board, content):
    assert faults(tmp_path, board, content) != []
