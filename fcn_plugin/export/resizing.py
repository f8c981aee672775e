"""The resizing of a test pipeline, as part of a graph."""

from typing import Any, NamedTuple

import torch
from mmcv.transforms import Resize
from mmengine.registry import TRANSFORMS
from torch import Tensor

from fcn_plugin.errors import UserError

WHOLE = 2048  # the weights of two neighbours add up to this


class Resizing(NamedTuple):
    """What mmcv's ``Resize`` does to images.

    Attributes:
        scale: width and height, as the config has them; None if there are factors.
        keep_ratio: take the largest size within ``scale``, whose longer side lies along the
            image's.
        factor: factors of the image's width and height.
    """

    scale: tuple[int, int] | None = None
    keep_ratio: bool = False
    factor: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, step: dict) -> "Resizing | None":
        """From a ``Resize`` in a pipeline's config; None if it leaves images as they are.

        Raises:
            UserError: it resizes in another way than bilinear by OpenCV.
        """
        resize: Resize = TRANSFORMS.build(step)
        if (resize.interpolation, resize.backend) != ("bilinear", "cv2"):
            raise UserError(
                "the test pipeline has another Resize than bilinear by OpenCV; leave it to whoever "
                "uses the file: --no-resize"
            )
        if resize.scale:
            width, height = resize.scale
            return cls((width, height), resize.keep_ratio)
        resizing = cls(None, resize.keep_ratio, resize.scale_factor)
        return None if resizing.factor == (1.0, 1.0) else resizing

    def settings(self) -> dict[str, Any]:
        """For ``Resizing(**settings)``, without the unused ones."""
        size = {"scale": self.scale} if self.scale else {"factor": self.factor}
        return {**size, "keep_ratio": self.keep_ratio}

    def size(self, rows: int, cols: int) -> tuple[int, int]:
        """(H, W) of the network's image, for one of ``rows`` and ``cols``; these may be symbols."""
        width, height = self.scale or (
            torch.sym_int(side * factor + 0.5)
            for side, factor in zip((cols, rows), self.factor, strict=True)
        )
        if not self.keep_ratio:
            return height, width
        factor = torch.sym_min(
            torch.sym_max(width, height) / torch.sym_max(rows, cols),
            torch.sym_min(width, height) / torch.sym_min(rows, cols),
        )
        return torch.sym_int(rows * factor + 0.5), torch.sym_int(cols * factor + 0.5)

    def __call__(self, image: Tensor) -> Tensor:
        """N x C x H x W of 0-255 to int32, the levels that OpenCV gives.

        OpenCV computes in integers, with weights of 2048, and drops digits on the way; in integers
        every runtime gives the same.
        """
        rows, cols = self.size(image.shape[-2], image.shape[-1])
        (left, of_left), (right, of_right) = _neighbours(image.shape[-1], cols, image.device)
        # Left of the first centre and right of the last, that pixel has all weight. Along a column
        # OpenCV keeps two weights of the same pixel, and drops digits of both.
        outside = left == right
        of_left = torch.where(outside, WHOLE, of_left)
        of_right = torch.where(outside, 0, of_right)
        levels = image[..., left].to(torch.int32) * of_left
        levels = (levels + image[..., right].to(torch.int32) * of_right) // 16
        above, below = (
            levels[..., at, :] * weight[:, None] // 2**16
            for at, weight in _neighbours(image.shape[-2], rows, image.device)
        )
        return (above + below + 2) // 4


def _neighbours(length: int, wanted: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """The two of ``length`` pixels around each of ``wanted``, each with its weights."""
    pixels = torch.arange(wanted, device=device)
    # The centres of the pixels, in OpenCV's order of operations, the last in single precision.
    step = 1 / ((torch.ones_like(pixels) * wanted).double() / length)
    at = ((pixels + 0.5).double() * step - 0.5).float()
    first = torch.floor(at)
    weight = at - first
    return [
        (pixel.long().clamp(min=0, max=length - 1), torch.round(part * WHOLE).to(torch.int32))
        for pixel, part in ((first, 1 - weight), (first + 1, weight))
    ]
