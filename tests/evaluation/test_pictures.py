"""Pictures and tables of labels; the hook that writes pictures is in data/test_display.py."""

import numpy as np
import pytest

from fcn_plugin.evaluation.pictures import (
    PANEL,
    VOID,
    colour_table,
    overlay,
    percent,
    side_by_side,
)
from fcn_plugin.evaluation.tables import class_table

CLASSES, PALETTE = ("background", "circle"), [[0, 0, 0], [128, 0, 0]]


def colours_in(picture) -> set:
    return {colour for _, colour in picture.getcolors(1 << 20)}


def test_labels_by_their_colours_and_the_rest_as_void():
    label = np.array([[0, 1, 255, 7]])
    colours = colour_table(PALETTE)[label]
    assert colours.tolist() == [[[0, 0, 0], [128, 0, 0], [*VOID], [*VOID]]]
    assert len(colour_table([[1, 2, 3]] * 300)) == 300


def test_panels_stand_side_by_side_enlarged_with_a_legend():
    image = np.full((40, 60, 3), 200, np.uint8)
    truth = np.zeros((40, 60), np.int64)
    truth[:, 30:] = 1
    truth[0] = 255
    made = side_by_side(image, dict(truth=truth, prediction=truth * 0 + 1), CLASSES, PALETTE)
    assert made.width > 3 * 60 * 4 and made.height > 40 * 4
    assert {(200, 200, 200), (0, 0, 0), (128, 0, 0), VOID} <= colours_in(made)
    noted = side_by_side(image, dict(truth=truth), CLASSES, PALETTE, "bands 1-3 of 5")
    plain = side_by_side(image, dict(truth=truth), CLASSES, PALETTE)
    assert noted.size == plain.size and noted.tobytes() != plain.tobytes()


def test_one_pixel_and_a_long_legend():
    classes, palette = (
        [f"a rather long name {i}" for i in range(50)],
        [[i, i, i] for i in range(50)],
    )
    for label in (np.arange(50).reshape(1, 50), np.zeros((1, 1), int)):
        image = np.zeros((*label.shape, 3), np.uint8)
        made = side_by_side(image, dict(p=label), classes, palette)
        assert made.height > 10 * 18 and made.width > 2 * PANEL  # rows of the legend; two panels


def test_an_overlay_is_half_image_half_colour_and_says_what_it_shows():
    image, label = np.full((300, 400, 3), 100, np.uint8), np.zeros((300, 400), np.uint8)
    label[:, 200:] = 1
    plain = overlay(image, label, CLASSES, [[0, 0, 0], [200, 0, 0]])
    assert plain.getpixel((50, 150)) == (50, 50, 50) and plain.getpixel((350, 150)) == (150, 50, 50)
    assert plain.getpixel((200, 150)) == (200, 0, 0)  # the border
    noted = overlay(image, label, CLASSES, [[0, 0, 0], [200, 0, 0]], "bands 1-3 of 5")
    assert noted.height > plain.height
    assert (np.asarray(noted)[plain.height :] < 128).any()


@pytest.mark.parametrize(("share", "text"), [(1, "100 %"), (0.01, "1 %"), (0.0099, "< 1 %")])
def test_percent(share, text):
    assert percent(share) == text


def test_a_table_of_any_columns():
    columns = {"images": [1200, np.int64(3)], "share": ["12 %", np.nan]}
    rows = class_table(["a\nb", "c"], columns, ["sum", 1.5, ""]).splitlines()
    assert [row.replace("|", " ").split() for row in rows if "|" in row] == [
        ["class", "images", "share"],
        [r"a\nb", "1,200", "12", "%"],
        ["c", "3", "-"],
        ["sum", "1.50"],
    ]
