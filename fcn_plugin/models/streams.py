"""Late fusion: a backbone of its own for each group of the image's channels.

The published network (Caffe ``nyud-fcn32s-color-hha/net.py``) gives color and HHA a VGG16 each and
takes the mean of their scores. As a sum it is ``SkipFusionHead`` on both fc7, with half of each
score layer:

    channels 0-2 -> VGG16 -> fc7 -> 0.5 score_frcolor
                                                      +  -> upscore
    channels 3-5 -> VGG16 -> fc7 -> 0.5 score_frhha
"""

from collections.abc import Sequence
from itertools import chain

from mmengine.model import BaseModule, ModuleList
from mmseg.registry import MODELS
from torch import Tensor

from fcn_plugin.errors import UserError
from fcn_plugin.models.features import Features


@MODELS.register_module()
class Streams(BaseModule):
    """Several backbones side by side, each of which sees its own channels of the image.

    Takes N x sum(channels) x H x W. Returns the levels finest first: the first level of each
    stream, then the second of each, and so on; as ``Features`` if all streams return them. Of
    two streams with pool3, pool4 and fc7, levels 0 and 1 are the pool3, 4 and 5 the fc7.

    Args:
        streams: the backbones' configs, any of ``MODELS``, all with equally many levels.
        channels: the number of channels of each stream.
        init_cfg: of all streams; usually each has its own.

    Attributes:
        padding: of all streams; None if they have none.
        maps: of the levels to the image, see ``Features``; none if a stream has none.

    Raises:
        UserError: the streams, their channels, levels or paddings, or an image do not fit together.
    """

    def __init__(
        self,
        streams: Sequence[dict],
        channels: Sequence[int],
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(streams) != len(channels) or not streams:
            raise UserError(
                f"Streams: {len(streams)} streams and channels {tuple(channels)}; give the number "
                "of channels of each stream"
            )
        self.streams = ModuleList(MODELS.build(stream) for stream in streams)
        self.channels = tuple(channels)
        paddings = {getattr(stream, "padding", None) for stream in self.streams}
        if len(paddings) > 1:
            raise UserError(f"Streams: paddings {paddings}; give all streams the same")
        (self.padding,) = paddings
        # Of all levels, where all streams know them.
        maps = (getattr(stream, "maps", ()) for stream in self.streams)
        self.maps = tuple(chain(*zip(*maps, strict=False)))

    def forward(self, image: Tensor) -> Features | tuple[Tensor, ...]:
        """The levels of all streams."""
        if image.shape[1] != sum(self.channels):
            raise UserError(
                f"Streams: an image of {image.shape[1]} channels for streams of {self.channels}; "
                "set model.backbone.channels"
            )
        parts = image.split(self.channels, dim=1)
        outputs = [stream(part) for stream, part in zip(self.streams, parts, strict=True)]
        if len({len(levels) for levels in outputs}) > 1:
            raise UserError(
                f"Streams: {' and '.join(str(len(levels)) for levels in outputs)} levels; give all "
                "streams as many out_indices"
            )
        levels = chain(*zip(*outputs, strict=True))
        if not all(isinstance(output, Features) for output in outputs):
            return tuple(levels)
        maps = chain(*zip(*(output.maps for output in outputs), strict=True))
        return Features(levels, maps, outputs[0].image_size, outputs[0].zero_border)
