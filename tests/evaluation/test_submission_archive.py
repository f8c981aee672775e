"""Archives with one fault each, or cut anywhere; any are in property/test_any_submission.py."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation.archives import MIT, VOC, Members, packed, path_of, png
from PIL import Image

from fcn_plugin.evaluation.leaderboards import LEADERBOARDS
from fcn_plugin.evaluation.submission_archive import archive_faults, png_fault

VALUES = dict(a=1, b=7, c=20)  # of the PNGs in a sound archive
SIZE = (12, 10)


def plain(board, value: int = 7, size=SIZE, mode: str = "", palette=None) -> bytes:
    return png(board, np.full(size[::-1], value, np.uint8), mode, palette)


def second(content: Callable) -> Callable:
    """The second of the PNGs is another."""
    return lambda board, good: [good[0], (good[1][0], content(board)), good[2]]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at:][1:]


def wide(board) -> bytes:
    stream = io.BytesIO()
    Image.new("I;16", SIZE, 7).save(stream, "PNG")
    return stream.getvalue()


GREY = [[level] * 3 for level in range(256)]
LAST = [*VOC.palette[:20], *GREY[20:]]
BOTH = LEADERBOARDS
# with which archives, the members of the forged one, what the fault says
FORGERIES: list[tuple[tuple, Callable, str]] = [
    (BOTH, lambda b, good: good[:2], "c.png: missing"),
    (BOTH, lambda b, good: [*good, good[1]], "b.png: there 2 times"),
    (BOTH, lambda b, good: [*good, (path_of(b, "d"), b"")], "d.png: not the prediction"),
    (BOTH, second(lambda b: plain(b, size=SIZE[::-1])), "it is 10x12 for an image of 12x10"),
    (BOTH, second(wide), "its mode is I;16B, not"),
    ((VOC,), second(lambda b: plain(b, palette=GREY[:16])), "its mode is P;4, not"),
    ((VOC,), second(lambda b: plain(b, mode="L")), "its mode is L, not indexed"),
    ((MIT,), second(lambda b: plain(VOC)), "its mode is P, not grey"),
    ((MIT,), second(lambda b: plain(b, 0)), "has the value 0, not only 1-150"),
    ((VOC,), second(lambda b: plain(b, 21)), "has the value 21, not only 0-20"),
    ((MIT,), second(lambda b: plain(b, 151)), "has the value 151, not only"),
    ((VOC,), second(lambda b: plain(b, palette=LAST)), "its palette is not VOC's"),
    (BOTH, second(lambda b: plain(b)[:-30]), "a damaged PNG"),
    (BOTH, second(lambda b: flipped(plain(b), -14)), "a damaged PNG"),
    (BOTH, second(lambda b: b"GIF89a" * 9), "a damaged PNG (it does not begin as one)"),
]


def good_members(board) -> Members:
    return [(path_of(board, name), plain(board, value)) for name, value in VALUES.items()]


def faults_of(folder: Path, board, content: bytes) -> list[str]:
    file = folder / "archive"
    file.write_bytes(content)
    return archive_faults(file, board, {path_of(board, name): SIZE for name in VALUES})


@pytest.mark.parametrize(("boards", "forge", "fault"), FORGERIES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_forgeries(tmp_path, boards, forge, fault):
    for board in boards:
        found = faults_of(tmp_path, board, packed(board, forge(board, good_members(board))))
        assert any(fault in each for each in found), found


def test_a_value_beside_those_of_a_board():
    mine = replace(MIT, numbers=(1, 2, 7))
    assert png_fault(plain(MIT, 7), mine, SIZE) is None
    assert png_fault(plain(MIT, 3), mine, SIZE) == "has the value 3, not only 1-2, 7"


@pytest.mark.parametrize("board", LEADERBOARDS, ids=lambda board: board.name)
def test_an_archive_cut_anywhere(tmp_path, board):
    content = packed(board, good_members(board)[::-1])
    assert faults_of(tmp_path, board, content) == []
    for length in range(0, len(content), 3):
        assert faults_of(tmp_path, board, content[:length]), length
