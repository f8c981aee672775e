"""Draw how FCN-8s' loss is taken from its coarse scores, block by block.

python docs/figures/blockwise_loss.py --out FILE

All numbers are those of the network and of the loss, on a CPU; see drawing.py.
"""

import sys
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[2] / "tools"), str(Path(__file__).parent)]

from common import run, show
from drawing import CLASSES, KEPT, MARK, POINTS, WIDTH, ZEROS, fcn8s, file_to_write, write

# In points, from the lower edge of the drawing.
HEIGHT = 372
TOP_OF_SCORES, TOP_OF_PICTURE = 338, 188
SCORE, PIXEL = 1.6, 0.36  # side of a coarse score and of a pixel
LINE = 12
ARROW = dict(arrowstyle="-|>", connectionstyle="arc3,rad=0.25", color=MARK, linewidth=1.2)
MEGABYTE, FLOAT32 = 1e6, 4  # bytes


def main() -> None:
    file = file_to_write(__doc__.splitlines()[0])

    import fcn_plugin  # noqa: F401  # makes mmseg importable

    write(file, HEIGHT / POINTS, draw)
    show(f"Done: {file} has {file.stat().st_size:,} bytes")


def megabytes(numbers: int) -> str:
    """The memory of so many numbers in single precision."""
    return f"{numbers * FLOAT32 / MEGABYTE:.1f} MB"


def draw(figure: Any) -> None:
    """The coarse scores above the picture, and one block with the scores that it needs."""
    import torch

    from fcn_plugin.models.coarse import axis, blocks

    _, features, head = fcn8s("reference")
    with torch.no_grad():
        scores, *places, zero_border = head.coarse(features)
    height, width = scores.shape[-2:]
    rows, cols = (
        axis(place, size, zero_border, scores.dtype, scores.device)
        for place, size in zip(places, (height, width), strict=True)
    )
    parts = list(blocks(len(scores), CLASSES, rows, cols))
    block = parts[len(parts) // 2]

    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH * POINTS), ylim=(0, HEIGHT))
    axes.set_axis_off()
    middle = WIDTH * POINTS / 2

    def line(y: float, text: str, **style: Any) -> None:
        axes.text(middle, y, text, horizontalalignment="center", **style)

    line(HEIGHT - LINE, "scores at stride 8", fontweight="bold")
    line(HEIGHT - 2 * LINE, f"{width} x {height}, {CLASSES} classes: {megabytes(scores.numel())}")
    left = middle - SCORE * width / 2
    box = (left, TOP_OF_SCORES, SCORE)
    _rectangle(axes, box, slice(0, height), slice(0, width), facecolor="#eef3f9", edgecolor=KEPT)
    window = _rectangle(axes, box, block.coarse_rows, block.coarse_cols, facecolor=MARK, alpha=0.75)

    box = (middle - PIXEL * len(cols) / 2, TOP_OF_PICTURE, PIXEL)
    for part in parts:
        _rectangle(axes, box, part.rows, part.cols, facecolor="white", edgecolor=ZEROS)
    stripe = _rectangle(axes, box, block.rows, block.cols, facecolor=MARK)
    line(
        stripe.get_y() + stripe.get_height() / 2,
        "2  their loss and gradient",
        color="white",
        verticalalignment="center_baseline",
    )

    ends = [
        (part.get_x(), part.get_x() + part.get_width(), part.get_y() + part.get_height() / 2)
        for part in (window, stripe)
    ]
    (left, right, y), (left_below, right_below, y_below) = ends
    axes.annotate("", (left_below, y_below), (left, y), arrowprops=ARROW)
    axes.annotate("", (right, y), (right_below, y_below), arrowprops=ARROW)
    between = (TOP_OF_SCORES - SCORE * height + TOP_OF_PICTURE) / 2
    style = dict(color=MARK, verticalalignment="center")
    axes.text(middle - 80, between, "1  upsample", **style)
    axes.text(middle + 4, between, "3  carry back\nthe gradient", **style)

    below = TOP_OF_PICTURE - PIXEL * len(rows) - 1.2 * LINE
    deep, wide = (part.stop - part.start for part in (block.rows, block.cols))
    whole = CLASSES * len(rows) * len(cols)
    texts = (
        f"picture: {len(cols)} x {len(rows)}, in {len(parts)} blocks",
        f"scores of a block of {wide} x {deep}: {megabytes(block.buffer.numel())}",
        f"scores of the whole picture: {megabytes(whole)}, never made",
    )
    for number, text in enumerate(texts):
        line(below - number * LINE, text)


def _rectangle(
    axes: Any, box: tuple[float, float, float], rows: slice, cols: slice, **style: Any
) -> Any:  # -> matplotlib.patches.Rectangle
    """Some rows and columns of a grid, drawn; ``box`` is its left, its top, and a pixel's side."""
    from matplotlib.patches import Rectangle

    left, top, side = box
    corner = left + side * cols.start, top - side * rows.stop
    size = side * (cols.stop - cols.start), side * (rows.stop - rows.start)
    return axes.add_patch(Rectangle(corner, *size, linewidth=0.6, **style))


if __name__ == "__main__":
    run(main)
