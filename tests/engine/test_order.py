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
    """Pairs of successive draws are, too; and 1/e of all are unseen after as many draws."""
    draws = drawn(70_000)
    pairs, expected = Counter(zip(draws[::2], draws[1::2], strict=True)), 70_000 / 98
    assert len(pairs) == IMAGES**2
    assert all(abs(found - expected) < 5 * expected**0.5 for found in pairs.values())
    unseen = 1 - len(set(drawn(2000, images=2000))) / 2000
    assert unseen == pytest.approx(1 / 2.71828, abs=0.02)


def test_the_draws_of_a_seed_stay(monkeypatch):
    """A run that is resumed by later code sees the same images, behind a block of draws too."""
    monkeypatch.setattr(order, "sync_random_seed", lambda: 3)
    for seed in (3, None):
        draws = drawn(1030, seed)
        assert draws[:8] == [5, 3, 3, 4, 0, 6, 2, 4]
        assert draws[1022:] == [0, 6, 2, 0, 1, 2, 5, 5]
    assert drawn(1030, seed=4) != draws


# --- batches from any one on, random numbers from the place --------------------------------------


def batches(sampler, begin: int, size: int = 3, **settings) -> PlacedBatches:
    made = PlacedBatches(sampler(Drawing(), seed=5), size, **settings)
    made.begin = begin
    return made


def places(made: PlacedBatches, number: int) -> list[list[tuple[int, int]]]:
    """Index and place of each image of the first batches."""
    return [[(int(index), index.place) for index in batch] for batch in islice(made, number)]


@pytest.mark.parametrize("sampler", [InfiniteSampler, DefaultSampler, ReplacementSampler])
def test_it_begins_anywhere(sampler):
    """Also behind the end of a sampler that has one: each pass has an order of its own."""
    whole = places(batches(sampler, 0), 9)
    flat = [place for batch in whole for place in batch]
    assert [place for _, place in flat] == list(range(len(flat)))
    assert len({tuple(index for index, _ in flat[i : i + 7]) for i in (0, 7)}) == 2
    for begin in range(1, 9):
        assert places(batches(sampler, begin), 9 - begin) == whole[begin:]


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
@pytest.mark.parametrize("sampler", [InfiniteSampler, ReplacementSampler])
def test_processes_share_one_order(sampler, world_size, monkeypatch):
    """They take turns at one stream; six images in each step are the same six."""
    alone, ranks = places(batches(sampler, 1, 6), 4), []
    for rank in range(world_size):
        for module in ("mmengine.dataset.sampler", "fcn_plugin.engine.order"):
            monkeypatch.setattr(f"{module}.get_dist_info", lambda rank=rank: (rank, world_size))
        ranks.append(places(batches(sampler, 1, 6 // world_size), 4))
    steps = [[place for turn in zip(*parts) for place in turn] for parts in zip(*ranks)]  # noqa: B905
    assert steps == alone


def test_what_a_batch_is_made_of():
    made = PlacedBatches(InfiniteSampler(Drawing(), seed=5), 3)
    assert list(made) == []  # nothing is read before it is told where to begin
    assert [len(batches(DefaultSampler, 0, drop_last=drop)) for drop in (False, True)] == [3, 2]
    with pytest.raises(UserError, match="single batch of 9; lower batch_size"):
        next(iter(batches(DefaultSampler, 0, 9, drop_last=True)))
    inner = dict(type="PlacedBatches", drop_last=True)  # another batch sampler may stand within
    made = batches(DefaultSampler, 0, batches=inner)
    made.batches.begin = 0
    assert [place for batch in places(made, 2) for _, place in batch] == list(range(6))


@pytest.mark.parametrize("workers", [0, 3])
def test_random_numbers_follow_from_the_place(workers):
    """Whoever reads, in whatever order; and where reading begins."""
    dataset, loaded = PlacedDataset(Drawing(), seed=1), []
    for begin in (0, 2):
        order = batches(InfiniteSampler, begin)
        loader = DataLoader(dataset, batch_sampler=order, num_workers=workers, collate_fn=list)
        loaded.append(list(islice(loader, 4 - begin)))
    assert loaded[0][2:] == loaded[1]
    flat = [sample for batch in loaded[0] for sample in batch]
    assert flat == [dataset[Place(sample[0], place)] for place, sample in enumerate(flat)]
    assert len({number for sample in flat for number in sample[1:]}) == 3 * len(flat)
    assert dataset[Place(0, 1)] != PlacedDataset(Drawing(), seed=2)[Place(0, 1)]


def test_the_numbers_of_the_process_go_on_as_before():
    def draw(begin: bool = False):
        if begin:
            random.seed(3), np.random.seed(3), torch.manual_seed(3)
        return random.random(), np.random.rand(), torch.rand(()).item()

    undisturbed = [draw(begin=True), draw()]
    first = draw(begin=True)
    with pytest.raises(KeyError), random_numbers(1, 2, 3):
        assert draw() not in undisturbed
        raise KeyError
    assert [first, draw()] == undisturbed


def test_by_a_mere_index_it_is_the_data_set():
    dataset = PlacedDataset(Drawing(), seed=1)
    assert dataset[4] != dataset[4]
    assert dataset.metainfo["classes"] == ("a", "b")
    assert len(pickle.loads(pickle.dumps(dataset))) == IMAGES
    place = pickle.loads(pickle.dumps(Place(3, 1 << 40)))
    assert (place, place.place) == (3, 1 << 40)
    with pytest.raises(AttributeError, match="nothing"):
        dataset.nothing  # noqa: B018


def test_damaged_images_are_errors_or_replaced():
    with pytest.raises(DamagedFile, match=r"2\.jpg"):
        PlacedDataset(Damaged(2), seed=1)[Place(2, 0)]
    for sound in (0, 6):  # the only one that is left
        bad = set(range(IMAGES)) - {sound}
        dataset = PlacedDataset(Damaged(*bad), seed=1, max_skipped=200)
        sample = dataset[Place(2, 0)]
        assert sample["index"] == sound
        faults = sample[SKIPPED].split("\n")
        assert faults[0].startswith("2.jpg") and len(faults) > 1
        assert dataset[Place(2, 0)] == sample
        assert dataset[Place(sound, 1)][SKIPPED] == ""
    with pytest.raises(DamagedFile, match=r"5 damaged images in a row, .* allows 4; the last: "):
        PlacedDataset(Damaged(*range(IMAGES)), seed=1, max_skipped=4)[Place(2, 0)]
