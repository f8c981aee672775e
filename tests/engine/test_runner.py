"""A run goes on only from a checkpoint whose optimizer and schedules are of its own kinds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine.runs import NO_SCORES, result, runner, same

from fcn_plugin.engine import BriefRunner
from fcn_plugin.engine.resuming import check_resumable
from fcn_plugin.errors import UserError


def run(folder: Path, iterations: int, **settings) -> BriefRunner:
    scheduler = [
        dict(type="LinearLR", start_factor=0.5, end=2, by_epoch=False),
        dict(type="MultiStepLR", milestones=[3], end=9, by_epoch=False),
    ]
    settings = dict(kind=BriefRunner, param_scheduler=scheduler, **NO_SCORES) | settings
    return runner(folder, iterations, checkpoint=dict(save_best=None), **settings)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resumed")
    run(folder, 2).train()
    return folder / "iter_2.pth"


def group(**settings) -> Callable[[dict], None]:
    return lambda content: content["optimizer"]["param_groups"][0].update(settings)


def schedule(**settings) -> Callable[[dict], None]:
    return lambda content: content["param_schedulers"][0].update(settings)


def state(**settings) -> Callable[[dict], None]:
    return lambda content: content["optimizer"]["state"][0].update(settings)


# What is changed in a checkpoint, and what of it is said.
FAULTS: dict[str, tuple[Callable[[dict], object], str]] = {
    "rate a text": (group(lr="fast"), "lr is str"),
    "rate none": (group(lr=None), "lr is NoneType"),
    "momentum a list": (group(momentum=[1]), "momentum is list"),
    "parameters a text": (group(params="0"), ""),
    "no rate": (lambda content: content["optimizer"]["param_groups"][0].pop("lr"), ""),
    "no groups": (lambda content: content["optimizer"]["param_groups"].clear(), "parameter groups"),
    "momentum of another shape": (state(momentum_buffer=torch.zeros(9)), "another shape"),
    "momentum a text": (state(momentum_buffer="much"), "momentum_buffer that is str"),
    "step a text": (schedule(last_step="2"), "last_step is str"),
    "a method hidden": (schedule(step=5), "step would hide"),
    "another hidden": (schedule(_get_value="x"), "_get_value would hide"),
    "the optimizer": (schedule(optimizer=1), "optimizer is int"),
    "values a text": (schedule(base_values="1"), "base_values is str"),
    "values of texts": (schedule(base_values=["1"]), "base_values is list"),
}


def changed(checkpoint: Path, folder: Path, change: Callable[[dict], object]) -> Path:
    content = torch.load(checkpoint, weights_only=True)
    change(content)
    torch.save(content, folder / "iter_2.pth")
    return folder / "iter_2.pth"


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_of_another_kind_is_refused(checkpoint, tmp_path, name):
    change, words = FAULTS[name]
    path = changed(checkpoint, tmp_path, change)
    check_resumable(path)  # nobody can tell without the run
    with pytest.raises(UserError) as error:
        run(tmp_path, 4, load_from=str(path), resume=True).train()
    message = str(error.value)
    assert message.startswith(f"{path}: ") and message.isprintable() and words in message


def test_a_parameter_without_a_table_is_refused(checkpoint, tmp_path):
    def put_nothing(content: dict) -> None:
        content["optimizer"]["state"][0] = None

    with pytest.raises(UserError, match=r"optimizer\.state is .* expected a table of tables"):
        check_resumable(changed(checkpoint, tmp_path, put_nothing))


def test_a_sound_one_goes_on_as_it_was(checkpoint, tmp_path):
    """The negative control, by way of plain ``torch.load`` too."""
    path = changed(checkpoint, tmp_path, lambda content: None)
    resumed, whole = (
        run(tmp_path / "resumed", 4, load_from=str(path), resume=True),
        run(tmp_path / "whole", 4),
    )
    resumed.train(), whole.train()
    assert same(result(resumed), result(whole))
    ours, theirs = (r.message_hub.get_scalar("train/loss") for r in (resumed, whole))
    assert len(ours.data[0]) == 4 and ours.data[0].tolist() == theirs.data[0].tolist()
