"""Windows over an image, and what of each is taken.

Along one axis, for a margin of m:

    |<---- window 0 ---->|
    |   taken    |   m   |
              |<------ window 1 ------>|
              |  m |   taken       | m |

Windows begin at multiples of the network's stride, so that each lies on the grid of the whole
image. What a window's border makes different reaches as far as the network sees; with a margin of
that, what is taken is what the whole image would give.
"""

from typing import NamedTuple

from mmseg.models.segmentors import EncoderDecoder
from torch import nn

from fcn_plugin.geometry import receptive_field
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.skip_fusion import SkipFusionHead

# Of networks that do not tell, in pixels. Most see further, but weakly.
STRIDE, MARGIN = 32, 256
# A smaller one is all margin.
SMALLEST = 128


class Window(NamedTuple):
    """Pixels ``start`` .. ``stop - 1`` are seen, ``first`` .. ``beyond - 1`` are taken."""

    start: int
    stop: int
    first: int
    beyond: int


class Layout(NamedTuple):
    """How windows may lie along one axis: whole ``steps`` apart, ``margin`` lost at either side,
    and of ``base`` pixels and any number of steps."""

    step: int
    margin: int
    base: int = 0
    smallest: int = SMALLEST

    def size(self, most: int) -> int:
        """The largest window of at most ``most`` pixels."""
        return self.base + (most - self.base) // self.step * self.step

    def cut(self, length: int, size: int) -> list[Window]:
        """Windows of ``size`` over an axis of ``length``; the last ends with it.

        >>> [window[:] for window in Layout(step=8, margin=4).cut(length=50, size=32)]
        [(0, 32, 0, 28), (24, 50, 28, 50)]
        """
        if length <= size:
            return [Window(0, length, 0, length)]
        margin = min(self.margin, size // 3) if not self.base else self.margin
        stride = (size - 2 * margin) // self.step * self.step
        last = -(-(length - size) // self.step) * self.step
        starts = [*range(0, last, stride), last]
        taken = [0, *(start + margin for start in starts[1:]), length]
        return [
            Window(start, min(start + size, length), first, beyond)
            for start, first, beyond in zip(starts, taken[:-1], taken[1:], strict=True)
        ]


def layouts(model: nn.Module) -> tuple[Layout, Layout]:
    """For rows and columns.

    Where the config slides over images already (``test_cfg.mode='slide'``), windows are those of
    several of its crops: each pixel is the mean of the same crops as in the whole image.
    """
    test_cfg = getattr(model, "test_cfg", None) or {}
    if isinstance(model, EncoderDecoder) and test_cfg.get("mode") == "slide":
        rows, cols = (
            # So many steps that the image's last crop lies in the last window alone.
            Layout(step, crop - step, crop, crop + -(-crop // step) * step)
            for crop, step in zip(test_cfg["crop_size"], test_cfg["stride"], strict=True)
        )
        return rows, cols
    layout = Layout(STRIDE, MARGIN)
    backbone, head = getattr(model, "backbone", None), getattr(model, "decode_head", None)
    if isinstance(backbone, ConvolutionalizedClassifier) and isinstance(head, SkipFusionHead):
        # Upsampling looks one pixel of each level further.
        strides = [int(backbone.maps[index].scale) for index in head.in_index]
        field = receptive_field(layer for layers in backbone.layers for layer in layers)
        layout = Layout(max(strides), -(-field // 2) + sum(strides))
    return layout, layout
