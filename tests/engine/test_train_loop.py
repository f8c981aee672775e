"""A run that is stopped and resumed ends as one that never stopped."""

import copy
import multiprocessing
from pathlib import Path

import cv2
import pytest
import torch
from engine.runs import NO_SCORES, Noise, log_of, result, runner, same
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from fcn_plugin.errors import DamagedFile, UserError

RUNTIME = Path(__file__).parents[2] / "configs" / "_base_" / "runtime.py"


class Stop(Exception):
    pass


class StopHook(Hook):
    """Also counts the most workers that a run had."""

    def __init__(self, at: int | None) -> None:
        self.at, self.others, self.workers = at, len(multiprocessing.active_children()), 0

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        workers = len(multiprocessing.active_children()) - self.others
        self.workers = max(self.workers, workers)
        if batch_idx == self.at:
            raise Stop


def ran(folder: Path, iterations: int = 8, at: int | None = None, **settings) -> Runner:
    """A run after its end, which comes before iteration ``at`` is done."""
    run = runner(folder, iterations, **copy.deepcopy(settings))
    run.stop = StopHook(at)
    run.register_hook(run.stop)
    if at is None:
        run.train()
    else:
        with pytest.raises(Stop):
            run.train()
    return run


def resumed(folder: Path, at: int = 5, **settings) -> Runner:
    ran(folder, at=at, **settings)
    return ran(folder, resume=True, **settings)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    return result(ran(tmp_path_factory.mktemp("undisturbed")))


@pytest.mark.parametrize("at", range(2, 8))
def test_stopped_and_resumed(undisturbed, tmp_path, at):
    assert same(result(resumed(tmp_path, at)), undisturbed)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(undisturbed, tmp_path, workers):
    """There is no second set of them: not of mmengine's iterator, nor of a loader that is rebuilt.

    A run without a seed in its config draws one, and takes its checkpoint's as it goes on.
    """
    loader = dict(num_workers=workers)
    ran(tmp_path, at=5, loader=loader)
    run = ran(tmp_path, resume=True, loader=loader, randomness=dict(seed=None))
    assert same(result(run), undisturbed)
    assert run.stop.workers == workers


class Threads(Noise):
    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.tensor([cv2.getNumThreads(), torch.get_num_threads()]))


@pytest.fixture
def many_threads():
    """OpenCV and PyTorch use several threads."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(4)
    torch.set_num_threads(3)
    yield
    cv2.setNumThreads(before[0])
    torch.set_num_threads(before[1])


def test_a_worker_uses_one_thread(tmp_path, many_threads):
    """Of OpenCV and of PyTorch, so that as many workers as cores do not hinder each other."""
    env = Config.fromfile(RUNTIME).env_cfg
    loader = dict(num_workers=2)
    run = runner(tmp_path, dataset=Threads(), loader=loader, env_cfg=env, **NO_SCORES)
    batches = run.train_loop.dataloader
    batches.batch_sampler.begin = 0
    workers = iter(batches)
    assert [next(workers)["inputs"].tolist() for _ in range(2)] == [[[1, 1]] * 2] * 2


class Whole(Noise):
    """Hands out several samples at once, as torch's ``Subset`` does."""

    def __getitems__(self, indices: list[int]) -> list[dict]:
        return [super(Whole, self).__getitem__(index) for index in indices]


ADAMW = dict(type="BFloat16OptimWrapper", optimizer=dict(type="AdamW", lr=0.1, amsgrad=True))
ACCUMULATED = dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9), accumulative_counts=2)
PLATEAU = dict(type="ReduceOnPlateauLR", monitor="mIoU", patience=0, factor=0.5)
RUNS: dict[str, dict] = {
    "AdamW": dict(optim_wrapper=ADAMW),
    "accumulated": dict(optim_wrapper=ACCUMULATED),
    "average": dict(custom_hooks=[dict(type="EMAHook", momentum=0.1)]),
    "other intervals": dict(train_cfg=dict(dynamic_intervals=[(4, 2)])),
    "plateau": dict(param_scheduler=PLATEAU, train_cfg=dict(val_interval=1)),
    "epochs": dict(loader=dict(sampler=dict(type="DefaultSampler", shuffle=True))),
    "by the batch": dict(dataset=Whole()),
}


@pytest.mark.parametrize("name", RUNS)
def test_whatever_a_run_is_made_of(tmp_path, name):
    whole = ran(tmp_path / "whole", **RUNS[name])
    assert same(result(resumed(tmp_path / "halves", **RUNS[name])), result(whole))


def test_what_was_seen_is_not_read_again(tmp_path):
    """Four steps of two were seen; as many, or with another batch two steps of four, follow."""
    order = Noise()
    ran(tmp_path / "order", iterations=12, dataset=order, **NO_SCORES)
    assert len(order.reads) == 24
    for size in (2, 4):
        rest, folder = Noise(), tmp_path / str(size)
        ran(folder, at=5)
        settings = dict(dataset=rest, loader=dict(batch_size=size), log_level="INFO", **NO_SCORES)
        log = log_of(ran(folder, resume=True, **settings))
        assert rest.reads == order.reads[8 : 8 + 4 * size]
        assert "Resumed after iteration 4; the 8 images" in log
        told = "1 x 4 images in a step (processes x batch_size) instead of 1 x 2: learning rate"
        assert (told in log) == (size == 4)


def test_a_checkpoint_of_mmengines_loop(tmp_path):
    """It tells the iteration only."""
    ran(tmp_path, at=5, train_cfg=dict(type="IterBasedTrainLoop"))
    run = ran(tmp_path, resume=True, log_level="INFO")
    assert "assumes 4 batches of 2" in log_of(run)
    assert run.message_hub.get_info("place")["images_seen"] == 16


class Spoilt(Noise):
    def __getitem__(self, index: int) -> dict:
        if index in (3, 4):
            raise DamagedFile(f"{int(index)}.jpg: damaged image; copy it again")
        return super().__getitem__(index)


def test_damaged_images_are_errors_or_skipped_and_counted(tmp_path):
    """By a run that is resumed they are still known, and the same ones take their places."""

    def skip(most: int) -> dict:
        cfg = dict(unreadable="skip", max_unreadable=most)
        return dict(dataset=Spoilt(), train_cfg=cfg, **NO_SCORES)

    with pytest.raises(DamagedFile, match="jpg: damaged"):
        ran(tmp_path / "error", dataset=Spoilt(), **NO_SCORES)
    with pytest.raises(UserError, match="2 images cannot be read, train_cfg"):
        ran(tmp_path / "one", **skip(1))
    whole, again = ran(tmp_path / "two", **skip(2)), resumed(tmp_path / "halves", **skip(2))
    assert same(result(again), result(whole))
    for run in (whole, again):
        assert len(run.message_hub.get_info("unreadable")) == 2
