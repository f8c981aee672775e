"""The largest batch that fits, by trial, and a config that is changed in proportion to it."""

from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from tools.running import REPOSITORY, config

from fcn_plugin.checks import batch as batches
from fcn_plugin.checks.batch import Trial, Trials, fit_batch, largest_batch, set_batch
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.shapes import write_shapes

SIZES = [1, 2, 4, 8, 16]
USED, WEIGHTS, IMAGE = 100, 50, 7  # bytes


def memory(batch: int) -> int:
    return USED + WEIGHTS + IMAGE * batch


@pytest.mark.parametrize("says_so", [True, False])
def test_the_largest_that_fits_is_taken(says_so):
    """Of a device that has no more, or that would kill the process; then none is tried in vain."""
    for most in range(USED, memory(20)):
        tried: list[int] = []

        def step(size: int, most=most, tried=tried) -> Trial:
            tried.append(size)
            if says_so and memory(size) > most:
                raise torch.OutOfMemoryError
            return Trial(size, 0.1 * size, memory(size))

        best = largest_batch(SIZES, step, USED, lambda most=most: most)
        fitting = [size for size in SIZES if memory(size) <= most]
        # Of a single trial it is not known which part grows with the batch.
        cautious = memory(1) <= most < memory(1) + WEIGHTS + IMAGE
        expected = 1 if cautious else max(fitting, default=None)
        assert (best and best.batch) == expected
        if not says_so:
            assert [size for size in tried if memory(size) > most] in ([], [1])


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "data/shapes", train=6, val=2, size=32)
    return Config.fromfile(config(tmp_path))


def test_a_config_whose_batch_fits_stays_as_it_is(cfg):
    text = cfg.pretty_text
    lines = fit_batch(cfg)
    assert cfg.pretty_text == text
    assert lines[0].startswith("--batch auto: 4 of the config's 4 images in a batch; ")
    assert len(lines) == 2 and "4 iterations will take about" in lines[1]


def test_a_smaller_batch_trains_longer_at_a_lower_rate(cfg, monkeypatch):
    step = Trials.step
    monkeypatch.setattr(
        Trials, "step", lambda self, size: step(self, size)._replace(memory=memory(size))
    )
    monkeypatch.setattr(batches.Room, "used", lambda self: USED + WEIGHTS)
    monkeypatch.setattr(batches.Room, "most", lambda self: float(memory(3)))
    rate = cfg.optim_wrapper.optimizer.lr
    lines = fit_batch(cfg)
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == 8
    assert cfg.optim_wrapper.optimizer.lr == rate / 2
    assert "0.5 times the batch, 2 times the iterations and 0.5 times the learning rate" in lines[1]
    assert "8 iterations will take about" in lines[2]
    monkeypatch.setattr(batches.Room, "most", lambda self: 1.0)
    with pytest.raises(UserError, match=r"^--batch auto: a batch of 2 does not fit into"):
        fit_batch(cfg)


def test_everything_that_counts_iterations_is_stretched():
    cfg = Config.fromfile(REPOSITORY / "configs/fcn8s_vgg16_shapes.py")
    before = deepcopy(cfg)
    cfg.default_hooks.ema = dict(type="EMAHook", begin_iter=80, momentum=0.02)
    cfg.param_scheduler.append(dict(type="MultiStepLR", milestones=[5, 7], by_epoch=False))
    cfg.param_scheduler.append(dict(type="PolyLR", begin=1, end=9, by_epoch=True))
    said = set_batch(cfg, before.train_dataloader.batch_size // 4)
    assert cfg.train_dataloader.batch_size == before.train_dataloader.batch_size / 4
    assert cfg.train_cfg.max_iters == 4 * before.train_cfg.max_iters
    assert cfg.train_cfg.val_interval == 4 * before.train_cfg.val_interval
    assert cfg.default_hooks.checkpoint.interval == 4 * before.default_hooks.checkpoint.interval
    for after, schedule in zip(cfg.param_scheduler, before.param_scheduler, strict=False):
        assert (after.begin, after.end) == (4 * schedule.begin, 4 * schedule.end)
    assert cfg.param_scheduler[2]["milestones"] == [20, 28] and cfg.param_scheduler[3]["end"] == 9
    assert cfg.default_hooks.ema.begin_iter == 320 and cfg.default_hooks.ema.momentum == 0.005
    assert cfg.optim_wrapper.optimizer.lr == before.optim_wrapper.optimizer.lr / 4
    assert said.endswith(
        "train_dataloader.batch_size=8 train_cfg.max_iters=3200 optim_wrapper.optimizer.lr=0.001"
    )
