"""A bar for training on a terminal, below the lines of the log."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from rich.console import ConsoleRenderable
from rich.progress_bar import ProgressBar
from rich.text import Text

from fcn_plugin.system.progress import DRAW_PAUSE
from fcn_plugin.system.status_line import StatusLine

AVERAGED = 10  # iterations, as many as mmengine's log averages
WIDEST, NARROWEST = 30, 5  # columns of the bar itself


@HOOKS.register_module()
class ProgressHook(Hook):
    """Draws a line with iteration, remaining time, loss, speed and the last mean IU.

    Only on a terminal, and only in the first process; elsewhere nothing changes. During a
    validation the line shows its batches. Values are mmengine's own, which the log shows too.
    """

    # After the hooks that note times and losses.
    priority = "LOW"

    def __init__(self) -> None:
        self.line: StatusLine | None = None
        self.drawn = 0.0
        self.images = 0  # in a batch of this process
        self.mean_iu = ""

    def before_train(self, runner: Runner) -> None:
        self.after_train(runner)  # the line of a training that failed
        if dist.is_main_process() and StatusLine.possible():
            self.line = StatusLine(runner.logger)
            self._draw(runner.iter, runner.max_iters, "Iteration")

    def after_train(self, runner: Runner) -> None:
        if self.line is not None:
            self.line.end()
            self.line = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if self._due():
            inputs = data_batch.get("inputs") if isinstance(data_batch, dict) else None
            self.images = 0 if inputs is None else len(inputs)
            words = self._training(runner)
            self._draw(runner.iter + 1, runner.max_iters, "Iteration", *words)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | None = None,
    ) -> None:
        if self._due():
            after = f"after iteration {runner.iter:,} of {runner.max_iters:,}"
            self._draw(batch_idx + 1, len(runner.val_dataloader), "Validation", after)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if "mIoU" in (metrics or {}):
            self.mean_iu = f"mean IU {metrics['mIoU']:.2f}"  # type: ignore[index]

    def _due(self) -> bool:
        return self.line is not None and time.monotonic() - self.drawn > DRAW_PAUSE

    def _training(self, runner: Runner) -> list[str]:
        scalars, infos = runner.message_hub.log_scalars, runner.message_hub.runtime_info
        words = []
        if "eta" in infos:  # IterTimerHook's
            words.append(f"{timedelta(seconds=int(infos['eta']))} left")
        if "train/loss" in scalars:
            words.append(f"loss {scalars['train/loss'].mean(AVERAGED):.4f}")
        if "train/time" in scalars and self.images:
            seconds = scalars["train/time"].mean(AVERAGED)
            words.append(f"{self.images * dist.get_world_size() / seconds:.1f} images/s")
        return words

    def _draw(self, done: int, total: int, what: str, *words: str) -> None:
        assert self.line is not None
        before = Text(f"{what} {done:,} of {total:,} ")
        after = Text("".join(f"  {word}" for word in (*words, self.mean_iu) if word))
        free = self.line.console.width - 1 - before.cell_len - after.cell_len
        width = min(max(free, NARROWEST), WIDEST)
        parts: list[ConsoleRenderable] = [before, ProgressBar(total, done, width), after]
        self.line.draw(parts)
        self.drawn = time.monotonic()
