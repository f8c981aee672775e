"""Loops, loaders and scores that do not go together, and those that do."""

import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, ValLoop
from mmseg.evaluation import IoUMetric
from torch.utils.data import DataLoader

from fcn_plugin.checks.config import check_settings
from fcn_plugin.checks.run import check_order, check_scores, smallest_batch
from fcn_plugin.engine import ReplacementSampler, SnapshotHook
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric

EPOCHS, ITERATIONS, VALIDATION = (
    object.__new__(kind) for kind in (EpochBasedTrainLoop, IterBasedTrainLoop, ValLoop)
)


def loader(sampler: type, images: int = 5, **settings) -> DataLoader:
    data = list(range(images))
    return DataLoader(data, sampler=sampler(data), **settings)


@pytest.mark.parametrize("sampler", [InfiniteSampler, ReplacementSampler])
def test_what_never_ends(sampler):
    for name, loop in (("train_dataloader", EPOCHS), ("val_dataloader", VALIDATION)):
        with pytest.raises(UserError, match=rf"{name}\.sampler.*{sampler.__name__}"):
            check_order(name, loader(sampler), loop)
        check_order(name, loader(DefaultSampler), loop)
    check_order("train_dataloader", loader(sampler), ITERATIONS)


def test_the_smallest_batch():
    """The last one of an epoch has what is left."""
    assert smallest_batch(loader(DefaultSampler, batch_size=2), EPOCHS) == 1
    assert smallest_batch(loader(DefaultSampler, batch_size=2, drop_last=True), EPOCHS) == 2
    assert smallest_batch(loader(DefaultSampler, 6, batch_size=2), EPOCHS) == 2
    assert smallest_batch(loader(InfiniteSampler, batch_size=2), ITERATIONS) == 2


class Other(BaseMetric):
    """Nobody knows what it gives."""

    def process(self, data_batch, data_samples) -> None: ...
    def compute_metrics(self, results) -> dict:
        return dict(PQ=1.0)


@pytest.mark.parametrize(
    ("metric", "best"),
    [
        (ConfusionMatrixMetric(), "fwIoU"),
        (ConfusionMatrixMetric(prefix="val"), "val/mIoU"),
        (IoUMetric(iou_metrics=["mDice", "mFscore"]), "mFscore"),
        (Other(), "mAP"),
        (ConfusionMatrixMetric(), ["mIoU", "aAcc"]),
        (ConfusionMatrixMetric(), "auto"),
    ],
)
def test_scores_that_are_computed(metric, best):
    check_scores([metric], [SnapshotHook(save_best=best)])


@pytest.mark.parametrize(
    ("metric", "best", "said"),
    [
        (ConfusionMatrixMetric(), "mDice", "aAcc, fwIoU, mAcc, mIoU"),
        (ConfusionMatrixMetric(), "miou", "did you mean 'mIoU'"),
        (ConfusionMatrixMetric(prefix="val"), "mIoU", "val/mIoU"),
        (IoUMetric(), ["mIoU", "mRecall"], "save_best='mRecall'"),
    ],
)
def test_scores_that_are_not(metric, best, said):
    with pytest.raises(UserError, match=said):
        check_scores([metric], [SnapshotHook(save_best=best)])
    check_scores([metric, Other()], [SnapshotHook(save_best=best)])  # who knows


def test_a_score_that_stops_early():
    with pytest.raises(UserError, match=r"EarlyStoppingHook.monitor='mDice'"):
        check_scores([IoUMetric()], [EarlyStoppingHook(monitor="mDice")])


def test_what_belongs_together():
    whole = dict(val_dataloader={}, val_cfg={}, val_evaluator={})
    check_settings(whole)
    check_settings({})
    with pytest.raises(UserError, match=r"no val_evaluator.*val_dataloader=None val_cfg=None"):
        check_settings(dict(whole, val_evaluator=None))


def test_backends(monkeypatch, tmp_path):
    """A folder that a backend left is not its package."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    backends = [dict(type="LocalVisBackend"), dict(type="WandbVisBackend")]
    with pytest.raises(UserError, match=r"vis_backends\.1.*pip install wandb"):
        check_settings(dict(visualizer=dict(vis_backends=backends)))
    (tmp_path / "wandb/__init__.py").touch()
    check_settings(dict(visualizer=dict(vis_backends=backends)))
