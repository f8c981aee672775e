"""The order of the training images, and what is drawn at random for each place in it."""

import pickle
import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import DataLoader

from fcn_plugin.engine import order
from fcn_plugin.engine.order import (
    SKIPPED,
    Place,
    PlacedBatches,
    PlacedDataset,
    ReplacementSampler,
    random_numbers,
)
from fcn_plugin.errors import DamagedFile, UserError

IMAGES = 7
# The draws of seed 3 from 7 images: the first ones, and those around the end of a block.
FIRST, ACROSS_A_BLOCK = [5, 3, 3, 4, 0, 6, 2, 4], [0, 6, 2, 0, 1, 2, 5, 5]


class Drawing:
    """Gives each index with a number from each of the three generators."""

    metainfo = dict(classes=("a", "b"))

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return int(index), random.random(), np.random.rand(), torch.rand(()).item()


class Damaged(Drawing):
    """Some images cannot be read."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad

    def __getitem__(self, index: int) -> dict:
        if index in self.bad:
            raise DamagedFile(f"{index}.jpg: damaged image; copy it again")
        return dict(index=int(index))


# --- sampling with replacement -------------------------------------------------------------------


def drawn(count: int, seed: int | None = 3, images: int = IMAGES) -> list[int]:
    """What a sampler as mmengine's runner builds it draws first."""
    given = dict(dataset=range(images), seed=seed)
    sampler = DATA_SAMPLERS.build(dict(type="ReplacementSampler"), default_args=given)
    assert len(sampler) == images
    first = list(islice(sampler, count))
    assert list(islice(sampler, count)) == first  # each iterator begins the stream anew
    return first


def test_every_image_is_as_likely_as_any_other():
    """Counts of n draws from k images have the variance n/k (1 - 1/k): here 93 each way.

    Pairs of successive draws, too; and 1/e of all images are unseen after as many draws.
    """
    count = 70_000
    draws = drawn(count)
    counts, pairs = Counter(draws), Counter(zip(draws[::2], draws[1::2], strict=True))
    assert set(counts) == set(range(IMAGES)) and len(pairs) == IMAGES**2
    expected, sigma = count / IMAGES, (count / 7 * 6 / 7) ** 0.5
    assert all(abs(found - expected) < 4 * sigma for found in counts.values())
    assert all(abs(found - count / 98) < 5 * (count / 98) ** 0.5 for found in pairs.values())
    unseen = 1 - len(set(drawn(2000, images=2000))) / 2000
    assert unseen == pytest.approx(1 / 2.71828, abs=0.02)


def test_the_seed_decides(monkeypatch):
    assert drawn(3000, seed=4) != drawn(3000)
    monkeypatch.setattr(order, "sync_random_seed", lambda: 3)
    assert drawn(10, seed=None) == drawn(10)


def test_the_draws_of_a_seed_stay():
    """A run that is resumed by later code sees the same images."""
    assert drawn(1030)[:8] == FIRST and drawn(1030)[1022:] == ACROSS_A_BLOCK


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_take_turns_at_one_stream(processes, monkeypatch):
    alone, shares = drawn(12), []
    for rank in range(processes):
        monkeypatch.setattr(order, "get_dist_info", lambda rank=rank: (rank, processes))
        shares.append(drawn(12 // processes))
    assert [index for turn in zip(*shares, strict=True) for index in turn] == alone
    assert shares[0] != shares[1]


# --- batches from any one on, random numbers from the place --------------------------------------


def batches(sampler, begin: int, size: int = 3, **settings) -> PlacedBatches:
    made = PlacedBatches(sampler(Drawing(), seed=5), size, **settings)
    made.begin = begin
    return made


def places(made: PlacedBatches, number: int) -> list[tuple[int, int]]:
    return [(int(index), index.place) for batch in islice(made, number) for index in batch]


@pytest.mark.parametrize("sampler", [InfiniteSampler, DefaultSampler, ReplacementSampler])
def test_it_begins_anywhere(sampler):
    """Also behind the end of a sampler that has one: each pass has an order of its own."""
    whole = places(batches(sampler, 0), 9)
    assert [place for _, place in whole] == list(range(len(whole)))
    for begin in range(1, 9):
        rest = places(batches(sampler, begin), 9 - begin)
        assert rest == whole[len(whole) - len(rest) :]
        assert len(rest) > 0
    assert len({tuple(whole[i : i + 7]) for i in (0, 7)}) == 2


def test_nothing_is_read_before_it_is_told_where_to_begin():
    made = PlacedBatches(InfiniteSampler(Drawing(), seed=5), 3)
    assert list(made) == []
    made.begin = 0
    assert len(places(made, 2)) == 6


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
@pytest.mark.parametrize("sampler", [InfiniteSampler, ReplacementSampler])
def test_processes_share_one_order(sampler, world_size, monkeypatch):
    """However many they are, six images in each step are the same six."""
    steps = []
    for rank in range(world_size):
        for module in ("mmengine.dataset.sampler", "fcn_plugin.engine.order"):
            monkeypatch.setattr(f"{module}.get_dist_info", lambda rank=rank: (rank, world_size))
        steps.append(
            [set(map(hold, batch)) for batch in islice(batches(sampler, 1, 6 // world_size), 4)]
        )
    monkeypatch.undo()
    alone = [set(map(hold, batch)) for batch in islice(batches(sampler, 1, 6), 4)]
    assert [set.union(*parts) for parts in zip(*steps, strict=True)] == alone


def hold(place: Place) -> tuple[int, int]:
    return int(place), place.place


def test_too_few_images_are_an_error():
    with pytest.raises(UserError, match="single batch of 9; lower batch_size"):
        next(iter(batches(DefaultSampler, 0, 9, drop_last=True)))
    assert [len(batches(DefaultSampler, 0, drop_last=drop)) for drop in (False, True)] == [3, 2]
    assert len(batches(DefaultSampler, 0)) == 3


def test_another_batch_sampler_may_stand_within():
    inner = dict(type="PlacedBatches", drop_last=True)
    made = PlacedBatches(DefaultSampler(Drawing(), seed=5), 3, batches=inner)
    made.begin, made.batches.begin = 0, 0
    assert [place for _, place in places(made, 2)] == list(range(6))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_random_numbers_follow_from_the_place(workers):
    """Whoever reads, in whatever order; and where reading begins."""
    loaded = []
    for begin in (0, 2):
        loader = DataLoader(
            PlacedDataset(Drawing(), seed=1),
            batch_sampler=batches(InfiniteSampler, begin),
            num_workers=workers,
            collate_fn=list,
        )
        loaded.append(list(islice(loader, 4 - begin)))
    assert loaded[0][2:] == loaded[1]
    dataset = PlacedDataset(Drawing(), seed=1)
    flat = [sample for batch in loaded[0] for sample in batch]
    assert flat == [dataset[Place(sample[0], place)] for place, sample in enumerate(flat)]
    assert len({number for sample in flat for number in sample[1:]}) == 3 * len(flat)
    assert dataset[Place(0, 1)] != PlacedDataset(Drawing(), seed=2)[Place(0, 1)]


def test_the_numbers_of_the_process_go_on_as_before():
    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    undisturbed = [draw(), draw()]
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    first = draw()
    with pytest.raises(KeyError), random_numbers(1, 2, 3):
        assert draw() not in undisturbed
        raise KeyError
    assert [first, draw()] == undisturbed


def test_a_place_survives_the_way_to_a_worker():
    place = pickle.loads(pickle.dumps(Place(3, 1 << 40)))
    assert (place, place.place) == (3, 1 << 40)


def test_by_a_mere_index_it_is_the_data_set():
    dataset = PlacedDataset(Drawing(), seed=1)
    assert dataset[4] != dataset[4]
    assert dataset.metainfo["classes"] == ("a", "b")
    assert len(pickle.loads(pickle.dumps(dataset))) == IMAGES
    with pytest.raises(AttributeError, match="nothing"):
        dataset.nothing  # noqa: B018


def test_damaged_images_are_errors_or_replaced():
    with pytest.raises(DamagedFile, match=r"2\.jpg"):
        PlacedDataset(Damaged(2), seed=1)[Place(2, 0)]
    dataset = PlacedDataset(Damaged(*range(6)), seed=1, max_skipped=200)
    sample = dataset[Place(2, 0)]
    assert sample["index"] == 6  # the only one that is left
    faults = sample[SKIPPED].split("\n")
    assert faults[0].startswith("2.jpg") and len(faults) > 1
    assert dataset[Place(2, 0)] == sample
    assert dataset[Place(6, 1)][SKIPPED] == ""
    with pytest.raises(DamagedFile, match=r"5 damaged images in a row, .* allows 4; the last: "):
        PlacedDataset(Damaged(*range(IMAGES)), seed=1, max_skipped=4)[Place(2, 0)]
