"""What an interruption leaves undone."""

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class ScoreResumedHook(Hook):
    """A resumed run first scores the snapshot it goes on from.

    The host writes a snapshot, then scores it, deletes the best one so far and writes the new
    best. A run that is killed meanwhile would go on after the scoring, with a snapshot that never
    was a candidate or a best one that is gone; killed at the last snapshot it would just end. A
    snapshot that had been scored already gets the same scores again.
    """

    # After CheckpointHook (VERY_LOW), which in ``before_train`` finds the best snapshot so far.
    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if runner.val_loop is None or not isinstance(loop, IterBasedTrainLoop):
            return
        due = runner.iter % loop.val_interval == 0 or runner.iter == loop.max_iters
        if runner.iter >= max(loop.val_begin, 1) and due:
            runner.val_loop.run()
