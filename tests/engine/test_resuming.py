"""A resumed run scores the snapshot that it goes on from."""

from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner


class Killed(Exception):
    """Stands in for a signal."""


class Counting(BaseModel):
    """One parameter that is the number of the updates it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.updates = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, mode="tensor"):
        if mode == "loss":
            return dict(loss=-self.updates)
        return [dict(updates=self.updates.item())]


class Updates(BaseMetric):
    """The score is that number; which ones were seen is noted in ``scored``."""

    def __init__(self, die_at: int) -> None:
        super().__init__()
        self.die_at = die_at
        self.scored: list[int] = []

    def process(self, data_batch, data_samples) -> None:
        self.results.append(data_samples[0]["updates"])

    def compute_metrics(self, results: list) -> dict:
        if results[0] == self.die_at:
            raise Killed
        self.scored.append(int(results[0]))
        return dict(mIoU=results[0])


def run(folder: Path, iterations: int, resume: bool = False, die_at: int = -1, hook: bool = True):
    """Train, with a snapshot every iteration and a scoring every second; gives those scored."""
    loader = dict(
        batch_size=1,
        num_workers=0,
        dataset=[dict(inputs=0)],
        sampler=dict(type="ReplacementSampler"),
        collate_fn=dict(type="default_collate"),
    )
    hooks: dict = dict(
        checkpoint=dict(
            type="CheckpointHook", by_epoch=False, interval=1, save_best="mIoU", rule="greater"
        )
    )
    if hook:
        hooks["score_resumed"] = dict(type="ScoreResumedHook")
    metric = Updates(die_at)
    runner = Runner(
        Counting(),
        str(folder),
        train_dataloader=loader,
        val_dataloader=dict(loader, sampler=dict(type="DefaultSampler", shuffle=False)),
        train_cfg=dict(by_epoch=False, max_iters=iterations, val_interval=2),
        val_cfg=dict(),
        val_evaluator=Evaluator([metric]),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=1.0)),
        default_hooks=hooks,
        resume=resume,
        log_level="ERROR",
        default_scope="mmseg",
        experiment_name=f"{folder}-{iterations}-{resume}".replace("/", "-"),
    )
    runner.train()
    return metric.scored


def best(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("best_*"))


def test_a_fresh_run_is_scored_as_ever(tmp_path):
    assert run(tmp_path, 4) == [2, 4]


@pytest.mark.parametrize("hook", [True, False])
def test_killed_at_the_last_scoring(tmp_path, hook):
    """The host alone finds nothing left to do, and the last snapshot is never scored."""
    with pytest.raises(Killed):
        run(tmp_path, 4, die_at=4)
    assert run(tmp_path, 4, resume=True, hook=hook) == [4] * hook
    assert best(tmp_path) == [f"best_mIoU_iter_{4 if hook else 2}.pth"]


@pytest.mark.parametrize("hook", [True, False])
def test_killed_when_the_best_is_replaced(tmp_path, monkeypatch, hook):
    """The host deletes the old one first: alone it goes on without any."""
    save = Runner.save_checkpoint

    def kill(runner, out_dir, filename, *args, **kwargs):
        if filename == "best_mIoU_iter_4.pth":
            raise Killed
        save(runner, out_dir, filename, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Runner, "save_checkpoint", kill)
        run(tmp_path, 4)
    assert best(tmp_path) == []
    assert run(tmp_path, 4, resume=True, hook=hook) == [4] * hook
    assert best(tmp_path) == ["best_mIoU_iter_4.pth"] * hook


def test_between_two_scorings_nothing_more_is_scored(tmp_path):
    run(tmp_path, 4)
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_3.pth"))
    assert run(tmp_path, 6, resume=True) == [4, 6]


def test_the_same_scores_change_nothing(tmp_path):
    run(tmp_path, 4)
    before = (tmp_path / "best_mIoU_iter_4.pth").stat().st_mtime_ns
    assert run(tmp_path, 4, resume=True) == []
    assert (tmp_path / "best_mIoU_iter_4.pth").stat().st_mtime_ns == before
