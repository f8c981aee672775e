"""A run goes on only from a checkpoint whose optimizer and schedules are of its own kinds."""

from pathlib import Path

import pytest
import torch
from engine.runs import NO_SCORES, result, runner, same

from fcn_plugin.engine import BriefRunner
from fcn_plugin.engine.resuming import check_resumable
from fcn_plugin.errors import UserError


def run(folder: Path, iterations: int, start: Path | None = None) -> BriefRunner:
    """A run after its end, on from ``start``."""
    scheduler = [
        dict(type="LinearLR", start_factor=0.5, end=2, by_epoch=False),
        dict(type="MultiStepLR", milestones=[3], end=9, by_epoch=False),
    ]
    settings = dict(kind=BriefRunner, param_scheduler=scheduler, **NO_SCORES)
    if start:
        settings |= dict(load_from=str(start), resume=True)
    run = runner(folder, iterations, checkpoint=dict(save_best=None), **settings)
    run.train()
    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resumed")
    run(folder, 2)
    return folder / "iter_2.pth"


GROUP, STATE, SCHEDULE = "optimizer.param_groups.0", "optimizer.state.0", "param_schedulers.0"
GONE = object()
# Where in a checkpoint which key is of another kind, and what of it is said.
FAULTS = [
    (GROUP, "lr", None, "lr is NoneType"),
    (GROUP, "lr", GONE, ""),
    (GROUP, "params", "0", ""),  # torch's own refusal, in no words of ours
    (STATE, "momentum_buffer", torch.zeros(9), "another shape"),
    (STATE, "momentum_buffer", "much", "momentum_buffer that is str"),
    (SCHEDULE, "step", 5, "step would hide"),
    (SCHEDULE, "base_values", ["1"], "base_values is list"),
]


@pytest.mark.parametrize(("place", "key", "value", "words"), FAULTS)
def test_what_is_of_another_kind_is_refused(checkpoint, tmp_path, place, key, value, words):
    content = node = torch.load(checkpoint, weights_only=True)
    for part in place.split("."):
        node = node[int(part) if part.isdigit() else part]
    node[key] = value
    if value is GONE:
        del node[key]
    path = tmp_path / "iter_2.pth"
    torch.save(content, path)
    check_resumable(path)  # nobody can tell without the run
    with pytest.raises(UserError) as error:
        run(tmp_path, 4, path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and message.isprintable() and words in message


def test_a_sound_one_goes_on_as_it_was(checkpoint, tmp_path):
    resumed, whole = run(tmp_path / "resumed", 4, checkpoint), run(tmp_path / "whole", 4)
    assert same(result(resumed), result(whole))
    ours, theirs = (r.message_hub.get_scalar("train/loss") for r in (resumed, whole))
    assert len(ours.data[0]) == 4 and ours.data[0].tolist() == theirs.data[0].tolist()
