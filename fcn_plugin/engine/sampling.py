"""The order of the training images."""

from collections.abc import Iterator, Sized
from itertools import islice

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

BLOCK = 1024  # indices drawn at a time; another number draws others


@DATA_SAMPLERS.register_module()
class ReplacementSampler(Sampler[int]):
    """Indices without end, each drawn from all images alike (Caffe ``voc_layers.py``).

    Of N images a fraction of 1/e is still unseen after N draws, where the host's
    ``InfiniteSampler`` has gone through all of them. Made for training by iterations.

    The processes take turns at one common stream, so that all of them together see the same
    images however many they are. The stream follows from the seed, and every iterator begins it
    anew.

    Args:
        dataset: the data set to draw from.
        seed: of the stream, the same in every process; default: one that they agree upon.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.seed = sync_random_seed() if seed is None else seed

    def __iter__(self) -> Iterator[int]:
        return islice(self._stream(), self.rank, None, self.world_size)

    def _stream(self) -> Iterator[int]:
        """What all processes draw together."""
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield from torch.randint(self.size, (BLOCK,), generator=generator).tolist()

    def __len__(self) -> int:
        return self.size
