"""The training images in one endless order, and random numbers that follow from a place in it.

The host's workers each draw from a stream of their own, so that what happens to an image depends on
all that the same worker read before: to resume, everything has to be read again. Here it depends on
the seed and on the image's place alone. A run can begin anywhere, with any number of workers, and
with any number of processes whose batches make up the same number of images.
"""

import random
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmseg.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import BatchSampler, Sampler

from fcn_plugin.errors import DamagedFile, UserError

IMAGES, STEPS = 1, 2  # what random numbers are for, so that none are used twice
SKIPPED = "skipped"  # of a sample: what is wrong with the images it stands in for, a line for each


class Place(int):
    """The index of an image in its data set, and its place in the order of all processes."""

    place: int

    def __new__(cls, index: int, place: int) -> "Place":
        made = super().__new__(cls, index)
        made.place = place
        return made

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return int(self), self.place


@DATA_SAMPLERS.register_module()
class PlacedBatches(Sampler[list[Place]]):
    """The batches of this process, without end, from any one on.

    Process r of W takes the places r, r + W, r + 2W, ... of the common order.

    Args:
        sampler: Draws the indices for this process, the same ones in every run.
        batch_size: Images in a batch, of each process.
        drop_last: Drop an incomplete batch at the end of a finite ``sampler``.
        batches: Config of another batch sampler, as for the host's data loader.

    Attributes:
        begin: The batch to begin with; None yields nothing, so that a data loader may be started
            before it is known what to read.
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
    """A data set that is asked for images by their ``Place``.

    Whatever draws random numbers on the way (Python's, NumPy's, or torch's for the CPU) draws the
    same for the same place. By a mere index it gives what the data set gives. All else is that of
    the data set.

    Args:
        dataset: The data set or its config.
        seed: Of the random numbers.
        max_skipped: Images that cannot be read are replaced by others, drawn at random, at most so
            many in a row, and named under ``skipped`` in the sample. None: they are errors.
    """

    def __init__(self, dataset: Sized | dict, seed: int, max_skipped: int | None = None) -> None:
        self.dataset: Any = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed, self.max_skipped = seed, max_skipped

    def __getattr__(self, name: str) -> Any:
        # Not yet there while it is unpickled; and what Python or a data loader ask for by such
        # names, as many samples at once, would pass the seed by.
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
        """The sample at ``index``, or of another image if that one cannot be read."""
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
    """Within the block, the random numbers of ``seed``; afterwards they go on as before.

    A GPU's are left alone.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    torch.default_generator.manual_seed(_seeded(seed))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def begin_random_numbers(*seed: int) -> None:
    """From here on, the random numbers of ``seed``, on every device."""
    torch.manual_seed(_seeded(seed))


def _seeded(seed: tuple[int, ...]) -> int:
    """Seed Python and NumPy; returns an unrelated seed for torch."""
    of_python, of_numpy, of_torch = np.random.SeedSequence(seed).generate_state(3).tolist()
    random.seed(of_python)
    np.random.seed(of_numpy)
    return of_torch
