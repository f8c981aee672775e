"""Pictures to try a network on."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from fcn_plugin.export.deployed import Deployed

SPREAD = 64  # levels that stand for one standard deviation


def examples(
    deployed: "Deployed", number: int, size: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """N x H x W x C for a network: ``pictures``, or floats of that type around its mean pixel."""
    images = pictures(number, size, deployed.channels)
    if dtype == torch.uint8:
        return images
    levels = (images.to(dtype) - 127.5) / SPREAD
    if deployed.normal is None:
        return levels
    mean, std = (value.flatten().to(levels) for value in deployed.normal)
    return levels * std + mean


def pictures(number: int, size: tuple[int, int], channels: int = 3) -> Tensor:
    """N x H x W x C, uint8: coloured clouds with some noise, the same ones each time."""
    random = torch.Generator().manual_seed(0)
    clouds = torch.rand(number, channels, 6, 8, generator=random) * 255
    smooth = functional.interpolate(clouds, size, mode="bicubic", align_corners=False)
    noise = torch.randn(number, channels, *size, generator=random) * 8
    return (smooth + noise).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
