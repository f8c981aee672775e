"""Feature levels that know where they lie in the image."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from fcn_plugin.geometry import AxisMap


class Switches(NamedTuple):
    """From where in a map a max pooling took its values.

    Attributes:
        indices: N x C x h x w, int64, of the pooled map's size: each value's place in its channel
            of the map, counted row by row.
        size: (H, W) of the map.
    """

    indices: Tensor
    size: tuple[int, int]


class Features(tuple):
    """A backbone's output: a tuple of N x C_i x H_i x W_i tensors, with its geometry.

    To mmseg's heads it is the plain tuple they expect; ``SkipFusionHead`` reads from it where the
    levels lie in the image and needs no strides, crops or sizes in its config.

    Attributes:
        maps: for each level the map from its pixels to the image's, the same in both axes.
        image_size: (H, W) of the backbone's input image.
        zero_border: the levels extend beyond the image into the padding, and zeros lie beyond
            them, as in the published networks; otherwise their outermost values continue.
        switches: of every pooling, first one first, if the backbone is to give them; else empty.
    """

    maps: tuple[AxisMap, ...]
    image_size: tuple[int, int]
    zero_border: bool
    switches: tuple[Switches, ...]

    def __new__(
        cls,
        levels: Iterable[Tensor],
        maps: Iterable[AxisMap],
        image_size: tuple[int, int],
        zero_border: bool,
        switches: Iterable[Switches] = (),
    ) -> "Features":
        features = super().__new__(cls, levels)
        features.maps = tuple(maps)
        features.image_size = image_size
        features.zero_border = zero_border
        features.switches = tuple(switches)
        return features

    def __reduce__(self) -> tuple:
        geometry = self.maps, self.image_size, self.zero_border
        return Features, (tuple(self), *geometry, self.switches)
