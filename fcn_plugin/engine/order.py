"""One endless order of the training images; random numbers depend on the place in it.

In mmengine each worker has its own stream of random numbers: how an image is augmented depends on
all images its worker read before, so a resumed run has to read everything again. Here it depends
only on the seed and the image's place in the order. A run can start anywhere, with any number of
workers, and with any number of processes whose batches add up to the same number of images.
"""

import random
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmseg.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import BatchSampler, Sampler

from fcn_plugin.errors import DamagedFile, UserError

IMAGES, STEPS = 1, 2  # part of a seed: images and steps never share random numbers
SKIPPED = "skipped"  # key of a sample: one line for each damaged image it replaces
BLOCK = 1024  # indices drawn at a time


@DATA_SAMPLERS.register_module()
class ReplacementSampler(Sampler[int]):
    """Endless indices, each drawn uniformly from all images (Caffe ``voc_layers.py``).

    After N draws from N images about N/e images were never drawn; mmengine's ``InfiniteSampler``
    would have drawn each once. For training by iterations.

    The processes take turns with one common stream: together they draw the same images, whatever
    their number. Every iterator starts the stream anew.

    Args:
        dataset: The data set to draw from.
        seed: Seed of the stream, the same in every process; by default a common random one.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.seed = sync_random_seed() if seed is None else seed

    def __iter__(self) -> Iterator[int]:
        return islice(self._stream(), self.rank, None, self.world_size)

    def _stream(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield from torch.randint(self.size, (BLOCK,), generator=generator).tolist()

    def __len__(self) -> int:
        return self.size


class Place(int):
    """An image's index in its data set, with its place in the order of all processes."""

    place: int

    def __new__(cls, index: int, place: int) -> "Place":
        indexed = super().__new__(cls, index)
        indexed.place = place
        return indexed

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return int(self), self.place


@DATA_SAMPLERS.register_module()
class PlacedBatches(Sampler[list[Place]]):
    """Endless batches for this process, starting at any batch.

    Process r of W takes the places r, r + W, r + 2W, ... of the common order.

    Args:
        sampler: Draws the indices for this process, the same ones in every run.
        batch_size: Images in a batch, of each process.
        drop_last: Drop an incomplete batch at the end of a finite ``sampler``.
        batches: Config of another batch sampler, as for mmengine's data loader.

    Attributes:
        begin: Number of the first batch; None yields nothing, for a data loader that is built
            before the number is known.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        drop_last: bool = False,
        batches: dict | None = None,
    ) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        if batches is None:
            self.batches: Any = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.batches = DATA_SAMPLERS.build(
                batches, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        self.rank, self.world_size = get_dist_info()
        self.begin: int | None = None

    def __iter__(self) -> Iterator[list[Place]]:
        if self.begin is None:
            return
        place = self.rank
        for number, batch in enumerate(self._endless()):
            places = range(place, place + len(batch) * self.world_size, self.world_size)
            place = places.stop
            if number >= self.begin:
                yield [Place(index, at) for index, at in zip(batch, places, strict=True)]

    def _endless(self) -> Iterator[list[int]]:
        for epoch in count():
            if hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(epoch)
            batch = None
            for batch in self.batches:
                yield batch
            if batch is None:
                raise UserError(
                    "train_dataloader: its images do not make a single batch of "
                    f"{self.batch_size}; lower batch_size, or set drop_last=False"
                )

    def __len__(self) -> int:
        """Batches in one pass of a finite sampler."""
        return len(self.batches)


@DATASETS.register_module()
class PlacedDataset:
    """A data set whose random numbers depend only on ``seed`` and the image's ``Place``.

    Python's, NumPy's and torch's CPU generators give the same numbers for the same place. With a
    plain index, and in everything else, it behaves as ``dataset`` itself.

    Args:
        dataset: The data set or its config.
        seed: Seed of the random numbers.
        max_skipped: At most this many damaged images in a row are replaced by random others (and
            named under ``skipped`` in the sample). None: a damaged image is an error.
    """

    def __init__(self, dataset: Sized | dict, seed: int, max_skipped: int | None = None) -> None:
        self.dataset: Any = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed, self.max_skipped = seed, max_skipped

    def __getattr__(self, name: str) -> Any:
        # "dataset" does not exist yet during unpickling. Forwarding __getitems__, with which a
        # data loader fetches many samples at once, would bypass the seed.
        if name == "dataset" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> Any:
        if not isinstance(place, Place):
            return self.dataset[place]
        with random_numbers(IMAGES, self.seed, place.place):
            return self.dataset[place] if self.max_skipped is None else self._readable(place)

    def _readable(self, index: int) -> Any:
        """The sample at ``index``, or another one if that image is damaged."""
        try:
            return dict(self.dataset[index], **{SKIPPED: ""})
        except DamagedFile as fault:
            faults = [str(fault)]
        others = (int(other) for other in np.random.permutation(len(self)) if other != index)
        for other in islice(others, self.max_skipped):
            try:
                return dict(self.dataset[other], **{SKIPPED: "\n".join(faults)})
            except DamagedFile as fault:
                faults.append(str(fault))
        raise DamagedFile(
            f"{len(faults)} damaged images in a row, train_cfg.max_unreadable allows "
            f"{self.max_skipped}; the last: {faults[-1]}"
        )


@contextmanager
def random_numbers(*seed: int) -> Iterator[None]:
    """Seed the CPU's random generators within the block and restore them afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    torch.default_generator.manual_seed(_seeded(seed))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def begin_random_numbers(*seed: int) -> None:
    """Seed the random generators of every device."""
    torch.manual_seed(_seeded(seed))


def _seeded(seed: tuple[int, ...]) -> int:
    """Seed Python and NumPy; returns an unrelated seed for torch."""
    python_seed, numpy_seed, torch_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    random.seed(python_seed)
    np.random.seed(numpy_seed)
    return torch_seed
