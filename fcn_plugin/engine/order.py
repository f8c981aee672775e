"""The training images in one endless order, and random numbers that follow from a place in it.

mmengine's workers each draw from a stream of their own: what happens to an image depends on all
that its worker read before, so that a resumed run has to read everything again. Here it depends on
the seed and the image's place alone. A run can begin anywhere, with any number of workers, and with
any number of processes whose batches add up to the same number of images.
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

IMAGES, STEPS = 1, 2  # what random numbers are for, so that none are used twice
SKIPPED = "skipped"  # key of a sample: a line for each damaged image that it replaces
BLOCK = 1024  # indices drawn at a time


@DATA_SAMPLERS.register_module()
class ReplacementSampler(Sampler[int]):
    """Endless indices, each drawn from all images alike (Caffe ``voc_layers.py``).

    After N draws from N images a fraction of 1/e is still unseen, where mmengine's
    ``InfiniteSampler`` has gone through all of them. For training by iterations.

    The processes take turns at one common stream: together they see the same images however many
    they are. Every iterator begins the stream anew.

    Args:
        dataset: The data set to draw from.
        seed: Of the stream, the same in every process; by default they agree upon one.
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
    """The index of an image in its data set, and its place in the order of all processes."""

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
        begin: The first batch; None yields nothing, so that a data loader can be built before it
            is known what to read.
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
    """A data set whose random numbers follow from the ``Place`` of the image asked for.

    Whatever draws random numbers on the way (Python's, NumPy's, or torch's for the CPU) draws the
    same for the same place. By a plain index, and in all else, it is the data set itself.

    Args:
        dataset: The data set or its config.
        seed: Of the random numbers.
        max_skipped: So many damaged images in a row are replaced by others, drawn at random, and
            named under ``skipped`` in the sample. None: a damaged image is an error.
    """

    def __init__(self, dataset: Sized | dict, seed: int, max_skipped: int | None = None) -> None:
        self.dataset: Any = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed, self.max_skipped = seed, max_skipped

    def __getattr__(self, name: str) -> Any:
        # "dataset" is missing while this is unpickled. Names such as __getitems__, by which a data
        # loader takes many samples at once, would bypass the seed.
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
    """Draw from ``seed`` within the block, afterwards as before; a GPU's numbers are left alone."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    torch.default_generator.manual_seed(_seeded(seed))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def begin_random_numbers(*seed: int) -> None:
    """Draw from ``seed`` from here on, on every device."""
    torch.manual_seed(_seeded(seed))


def _seeded(seed: tuple[int, ...]) -> int:
    """Seed Python and NumPy; returns an unrelated seed for torch."""
    python_seed, numpy_seed, torch_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    random.seed(python_seed)
    np.random.seed(numpy_seed)
    return torch_seed
