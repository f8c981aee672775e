"""The Resize step of a test pipeline as part of an exported graph."""

from typing import Any, NamedTuple

import torch
from mmcv.transforms import Resize
from mmengine.registry import TRANSFORMS
from torch import Tensor

from fcn_plugin.errors import UserError

WHOLE = 2048  # the weights of two neighbours add up to this


class Resizing(NamedTuple):
    """Resizes images as mmcv's ``Resize`` does.

    Attributes:
        scale: (width, height), as in the config; None if ``factor`` is used.
        keep_ratio: keep the aspect ratio: take the largest size within ``scale``, whose longer
            side is the limit for the image's longer side.
        factor: factors of width and height.
    """

    scale: tuple[int, int] | None = None
    keep_ratio: bool = False
    factor: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, step: dict) -> "Resizing | None":
        """The resizing of a ``Resize`` step's config; None if it does not change images.

        Raises:
            UserError: the step does not use OpenCV's bilinear interpolation.
        """
        resize: Resize = TRANSFORMS.build(step)
        if (resize.interpolation, resize.backend) != ("bilinear", "cv2"):
            raise UserError(
                "the test pipeline has a Resize other than OpenCV's bilinear one; leave it to the "
                "users of the file: --no-resize"
            )
        if resize.scale:
            width, height = resize.scale
            return cls((width, height), resize.keep_ratio)
        resizing = cls(None, resize.keep_ratio, resize.scale_factor)
        return None if resizing.factor == (1.0, 1.0) else resizing

    def settings(self) -> dict[str, Any]:
        """Keyword arguments that make this resizing: ``Resizing(**settings)``."""
        size = {"scale": self.scale} if self.scale else {"factor": self.factor}
        return {**size, "keep_ratio": self.keep_ratio}

    def size(self, rows: int, cols: int) -> tuple[int, int]:
        """(H, W) of a resized image of ``rows`` x ``cols``, which may be symbolic."""
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
        """Resized images N x C x h x w, int32, equal to OpenCV's, from N x C x H x W in 0-255.

        OpenCV computes with integer weights that sum to 2048, and truncates in between. Integers
        also give the same result in every runtime.
        """
        rows, cols = self.size(image.shape[-2], image.shape[-1])
        (left, of_left), (right, of_right) = _neighbours(image.shape[-1], cols, image.device)
        # Beyond the first or last pixel centre of a row, that pixel has the full weight. In columns
        # OpenCV keeps two weights of the same pixel and truncates both products.
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
    """For each of ``wanted`` output pixels, its two input neighbours and their weights."""
    pixels = torch.arange(wanted, device=device)
    # Pixel centres, in OpenCV's order of operations; only the result is in single precision.
    step = 1 / ((torch.ones_like(pixels) * wanted).double() / length)
    at = ((pixels + 0.5).double() * step - 0.5).float()
    first = torch.floor(at)
    weight = at - first
    return [
        (pixel.long().clamp(min=0, max=length - 1), torch.round(part * WHOLE).to(torch.int32))
        for pixel, part in ((first, 1 - weight), (first + 1, weight))
    ]
