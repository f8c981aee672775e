"""Names, colours and numbers of the classes that a network predicts."""

from colorsys import hsv_to_rgb
from typing import Any, NamedTuple

from fcn_plugin.data.numbering import Numbering

Colour = tuple[int, int, int]


class Classes(NamedTuple):
    """Names, colours and numbers of the classes.

    Attributes:
        names, palette: name and RGB colour of each class.
        reduce_zero_label, label_map: how the data set's label files number the classes, see
            ``Numbering``.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    reduce_zero_label: bool = False
    label_map: tuple[tuple[int, int], ...] = ()

    @property
    def numbering(self) -> Numbering:
        return Numbering(len(self.names), self.reduce_zero_label, self.label_map)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number of each class in the data set's label files."""
        return self.numbering.numbers

    @property
    def by_number(self) -> dict[int, str]:
        """The name of each class by its number."""
        return dict(zip(self.numbers, self.names, strict=True))


def palette_of(stored: Any, of_config: Any, count: int) -> tuple[Colour, ...]:
    """The checkpoint's colours, else the config's, else evenly spaced hues."""
    stored, of_config = (
        palette if palette is not None and len(palette) == count else None
        for palette in (stored, of_config)
    )
    if stored and of_config and sorted(map(list, stored)) == sorted(map(list, of_config)):
        stored = of_config  # mmseg stores the colours in another order than the classes
    hues = ([255 * level for level in hsv_to_rgb(i / count, 0.8, 0.9)] for i in range(count))
    palette = stored or of_config or list(hues)
    return tuple((int(r), int(g), int(b)) for r, g, b in palette)
