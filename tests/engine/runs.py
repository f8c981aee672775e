"""A run of a few parameters in which all that a kill could change decides the result."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

IMAGES = 10
NO_SCORES = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)


class Noise:
    """Every image is noise of three generators; ``reads`` notes which were read."""

    metainfo = dict(classes=("a",))

    def __init__(self) -> None:
        self.reads: list[int] = []

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict:
        self.reads.append(int(index))
        drawn = torch.rand(4) + np.random.rand() + random.random()
        return dict(inputs=torch.full((4,), float(index)) + drawn)

    def __deepcopy__(self, memo: dict) -> "Noise":
        return self  # mmengine copies the config that it is in


class Small(BaseModel):
    """Normalisation with running statistics, dropout, and a weight for each of four numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.weight = nn.Parameter(torch.zeros(4))

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> Any:
        result = self.dropout(self.norm(inputs)) * self.weight + self.weight
        # What a hook or a user's code may draw in between.
        noise = np.random.rand() + random.random()
        if mode == "loss":
            return dict(loss=(result * noise - 1).square().mean())
        return [dict(score=float(self.weight.sum()))]


class Sum(BaseMetric):
    """The sum of the weights is the score; scoring draws random numbers, too.

    ``times`` counts the scorings.
    """

    times = 0

    def process(self, data_batch: Any, data_samples: Any) -> None:
        torch.rand(3), np.random.rand(), random.random()
        self.results.append(data_samples[0]["score"])

    def compute_metrics(self, results: list) -> dict:
        self.times += 1
        return dict(mIoU=results[0])


def runner(folder: Path, iterations: int = 8, resume: bool = False, **settings: Any) -> Runner:
    """A run with a checkpoint every second iteration and a scoring every third."""
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=settings.pop("dataset", None) or Noise(),
        sampler=dict(type="InfiniteSampler"),
        collate_fn=dict(type="default_collate"),
    )
    checkpoint = dict(
        type="SnapshotHook", by_epoch=False, interval=2, max_keep_ckpts=1, save_best="mIoU"
    )
    defaults: dict[str, Any] = dict(
        train_dataloader=loader | settings.pop("loader", {}),
        val_dataloader=dict(loader, sampler=dict(type="DefaultSampler", shuffle=False)),
        train_cfg=dict(type="ExactTrainLoop", max_iters=iterations, val_interval=3)
        | settings.pop("train_cfg", {}),
        val_cfg=dict(),
        val_evaluator=Evaluator([Sum()]),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=0.1)),
        param_scheduler=dict(type="PolyLR", power=0.9, by_epoch=False, end=8),
        default_hooks=dict(
            checkpoint=checkpoint | settings.pop("checkpoint", {}),
            score_resumed=dict(type="ScoreResumedHook"),
        )
        | settings.pop("hooks", {}),
        randomness=dict(seed=1),
        log_level="ERROR",
        default_scope="mmseg",
    )
    runner.number += 1  # type: ignore[attr-defined]
    return settings.pop("kind", Runner)(
        Small(),
        str(folder),
        resume=resume,
        experiment_name=f"{folder.name}-{runner.number}",  # type: ignore[attr-defined]
        **defaults | settings,
    )


runner.number = 0  # type: ignore[attr-defined]  # mmengine wants names that are not in use


def result(run: Runner) -> dict[str, Any]:
    """Everything that a further iteration would depend on."""
    return dict(
        model=run.model.state_dict(),
        optimizer=run.optim_wrapper.state_dict(),
        schedule=[scheduler.state_dict() for scheduler in run.param_schedulers or []],
        iteration=run.iter,
        place=run.message_hub.get_info("place"),
        best=run.message_hub.runtime_info.get("best_score"),
    )


def log_of(run: Runner) -> str:
    return next(Path(run.work_dir).rglob(f"{run.timestamp}.log")).read_text()


def same(one: Any, other: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
