"""Any damaged archive is accepted by ``archive_faults`` only if all pixels are there."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
from evaluation.archives import MIT, VOC, packed, path_of, png, unpacked
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from property.amounts import share
from property.damage import damaged

from fcn_plugin.evaluation.submission_archive import archive_faults

SLOW = 5.0  # seconds
WANTED = dict(a=(4, 3), b=(1, 1), c=(7, 2))  # width and height of each image
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


@pytest.mark.parametrize("board", (VOC, MIT), ids=lambda board: board.name)
@share(2)
@given(data=st.data())
def test_a_damaged_archive_is_accepted_only_if_all_pixels_are_there(tmp_path, board, data):
    members = dict(data.draw(sound_members(board)))
    assert faults(tmp_path, board, packed(board, [*members.items()])) == []
    made = data.draw(damaged(st.just(packed(board, [*members.items()]))))
    if faults(tmp_path, board, made) == []:
        assert unpacked(made) == members
    a = path_of(board, "a")
    png_of_a = data.draw(damaged(st.just(members[a])))
    if faults(tmp_path, board, packed(board, [*(members | {a: png_of_a}).items()])) == []:
        pixels = [np.asarray(Image.open(io.BytesIO(each))) for each in (members[a], png_of_a)]
        np.testing.assert_array_equal(*pixels)
