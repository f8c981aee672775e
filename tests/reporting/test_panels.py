"""Pictures of errors: what can be told apart in them, also without colours."""

import io
from base64 import b64decode
from itertools import combinations

import numpy as np
from PIL import Image

from fcn_plugin.evaluation.error_kinds import KINDS, RIGHT
from fcn_plugin.report.panels import errors_uri

SIDE = 120  # of an area of each kind


def grey(truth: np.ndarray, kinds: np.ndarray, marked: int | None = None) -> list[np.ndarray]:
    """The picture as black-and-white print shows it, cut at ``SIDE``."""
    content = b64decode(errors_uri(truth, kinds, 2, marked).partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB").convert("L"), float)
    assert pixels.shape[0] == SIDE
    return np.split(pixels, pixels.shape[1] // SIDE, axis=1)


def areas() -> tuple[np.ndarray, np.ndarray]:
    """Truth and kinds with an area of right pixels, of each kind, and of void."""
    kinds = np.repeat([RIGHT, *KINDS, RIGHT], SIDE)[None].repeat(SIDE, 0)
    truth = np.zeros_like(kinds)
    truth[:, -SIDE:] = 255
    return truth, kinds


def test_kinds_differ_in_lightness_or_in_stripes():
    looks = [(area.mean(), area.std()) for area in grey(*areas())]
    assert len(looks) == 6
    for (one, stripes), (other, others) in combinations(looks, 2):
        assert abs(one - other) > 40 or abs(stripes - others) > 15
    assert looks[0] == (255, 0)


def test_a_marked_kind_is_black_and_the_others_are_alike():
    for place, kind in enumerate(KINDS, start=1):
        right, *wrong, void = ((area.min(), area.max()) for area in grey(*areas(), marked=kind))
        assert right == (255, 255) and void[0] > 150
        assert wrong.pop(place - 1) == (0, 0)
        assert len(set(wrong)) == 1 and 100 < wrong[0][0] == wrong[0][1] < 230
