"""Feature levels that know where they lie in the image."""

from collections.abc import Iterable

from torch import Tensor

from fcn_plugin.geometry import AxisMap


class Features(tuple):
    """A backbone's output: a tuple of N x C_i x H_i x W_i tensors, with its geometry.

    To mmseg's heads it is the plain tuple they expect; ``SkipFusionHead`` reads from it where the
    levels lie in the image and needs no strides, crops or sizes in its config.

    Attributes:
        maps: for each level the map from its pixels to the image's, the same in both axes.
        image_size: (H, W) of the backbone's input image.
        zero_border: the levels extend beyond the image into the padding, and zeros lie beyond
            them, as in the published networks; otherwise their outermost values continue.
    """

    maps: tuple[AxisMap, ...]
    image_size: tuple[int, int]
    zero_border: bool

    def __new__(
        cls,
        levels: Iterable[Tensor],
        maps: Iterable[AxisMap],
        image_size: tuple[int, int],
        zero_border: bool,
    ) -> "Features":
        features = super().__new__(cls, levels)
        features.maps = tuple(maps)
        features.image_size = image_size
        features.zero_border = zero_border
        return features

    def __reduce__(self) -> tuple:
        return Features, (tuple(self), self.maps, self.image_size, self.zero_border)
