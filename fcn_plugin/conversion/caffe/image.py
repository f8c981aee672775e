"""What a prototxt's data layer says of the image."""

import re
from math import isfinite
from typing import NamedTuple

from fcn_plugin.conversion.caffe.graph import Node
from fcn_plugin.conversion.caffe.text import as_written
from fcn_plugin.weights.sources import BANDS, Input

# In the settings of a Python layer, e.g. "{'split': 'val', 'mean': (104.0, 117.0, 123.0)}".
MEAN = re.compile(r"""\bmean['"]?\s*[:=]\s*[(\[]([-+.,\d\s]+)[)\]]""")
COLOURS = 3


class Image(NamedTuple):
    """The image of a network.

    Attributes:
        data: the layer that brings it.
        channels: their number; None if the prototxt does not say.
        mean: of each channel, or one for all; empty if it does not say.
        std: of all channels.
    """

    data: Node
    channels: int | None
    mean: tuple[float, ...]
    std: float

    def input(self, channels: int) -> Input | None:
        """Mean and std of an image of so many channels; None if the mean is unknown.

        Raises:
            UserError: there are fewer or more means than channels.
        """
        if not self.mean:
            return None
        mean = self.mean * channels if len(self.mean) == 1 else self.mean
        if len(mean) != channels:
            raise self.data.fault(
                f"a mean of {len(mean)} numbers for an image of {channels} channels",
                "correct it, or leave it out",
            )
        return Input("BGR" if channels == COLOURS else BANDS, mean, (self.std,) * channels)


def image_of(data: Node) -> Image:
    """What the layer that brings the image says of it."""
    shapes = data.layer.settings.input_param.shape
    channels = shapes[0].dim[1] if shapes and len(shapes[0].dim) == 4 else None
    transform = data.layer.settings.transform_param
    mean = [as_written(value) for value in transform.mean_value]
    if stated := MEAN.search(data.layer.settings.python_param.param_str):
        try:
            mean = [float(number) for number in stated[1].split(",") if number.strip()]
        except ValueError:  # not numbers after all
            mean = []
    scale = as_written(transform.scale)
    if not all(map(isfinite, (*mean, scale))) or scale <= 0:
        raise data.fault(f"mean {mean} and scale {scale}", "give numbers, and a scale above 0")
    return Image(data, channels, tuple(mean), 1 / scale)
