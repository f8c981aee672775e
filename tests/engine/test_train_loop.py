"""A run that is stopped and resumed ends as one that never stopped."""

import copy
import multiprocessing
from pathlib import Path

import pytest
import torch
from engine.runs import NO_SCORES, Noise, result, runner, same
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from fcn_plugin.engine.order import PlacedBatches, PlacedDataset
from fcn_plugin.engine.train_loop import Position, changes, placed
from fcn_plugin.errors import DamagedFile, UserError
from fcn_plugin.weights.files import read_content


class Stop(Exception):
    pass


class StopHook(Hook):
    def __init__(self, at: int) -> None:
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if batch_idx == self.at:
            raise Stop


def log_of(run) -> str:
    return next(Path(run.work_dir).rglob(f"{run.timestamp}.log")).read_text()


def trained(*args, **settings) -> dict:
    run = runner(*args, **settings)
    run.train()
    return copy.deepcopy(result(run))


def stopped(folder: Path, at: int, **settings) -> None:
    """A run of eight iterations that ends before the one at ``at`` is done."""
    run = runner(folder, **settings)
    run.register_hook(StopHook(at))
    with pytest.raises(Stop):
        run.train()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    return trained(tmp_path_factory.mktemp("undisturbed"))


def test_a_seed_gives_the_same_run_again(undisturbed, tmp_path):
    assert same(trained(tmp_path), undisturbed)
    other = trained(tmp_path / "other", randomness=dict(seed=2))
    assert not same(other["model"], undisturbed["model"])


@pytest.mark.parametrize("at", range(2, 8))
def test_stopped_and_resumed(undisturbed, tmp_path, at):
    stopped(tmp_path, at)
    assert same(trained(tmp_path, resume=True), undisturbed)


@pytest.mark.parametrize(
    "settings",
    [
        dict(optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.1, amsgrad=True))),
        dict(
            optim_wrapper=dict(
                type="BFloat16OptimWrapper", optimizer=dict(type="SGD", lr=0.1, momentum=0.9)
            )
        ),
        dict(
            optim_wrapper=dict(
                optimizer=dict(type="SGD", lr=0.1, momentum=0.9),
                accumulative_counts=2,
                clip_grad=dict(max_norm=0.1),
            )
        ),
        dict(custom_hooks=[dict(type="EMAHook", momentum=0.1)]),
        dict(train_cfg=dict(val_interval=2), checkpoint=dict(interval=1)),
        dict(train_cfg=dict(dynamic_intervals=[(4, 2)])),
        dict(param_scheduler=dict(type="OneCycleLR", eta_max=0.2, total_steps=8, by_epoch=False)),
        dict(
            param_scheduler=dict(type="ReduceOnPlateauLR", monitor="mIoU", patience=0, factor=0.5),
            train_cfg=dict(val_interval=1),
        ),
        dict(loader=dict(sampler=dict(type="ReplacementSampler"))),
        dict(loader=dict(sampler=dict(type="DefaultSampler", shuffle=True))),
    ],
    ids=[
        "AdamW",
        "bfloat16",
        "accumulated",
        "average",
        "scored-often",
        "other-intervals",
        "one-cycle",
        "plateau",
        "replaced",
        "epochs",
    ],
)
def test_whatever_a_run_is_made_of(tmp_path, settings):
    whole = trained(tmp_path / "whole", **copy.deepcopy(settings))
    stopped(tmp_path / "halves", 5, **copy.deepcopy(settings))
    assert same(trained(tmp_path / "halves", resume=True, **copy.deepcopy(settings)), whole)


def test_the_scale_of_mixed_precision_goes_on(tmp_path, monkeypatch):
    """Of float16 on a GPU, which mmengine keeps with the optimizer; here on the CPU."""
    host = "mmengine.optim.optimizer.amp_optimizer_wrapper"
    monkeypatch.setattr(f"{host}.is_cuda_available", lambda: True)
    wrapper = dict(type="AmpOptimWrapper", optimizer=dict(type="SGD", lr=0.1), loss_scale="dynamic")
    runs = [runner(tmp_path / name, optim_wrapper=copy.deepcopy(wrapper)) for name in "ab"]
    for run in runs:
        run.optim_wrapper = run.build_optim_wrapper(run.optim_wrapper)
        run.optim_wrapper.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**9)
    state = runs[0].optim_wrapper.state_dict()
    state["loss_scaler"]["scale"] = 2.0**5
    torch.save(state, tmp_path / "state.pth")
    runs[1].optim_wrapper.load_state_dict(read_content(tmp_path / "state.pth"))
    assert runs[1].optim_wrapper.loss_scaler.get_scale() == 2.0**5


def test_the_hosts_loop_would_end_with_others(tmp_path):
    """Which makes the comparison above one that can fail."""
    host = dict(train_cfg=dict(type="IterBasedTrainLoop"))
    runs = []
    for name, at in (("whole", None), ("halves", 5)):
        if at:
            stopped(tmp_path / name, at, **copy.deepcopy(host))
        run = runner(tmp_path / name, resume=at is not None, **copy.deepcopy(host))
        run.train()
        runs.append(run.model.state_dict())
    assert not same(*runs)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(undisturbed, tmp_path, workers):
    loader = dict(num_workers=workers)
    stopped(tmp_path, 5, loader=loader)
    assert same(trained(tmp_path, resume=True, loader=loader), undisturbed)


def test_what_was_seen_is_not_read_again(tmp_path):
    whole, rest = Noise(), Noise()
    trained(tmp_path / "whole", dataset=whole, **NO_SCORES)
    stopped(tmp_path, 5)
    trained(tmp_path, resume=True, dataset=rest, **NO_SCORES)
    assert len(whole.reads) == 16
    assert rest.reads == whole.reads[8:]


class Whole(Noise):
    """Hands out several samples at once, as torch's ``Subset`` does."""

    def __getitems__(self, indices: list[int]) -> list[dict]:
        return [super(Whole, self).__getitem__(index) for index in indices]


def test_samples_by_the_batch(tmp_path):
    stopped(tmp_path / "halves", 5, dataset=Whole())
    whole = trained(tmp_path / "whole", dataset=Whole())
    assert same(trained(tmp_path / "halves", resume=True, dataset=Whole()), whole)


def test_no_second_set_of_workers(tmp_path):
    """Not of the host's iterator, and not of a data loader with another seed."""
    stopped(tmp_path, 5)
    counted = []

    class Count(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
            counted.append(len(multiprocessing.active_children()))

    others = len(multiprocessing.active_children())
    loader = dict(num_workers=2)
    run = runner(tmp_path, resume=True, loader=loader, randomness=dict(seed=None), **NO_SCORES)
    run.register_hook(Count())
    run.train()
    assert max(counted) - others == 2


def test_data_sets_of_another_scope_are_found(tmp_path):
    """The parts of the loop are named by themselves."""
    config = placed(dict(dataset=dict(type="Mine"), batch_size=2), seed=1)
    assert config["dataset"]["type"] is PlacedDataset
    assert "_scope_" not in config["dataset"]
    assert config["batch_sampler"]["type"] is PlacedBatches


def test_a_checkpoint_brings_its_seed(undisturbed, tmp_path):
    """A run without a seed in its config draws one, and goes on with it."""
    stopped(tmp_path, 5)
    assert same(trained(tmp_path, resume=True, randomness=dict(seed=None)), undisturbed)


def test_another_batch_goes_on_at_the_same_image(tmp_path):
    """Four steps of two were seen; four of four follow."""
    rest, order = Noise(), Noise()
    stopped(tmp_path, 5)
    run = runner(
        tmp_path,
        resume=True,
        dataset=rest,
        loader=dict(batch_size=4),
        log_level="INFO",
        **NO_SCORES,
    )
    run.train()
    log = log_of(run)
    assert "1 x 4 images in a step (processes x batch_size) instead of 1 x 2: learning rate" in log
    assert "Goes on after iteration 4 and 8 images" in log
    trained(tmp_path / "order", iterations=12, dataset=order, **NO_SCORES)
    assert rest.reads == order.reads[8:]


def test_a_checkpoint_of_the_hosts_loop(tmp_path):
    """It tells the iteration only."""
    stopped(tmp_path, 5, train_cfg=dict(type="IterBasedTrainLoop"))
    run = runner(tmp_path, resume=True, log_level="INFO")
    run.train()
    log = log_of(run)
    assert "assumes 4 batches of 2" in log
    assert run.message_hub.get_info("place")["images_seen"] == 16


@pytest.mark.parametrize(
    "old, new, words",
    [
        ((2, 4, 9), (2, 4, 9), []),
        ((2, 4, 9), (1, 8, 9), ["1 x 8 images in a step", "the same images in each step"]),
        ((2, 4, 9), (1, 4, 9), ["1 x 4 images in a step", "instead of 2 x 4: learning rate"]),
        ((2, 4, 9), (2, 4, 7), ["a data set of 7 images instead of 9"]),
    ],
    ids=["nothing", "shared-out", "fewer", "data"],
)
def test_changes_in_words(old, new, words):
    text = "; ".join(changes(Position(0, *old), Position(0, *new)))
    assert all(part in text for part in words)
    assert bool(text) == bool(words)


class Spoilt(Noise):
    def __getitem__(self, index: int) -> dict:
        if index in (3, 4):
            raise DamagedFile(f"{int(index)}.jpg: damaged image; copy it again")
        return super().__getitem__(index)


def test_a_damaged_image_is_an_error(tmp_path):
    with pytest.raises(DamagedFile, match="jpg: damaged"):
        runner(tmp_path, dataset=Spoilt(), **NO_SCORES).train()


def test_damaged_images_are_skipped_and_counted(tmp_path):
    skip = dict(unreadable="skip", max_unreadable=2)
    run = runner(tmp_path, dataset=Spoilt(), train_cfg=skip, log_level="INFO", **NO_SCORES)
    run.train()
    assert len(run.message_hub.get_info("unreadable")) == 2
    log = log_of(run)
    assert "Skipped, 2 of at most 2: " in log and "Skipped, 3" not in log
    whole = copy.deepcopy(result(run))
    # And by a run that is resumed they are still known, and the same ones take their places.
    stopped(tmp_path / "part", 5, dataset=Spoilt(), train_cfg=dict(skip), **NO_SCORES)
    again = runner(
        tmp_path / "part", resume=True, dataset=Spoilt(), train_cfg=dict(skip), **NO_SCORES
    )
    again.train()
    assert same(result(again), whole)
    assert len(again.message_hub.get_info("unreadable")) == 2


def test_too_many_damaged_images_are_an_error(tmp_path):
    skip = dict(unreadable="skip", max_unreadable=1)
    with pytest.raises(UserError, match="2 images cannot be read, train_cfg"):
        runner(tmp_path, dataset=Spoilt(), train_cfg=skip, **NO_SCORES).train()


def test_what_it_cannot_do_is_refused(tmp_path):
    with pytest.raises(UserError, match="set it to 'error' or 'skip'"):
        runner(tmp_path, train_cfg=dict(unreadable="ignore")).train()
    with pytest.raises(UserError, match="must be a config"):
        runner(tmp_path, train_dataloader=DataLoader(Noise())).train()
