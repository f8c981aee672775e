"""Training that ends by its score ends at the same iteration after an interruption."""

from pathlib import Path

import pytest
from engine.runs import runner
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook

from fcn_plugin.engine import LastingPatienceHook

# Of the iterations 3, 6, ... The second is the best for long: with a patience of 4, the run ends
# with the sixth, after iteration 18.
SCORES = (40.0, 50.0, 49.0, 50.0, 48.0, 47.0, 90.0, 90.0, 90.0, 90.0)
END, LIMIT = 18, 3 * len(SCORES)


class ByIteration(BaseMetric):
    """The score depends on nothing but the iteration."""

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return dict(mIoU=SCORES[self.run.iter // 3 - 1])


class Killed(Exception):
    pass


class Kill(Hook):
    """Ends a run before or after an iteration is scored."""

    priority = "LOWEST"

    def __init__(self, iteration: int, scored: bool) -> None:
        self.iteration, self.scored = iteration, scored

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if not self.scored and runner.iter + 1 == self.iteration:
            raise Killed

    def before_train_iter(self, runner, *args, **kwargs) -> None:
        if self.scored and runner.iter == self.iteration:
            raise Killed


def end(folder: Path, kind: str, interval: int, resume: bool = False, kill: list = ()) -> int:
    """The iteration after which a run has ended that was scored every third iteration."""
    metric = ByIteration()
    stopping = dict(type=kind, monitor="mIoU", min_delta=0.1, patience=4)
    metric.run = runner(
        folder,
        LIMIT,
        resume,
        checkpoint=dict(interval=interval),
        val_evaluator=Evaluator([metric]),
        hooks=dict(stopping=stopping),
        custom_hooks=list(kill),
    )
    metric.run.train()
    return metric.run.iter


def end_after_kill(folder: Path, kind: str, interval: int, iteration: int, scored: bool) -> int:
    with pytest.raises(Killed):
        end(folder, kind, interval, kill=[Kill(iteration, scored)])
    return end(folder, kind, interval, resume=True)


# The best score is at 6, where the checkpoint is written a second time, after the scoring.
@pytest.mark.parametrize(
    ("interval", "iteration", "scored"),  # interval: of checkpoints
    [(3, 6, False), (3, 6, True), (3, 17, True), (2, 6, True), (2, 12, True), (2, 17, True)],
)
def test_a_resumed_run_ends_where_it_would_have(interval, iteration, scored, tmp_path):
    assert end_after_kill(tmp_path, "LastingPatienceHook", interval, iteration, scored) == END


def test_any_score_may_be_watched():
    """mmengine's hook refuses scores that it does not know, fwIoU among them."""
    assert LastingPatienceHook().monitor == "mIoU"
    for rule, scores in dict(greater=(5.0, 6.0, 6.0, 6.0), less=(5.0, 4.0, 4.0, 4.0)).items():
        hook = LastingPatienceHook("fwIoU", rule, patience=2)
        stops = [hook._check_stop_condition(score)[0] for score in scores]
        assert stops == [False, False, False, True]


def test_what_has_ended_stays_so(tmp_path):
    for resume in (False, True):
        assert end(tmp_path, "LastingPatienceHook", 1, resume=resume) == END


def test_mmengines_hook_begins_to_count_again(tmp_path):
    assert end(tmp_path / "whole", "EarlyStoppingHook", 3) == END
    assert end_after_kill(tmp_path / "killed", "EarlyStoppingHook", 3, 12, True) != END
