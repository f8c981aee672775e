"""End a training early when its score no longer rises, at the same iteration if it is resumed."""

from math import isfinite
from typing import Any

from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

PATIENCE = "early_stopping"  # key in a checkpoint's message hub


@HOOKS.register_module()
class LastingPatienceHook(EarlyStoppingHook):
    """mmengine's ``EarlyStoppingHook``, whose patience outlives an interruption.

    The best score and the number of scorings without a better one are in each checkpoint; a run
    resumed by mmengine's hook would begin to count again. Arguments are mmengine's; a score is
    taken to be better if it is higher, unless ``rule`` is 'less'.
    """

    # Before CheckpointHook (VERY_LOW), so that the checkpoint that it writes after a scoring counts
    # this scoring, which a resumed run does not repeat. mmengine's hook comes after it.
    priority = "LOW"

    # mmengine's attributes, which it does not annotate.
    wait_count: int
    best_score: float

    def __init__(self, monitor: str = "mIoU", rule: str = "greater", **settings: Any) -> None:
        super().__init__(monitor, rule, **settings)

    def before_train(self, runner: Runner) -> None:
        if state := runner.message_hub.runtime_info.get(PATIENCE):
            self.wait_count, self.best_score = int(state["waited"]), float(state["best"])

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        super().after_val_epoch(runner, metrics)
        if isfinite(self.best_score):
            state = dict(waited=self.wait_count, best=float(self.best_score))
            runner.message_hub.update_info(PATIENCE, state)
