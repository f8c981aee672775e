"""Pictures and tables of labels; the hook that writes pictures is in data/test_display.py."""

import numpy as np

from fcn_plugin.evaluation.drawing import (
    PANEL,
    VOID,
    overlay,
    side_by_side,
)
from fcn_plugin.evaluation.tables import class_table

CLASSES, PALETTE = ("background", "circle"), [[0, 0, 0], [128, 0, 0]]


def test_panels_stand_side_by_side_enlarged_with_a_legend():
    image = np.full((40, 60, 3), 200, np.uint8)
    truth = np.zeros((40, 60), np.int64)
    truth[:, 30:] = 1
    truth[0] = 255
    made = side_by_side(image, dict(truth=truth, prediction=truth * 0 + 1), CLASSES, PALETTE)
    assert made.width > 3 * 60 * 4 and made.height > 40 * 4
    colours = {colour for _, colour in made.getcolors(1 << 20)}
    assert {(200, 200, 200), (0, 0, 0), (128, 0, 0), VOID} <= colours
    noted = side_by_side(image, dict(truth=truth), CLASSES, PALETTE, "bands 1-3 of 5")
    plain = side_by_side(image, dict(truth=truth), CLASSES, PALETTE)
    assert noted.size == plain.size and noted.tobytes() != plain.tobytes()
    # One pixel and a long legend.
    names, greys = [f"a rather long name {i}" for i in range(50)], [[i, i, i] for i in range(50)]
    made = side_by_side(image[:1, :1], dict(p=np.zeros((1, 1), int)), names, greys)
    assert made.height > 100 and made.width > 2 * PANEL


def test_an_overlay_is_half_image_half_colour_but_for_background_and_says_what_it_shows():
    image, label = np.full((300, 400, 3), 100, np.uint8), np.zeros((300, 400), np.uint8)
    label[:, 200:] = 1
    palette, grey = [[0, 0, 0], [200, 0, 0]], (100, 100, 100)
    plain = overlay(image, label, dict(enumerate(CLASSES)), palette)
    assert (np.asarray(plain)[:300, :200] == grey).all()  # up to the border
    assert plain.getpixel((200, 150)) == (200, 0, 0)  # the border
    assert plain.getpixel((350, 150)) == (150, 50, 50)
    other = overlay(image, label, {0: "road", 1: "background"}, palette)
    assert other.getpixel((50, 150)) == (50, 50, 50) and other.getpixel((199, 150)) == (0, 0, 0)
    assert (np.asarray(other)[:300, 200:400] == grey).all()
    noted = overlay(image, label, dict(enumerate(CLASSES)), palette, "bands 1-3 of 5")
    assert noted.height > plain.height
    assert (np.asarray(noted)[plain.height :] < 128).any()


def test_a_table_of_any_columns():
    columns = {"images": [1200, np.int64(3)], "share": ["12 %", np.nan]}
    rows = class_table(["a\nb", "c"], columns, ["sum", 1.5, ""]).splitlines()
    assert [row.replace("|", " ").split() for row in rows if "|" in row] == [
        ["class", "images", "share"],
        [r"a\nb", "1,200", "12", "%"],
        ["c", "3", "-"],
        ["sum", "1.50"],
    ]
