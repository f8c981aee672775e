"""Pictures to try a network on."""

import torch
from torch import Tensor
from torch.nn import functional


def pictures(number: int, size: tuple[int, int]) -> Tensor:
    """N x H x W x 3, uint8: coloured clouds with some noise, the same ones each time."""
    random = torch.Generator().manual_seed(0)
    clouds = torch.rand(number, 3, 6, 8, generator=random) * 255
    smooth = functional.interpolate(clouds, size, mode="bicubic", align_corners=False)
    noise = torch.randn(number, 3, *size, generator=random) * 8
    return (smooth + noise).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
