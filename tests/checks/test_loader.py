"""Workers of data loaders: enough open files, or a word; and no waiting for ever."""

import resource

import pytest
from mmengine.config import Config

from fcn_plugin.checks.config import PATIENCE, prepare_loaders
from fcn_plugin.errors import UserError

KEYS = ("train_dataloader", "val_dataloader")


def config(**train) -> Config:
    loader = dict(batch_size=16, num_workers=4)
    return Config(dict(train_dataloader=loader | train, val_dataloader=dict(num_workers=0)))


@pytest.fixture
def limits(monkeypatch):
    """Of open files, soft and hard; the test's own stay."""
    limits = [64, 64]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.__setitem__(slice(None), new))
    return limits


def test_a_worker_is_not_waited_for_for_ever(limits):
    limits[:] = 1024, 1024
    cfg = config()
    prepare_loaders(cfg, KEYS)
    assert cfg.train_dataloader.timeout == PATIENCE
    assert "timeout" not in cfg.val_dataloader  # which PyTorch refuses without workers
    cfg = config(timeout=5)
    prepare_loaders(cfg, (*KEYS, "test_dataloader"))
    assert cfg.train_dataloader.timeout == 5


def test_a_loader_that_is_switched_off(limits):
    limits[:] = 1024, 1024
    cfg = config()
    cfg.val_dataloader = None
    prepare_loaders(cfg, KEYS)
    assert cfg.train_dataloader.timeout == PATIENCE and cfg.val_dataloader is None


@pytest.mark.parametrize("hard", [64, 100, 150])
def test_too_few_open_files_are_told_before_the_run(limits, hard):
    limits[:] = 64, hard
    with pytest.raises(UserError, match=rf"train_dataloader: its .* ulimit -n allows {hard}; "):
        prepare_loaders(config(), KEYS)
    prepare_loaders(config(num_workers=0), KEYS)
    prepare_loaders(config(), KEYS[1:])


@pytest.mark.parametrize("hard", [400, 4096, resource.RLIM_INFINITY])
def test_the_limit_is_raised_as_far_as_it_may_be(limits, hard):
    limits[:] = 64, hard
    prepare_loaders(config(), KEYS)
    assert 2 * 2 * 16 * 4 < limits[0] <= (1000 if hard != 400 else 400) and limits[1] == hard
    limits[:] = 100_000, 100_000
    prepare_loaders(config(), KEYS)
    assert limits == [100_000, 100_000]
