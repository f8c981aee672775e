"""Sampling with replacement: uniform, endless, repeatable, shared by the processes."""

from collections import Counter
from itertools import islice

import pytest
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import DataLoader

from fcn_plugin.engine import ReplacementSampler, order

IMAGES = list(range(100, 107))


def build(seed: int | None = 3, images=IMAGES) -> ReplacementSampler:
    return DATA_SAMPLERS.build(dict(type="ReplacementSampler"), default_args=_given(images, seed))


def _given(images, seed) -> dict:
    """As the host's runner gives them."""
    return dict(dataset=images, seed=seed)


def drawn(sampler, count: int) -> list[int]:
    return list(islice(sampler, count))


def test_every_image_is_as_likely_as_any_other():
    """Counts of n draws from k images have the variance n/k (1 - 1/k): here 93 each way."""
    count = 70_000
    counts = Counter(drawn(build(), count))
    assert set(counts) == set(range(len(IMAGES)))
    expected, sigma = count / len(IMAGES), (count / 7 * 6 / 7) ** 0.5
    assert all(abs(found - expected) < 4 * sigma for found in counts.values())


def test_with_replacement():
    """After N draws from N images 1/e of them are unseen; a permutation leaves none."""
    images = range(2000)
    unseen = 1 - len(set(drawn(build(images=images), 2000))) / 2000
    assert unseen == pytest.approx(1 / 2.71828, abs=0.02)


def test_successive_draws_know_nothing_of_each_other():
    pairs = Counter(zip(*[iter(drawn(build(), 98_000))] * 2, strict=True))
    assert len(pairs) == len(IMAGES) ** 2
    assert all(abs(found - 1000) < 5 * 1000**0.5 for found in pairs.values())


def test_the_seed_decides():
    first = drawn(build(), 3000)
    assert drawn(build(), 3000) == first
    assert drawn(build(seed=4), 3000) != first


def test_every_iterator_begins_the_stream_anew():
    """So that replaying a data loader leads to where an interrupted run was."""
    sampler = build()
    assert drawn(sampler, 10) == drawn(sampler, 10)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_take_turns_at_one_stream(processes, monkeypatch):
    alone = drawn(build(), 12)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(order, "get_dist_info", lambda rank=rank: (rank, processes))
        shares.append(drawn(build(), 12 // processes))
    assert [index for turn in zip(*shares, strict=True) for index in turn] == alone
    assert shares[0] != shares[1]


def test_without_a_seed_one_is_agreed_upon(monkeypatch):
    monkeypatch.setattr(order, "sync_random_seed", lambda: 3)
    assert drawn(build(seed=None), 10) == drawn(build(seed=3), 10)


@pytest.mark.parametrize("workers", [0, 2])
def test_in_a_data_loader_it_never_ends(workers):
    sampler = build()
    assert len(sampler) == len(IMAGES)
    loader = DataLoader(IMAGES, batch_size=2, sampler=sampler, num_workers=workers)
    batches = list(islice(loader, 20))
    found = [int(image) for batch in batches for image in batch]
    assert found == [IMAGES[index] for index in drawn(sampler, 40)]
