"""Pairs of label maps, ordinary and hostile, for tests of counts."""

from typing import NamedTuple

import numpy as np

VOID = 255


class Pair(NamedTuple):
    """What the counts take: two maps of integers [H, W], and the number of classes."""

    truth: np.ndarray
    prediction: np.ndarray
    num_classes: int


def pairs() -> dict[str, Pair]:
    """By name. Maps are small, so that the plainest code can count them, too."""
    checkers = np.indices((9, 14)).sum(0) % 2
    many = np.arange(255).reshape(15, 17)
    one = np.ones((6, 7), np.uint8)
    named = {
        "no rows": Pair(one[:0, :0], one[:0, :0], 3),
        "rows of no pixels": Pair(one[:0, :5], one[:0, :5], 3),
        "columns of no pixels": Pair(one[:5, :0], one[:5, :0], 3),
        "a pixel": Pair(one[:1, :1], one[:1, :1], 2),
        "a wrong pixel": Pair(one[:1, :1], one[:1, :1] * 0, 2),
        "all void": Pair(one * VOID, one, 2),
        "one class": Pair(one, one, 2),
        "one class, another predicted": Pair(one, one * 0, 3),
        "only values of no class predicted": Pair(one, one * 9, 3),
        "a row": Pair(checkers[:1], np.arange(14)[None] // 5, 3),
        "a column": Pair(np.arange(14)[:, None] // 5, np.arange(14)[:, None] // 4, 3),
        "a component that is mostly in void": Pair(
            np.repeat([0, 1, VOID], [12, 2, 28])[None], np.repeat([0, 1], [2, 40])[None], 2
        ),
        "a tenth of a predicted component": Pair(
            np.repeat([0, 1], [40, 2])[None], np.repeat([0, 1], [22, 20])[None], 2
        ),
        "far from borders": Pair(np.arange(80)[None] // 41, np.arange(80)[None] // 6 % 2, 2),
        "checkers": Pair(checkers, 1 - checkers, 2),
        "checkers, half right": Pair(checkers, np.where(np.arange(14) < 7, checkers, 0), 2),
        "255 classes": Pair(many, np.roll(many, 1, 0), 255),
        "negative as uint8 and as int8": Pair(many.astype(np.uint8), many.astype(np.int8), 255),
        "uint64": Pair(many.astype(np.uint64), many.T.reshape(15, 17).astype(np.uint64), 200),
    }
    chance = np.random.default_rng(0)
    dtypes = np.uint8, np.int16, np.uint16, np.int32, np.int64
    for i in range(60):
        size = chance.integers(1, 24, 2)
        classes = int(chance.integers(1, 7))
        block = int(chance.integers(1, 8))
        truth = _blocks(chance, classes, size, block)
        noise = _blocks(chance, classes + 1, size, int(chance.integers(1, 4)))
        wrong = _blocks(chance, 4, size, int(chance.integers(1, 6))) == 0
        prediction = np.where(wrong, noise, np.roll(truth, chance.integers(-2, 3, 2), (0, 1)))
        truth[_blocks(chance, 8, size, 2) == 0] = VOID
        prediction[chance.random(size) < 0.02] = VOID
        pair = (labels.astype(chance.choice(dtypes)) for labels in (truth, prediction))
        named[f"random {i}"] = Pair(*pair, classes)
    transposed = (labels.T[::2, 1:] for labels in named["random 0"][:2])
    return {**named, "views": Pair(*transposed, named["random 0"].num_classes)}


def _blocks(chance: np.random.Generator, number: int, size: np.ndarray, side: int) -> np.ndarray:
    """Integers below ``number`` in squares of ``side`` pixels, some of which are joined."""
    height, width = size
    squares = chance.integers(0, number, (height // side + 1, width // side + 1))
    return squares.repeat(side, 0).repeat(side, 1)[:height, :width].copy()
