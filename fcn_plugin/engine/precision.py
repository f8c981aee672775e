"""Whether bfloat16 is worth it on this CPU."""

import time

import torch
from torch import Tensor
from torch.nn import functional

# Of a convolution in the middle of VGG16, large enough to fill the cores.
CHANNELS, SIDE, REPEATS = 128, 64, 5


@torch.no_grad()
def bfloat16_ratio() -> float:
    """The time of a convolution in bfloat16 over that in float32, on this machine now.

    Both take turns, and the fastest of each counts, which other work on the machine disturbs least;
    about a tenth of a second. CPUs without instructions for bfloat16 convert every number.
    """
    images = torch.ones(1, CHANNELS, SIDE, SIDE).to(memory_format=torch.channels_last)
    weights = torch.ones(CHANNELS, CHANNELS, 3, 3).to(memory_format=torch.channels_last)
    pairs = [(images, weights), (images.bfloat16(), weights.bfloat16())]
    taken: list[list[float]] = [[], []]
    for _ in range(REPEATS + 1):
        for pair, seconds in zip(pairs, taken, strict=True):
            seconds.append(_seconds(*pair))
    single, half = (min(seconds[1:]) for seconds in taken)  # the first call chooses its way
    return half / single


def _seconds(images: Tensor, weights: Tensor) -> float:
    start = time.perf_counter()
    functional.conv2d(images, weights, padding=1)
    return time.perf_counter() - start
