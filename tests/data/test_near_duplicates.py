"""Copies of pictures are found, and different pictures are not taken for copies."""

import cv2
import numpy as np
import pytest

from fcn_plugin.data.near_duplicates import near_duplicates, picture_hash
from fcn_plugin.prepare.drawing import draw


def hashes(pictures) -> np.ndarray:
    return np.array([picture_hash(picture) for picture in pictures])


def photograph(seed: int) -> np.ndarray:
    """A picture [240, 320, 3] with structure of all sizes, as a photograph has."""
    rng = np.random.default_rng(seed)
    waves = [
        cv2.resize(rng.normal(size=(n, n, 3)), (320, 240), interpolation=cv2.INTER_CUBIC) / n**0.5
        for n in (4, 8, 16, 32, 64)
    ]
    return np.clip(sum(waves) * 60 + 110, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    return hashes(draw(0, "train", number, 64)[0] for number in range(500))


def test_resized_recompressed_and_brighter_copies_are_found():
    originals = [photograph(seed) for seed in range(40)]
    copies = []
    for number, picture in enumerate(originals):
        zoom = (0.4, 0.7, 1.5)[number % 3]
        small = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        bright = np.clip(small * 1.08 + 8, 0, 255).astype(np.uint8)
        content = cv2.imencode(".jpg", bright, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        copies.append(cv2.imdecode(content, cv2.IMREAD_COLOR))
    shuffled = np.random.default_rng(0).permutation(40)
    pairs = near_duplicates(hashes(originals), hashes(copies[i] for i in shuffled))
    assert pairs == [(number, position) for position, number in enumerate(shuffled)]


def test_different_pictures_are_none(drawn):
    assert near_duplicates(drawn[:250], drawn[250:]) == []
    photographs = hashes(photograph(seed) for seed in range(60))
    assert near_duplicates(photographs[:30], photographs[30:]) == []


def test_plain_pictures_resemble_nothing():
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (64, 1))  # never falls: no bit
    faint = np.random.default_rng(0).integers(120, 126, (64, 64, 3), np.uint8)
    step = np.full((64, 64), 200, np.uint8)
    step[:, 32:] = 20  # one edge
    plain = hashes([np.zeros((8, 8, 3), np.uint8), ramp, faint, step])
    assert near_duplicates(plain, plain) == []


def test_every_block_is_compared_and_the_nearest_is_named(drawn):
    rng = np.random.default_rng(1)
    many = rng.integers(0, 256, (1300, 32), np.uint8)
    others = many.copy()
    others[::2] = rng.integers(0, 256, (650, 32), np.uint8)
    others[:, 0] ^= 1  # one bit differs
    near = many[7].copy()
    near[1:4] ^= 1  # four bits from it differ
    pairs = near_duplicates(np.vstack([near, many]), others)
    assert pairs == [(j + 1, j) for j in range(1, 1300, 2)]
    assert near_duplicates(many[:0], others) == near_duplicates(many, others[:0]) == []
