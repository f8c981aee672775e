import numpy as np

from fcn_plugin.evaluation.pictures import VOID, colour_table, side_by_side

CLASSES, PALETTE = ("background", "circle"), [[0, 0, 0], [128, 0, 0]]


def test_labels_by_their_colours_and_the_rest_as_void():
    label = np.array([[0, 1, 255, 7]])
    assert colour_table(PALETTE)[label].tolist() == [[[0, 0, 0], [128, 0, 0], [*VOID], [*VOID]]]


def test_panels_stand_side_by_side_enlarged_with_a_legend():
    image = np.full((40, 60, 3), 200, np.uint8)
    truth = np.zeros((40, 60), np.int64)
    truth[:, 30:] = 1
    truth[0] = 255
    made = side_by_side(image, dict(truth=truth, prediction=truth * 0 + 1), CLASSES, PALETTE)
    assert made.width > 3 * 60 * 4 and made.height > 40 * 4
    colours = {colour for _, colour in made.getcolors(1 << 20)}
    assert {(200, 200, 200), (0, 0, 0), (128, 0, 0), VOID} <= colours


def test_one_pixel_and_a_long_legend():
    classes = [f"a rather long name {i}" for i in range(50)]
    palette = [[i, i, i] for i in range(50)]
    label = np.arange(50).reshape(1, 50)
    made = side_by_side(np.zeros((1, 50, 3), np.uint8), dict(prediction=label), classes, palette)
    assert made.height > 10 * 18  # rows of the legend
    dot = side_by_side(np.zeros((1, 1, 3), np.uint8), dict(p=label[:, :1]), classes, palette)
    assert dot.width > 480
