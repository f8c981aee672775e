"""Draw where the pixels of FCN-8s' levels lie in a picture, with either padding.

python docs/figures/geometry.py --out FILE

All numbers are those of the network, see drawing.py.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path += [str(Path(__file__).parents[2] / "tools"), str(Path(__file__).parent)]

from common import run, show
from drawing import KEPT, LEVELS, PALE, ZEROS, fcn8s, file_to_write, write

HEIGHT = 5.4  # inches
BAR = 0.38  # height of a row's pixels, of the distance between rows
TEXT = 0.33  # from the middle of a row's pixels up to its text
FILL = 0.84  # share of the distance between two pixels that is filled
FINEST = 4  # pixels nearer to each other are drawn as one bar


class Row(NamedTuple):
    """A grid of ``count`` pixels along the picture's width, of which ``kept`` from ``first`` on
    are used; pixel x lies at scale x + offset in the picture."""

    name: str
    scale: float
    offset: float
    count: int
    first: int
    kept: int

    def __str__(self) -> str:
        sign = "-" if self.offset < 0 else "+"
        place = f"{self.scale:g} x" if self.scale != 1 else "x"
        if self.offset:
            place += f" {sign} {abs(self.offset):g}"
        last = self.count - self.first - self.kept
        cut = f", {self.first} + {last} cut" if self.first or last else ""
        return f"{self.name}: {self.count} pixels, x at {place}{cut}"

    def bars(self, start: int, end: int) -> list[tuple[float, float]]:
        """The pixels from ``start`` to ``end`` as (left, width) in the picture."""
        if self.scale < FINEST:
            width = (end - start) * self.scale
            return [(self.offset + (start - 0.5) * self.scale, width)] if end > start else []
        width = FILL * self.scale
        return [(self.offset + x * self.scale - width / 2, width) for x in range(start, end)]


def main() -> None:
    file = file_to_write(__doc__.splitlines()[0])

    import fcn_plugin  # noqa: F401  # makes mmseg importable

    write(file, HEIGHT, draw, layout="constrained")
    show(f"Done: {file} has {file.stat().st_size:,} bytes")


def rows_of(padding: str) -> tuple[int, list[Row]]:
    """The width of the border of zeros, and the levels, finest first, and the upsampled scores."""
    from fcn_plugin.geometry import AxisMap, transposed_convolution
    from fcn_plugin.models.upsample import placements

    backbone, features, head = fcn8s(padding)
    sizes = [features.image_size, *(level.shape[-2:] for level in features)]
    maps = [AxisMap(), *backbone.maps]
    steps = placements(sizes, maps, head.upscore, crop_to_reach=features.zero_border)
    *skips, onto_picture = (columns for _, columns in steps)  # deepest first

    width = features.image_size[1]
    parts = {len(LEVELS) - 1: (0, sizes[-1][1])}  # of the deepest level nothing is cut
    for level, columns in zip(reversed(range(len(LEVELS) - 1)), skips, strict=True):
        parts[level] = columns.start, columns.length
    rows = [
        Row(name, float(at.scale), float(at.offset), size[1], *parts[level])
        for level, (name, at, size) in enumerate(zip(LEVELS, maps[1:], sizes[1:], strict=True))
    ]
    if not features.zero_border:
        assert onto_picture.length == width
        return backbone.border, [*rows, Row("upsampled", 1, 0, width, 0, width)]
    start, length = parts[0]
    fused = maps[1].shifted(start)
    layer = transposed_convolution(fused)
    canvas = fused.then(layer.map)
    offset = int(canvas.offset)
    return backbone.border, [*rows, Row("upsampled", 1, offset, layer.size(length), -offset, width)]


def draw(figure: Any) -> None:
    """A panel for each padding, with the picture's extent as a band behind all rows."""
    from matplotlib.patches import Patch

    panels = figure.subplots(2, 1, sharex=True)
    for axes, padding in zip(panels, ("reference", "same"), strict=True):
        border, rows = rows_of(padding)
        _draw_panel(axes, border, rows)
        axes.set_title(f'padding="{padding}"', loc="left", fontweight="bold", fontsize=9)
    panels[-1].set_xlabel("pixels of the picture, along its width")
    colours = {"used": KEPT, "cut away": PALE, "border of zeros": ZEROS}
    boxes = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=boxes, loc="outside lower center", ncols=len(boxes), frameon=False)


def _draw_panel(axes: Any, border: int, rows: list[Row]) -> None:
    width = rows[-1].kept
    axes.axvspan(-0.5, width - 0.5, color="#eef3f9", zorder=0)
    around = f", in a border of {border} zeros" if border else ""
    axes.broken_barh([(-border - 0.5, width + 2 * border)], (-BAR / 2, BAR), color=ZEROS)
    axes.broken_barh([(-0.5, width)], (-BAR / 2, BAR), color=KEPT)
    texts = [f"picture: {width} pixels{around}"]
    for place, row in enumerate(rows, start=1):
        end = row.first + row.kept
        pale = [*row.bars(0, row.first), *row.bars(end, row.count)]
        for bars, colour in ((pale, PALE), (row.bars(row.first, end), KEPT)):
            axes.broken_barh(bars, (place - BAR / 2, BAR), color=colour, linewidth=0)
        texts.append(str(row))
    for place, text in enumerate(texts):
        axes.text(-105, place - TEXT, text, verticalalignment="bottom")
    axes.set(xlim=(-110, width + 110), ylim=(len(rows) + BAR, -0.9), yticks=[])
    axes.spines["left"].set_visible(False)


if __name__ == "__main__":
    run(main)
