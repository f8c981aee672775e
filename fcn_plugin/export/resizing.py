"""The resizing of a test pipeline, as part of a graph."""

from typing import Any, NamedTuple

import torch
from mmcv.transforms import Resize
from mmengine.registry import TRANSFORMS
from torch import Tensor

from fcn_plugin.errors import UserError

ONE = 2048  # as a weight


class Resizing(NamedTuple):
    """What the host's ``Resize`` does to images.

    Attributes:
        scale: width and height, as the config has them; None if there are factors.
        keep_ratio: the largest size within ``scale``, whose longer side lies along the image's.
        factor: of the image's own width and height.
    """

    scale: tuple[int, int] | None = None
    keep_ratio: bool = False
    factor: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, step: dict) -> "Resizing | None":
        """That of a ``Resize`` in a pipeline's config; None if it leaves images as they are.

        Raises:
            UserError: it resizes in a way that graphs have not.
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
        found = cls(None, resize.keep_ratio, resize.scale_factor)
        return None if found == cls(None, resize.keep_ratio) else found

    def settings(self) -> dict[str, Any]:
        """For ``Resizing(**settings)``, without those that are not used."""
        size = {"scale": self.scale} if self.scale else {"factor": self.factor}
        return {**size, "keep_ratio": self.keep_ratio}

    def size(self, rows: int, cols: int) -> tuple[int, int]:
        """Of the network's image, for one of ``rows`` and ``cols``; these may be symbols."""
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

        It computes in integers, with weights of 2048, and drops digits on the way. So every runtime
        comes to the same.
        """
        rows, cols = self.size(image.shape[-2], image.shape[-1])
        (left, of_left), (right, of_right) = _neighbours(image.shape[-1], cols, image.device)
        # Left of the first centre and right of the last, all weight is on that pixel. Along a
        # column OpenCV leaves the weights, of twice the same pixel, and drops digits of both.
        outside = left == right
        of_left, of_right = torch.where(outside, ONE, of_left), torch.where(outside, 0, of_right)
        levels = image[..., left].to(torch.int32) * of_left
        levels = (levels + image[..., right].to(torch.int32) * of_right) // 16
        above, below = (
            levels[..., at, :] * weight[:, None] // 2**16
            for at, weight in _neighbours(image.shape[-2], rows, image.device)
        )
        return (above + below + 2) // 4


def _neighbours(length: int, wanted: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Which two of ``length`` pixels each of ``wanted`` is mixed of, and their weights."""
    at = torch.arange(wanted, device=device)
    # By the centres of the pixels, in OpenCV's order, which goes on in single precision.
    pixels = 1 / ((torch.ones_like(at) * wanted).double() / length)
    place = ((at + 0.5).double() * pixels - 0.5).float()
    first = torch.floor(place)
    weight = place - first
    return [
        (number.long().clamp(min=0, max=length - 1), torch.round(part * ONE).to(torch.int32))
        for number, part in ((first, 1 - weight), (first + 1, weight))
    ]
