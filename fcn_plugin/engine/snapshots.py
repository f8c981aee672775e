"""Checkpoints that are whole whenever a run ends."""

import os
from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from fcn_plugin.engine.resuming import check_resumable
from fcn_plugin.errors import UserError
from fcn_plugin.system.files import replacing
from fcn_plugin.weights.files import check_checkpoint

WHOLE_FILES = "fcn_plugin.whole_files"  # among the host's file backends
ONLY = "only"  # stands for the score by which the best checkpoint is told, where there is one


@register_backend(WHOLE_FILES)
class WholeFilesBackend(LocalBackend):
    """The local disk; a file is written whole, and is on the disk, or it stays as it was."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``.

        Raises:
            OSError: with the file's name, which a full disk alone does not tell.
        """
        try:
            with replacing(Path(filepath)) as part, part.open("wb") as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(filepath)) from error


@HOOKS.register_module()
class SnapshotHook(CheckpointHook):
    """The host's ``CheckpointHook``; a kill, a crash or a full disk leaves the last one whole.

    Each file is written beside its place and moved there, and outdated ones are deleted last: for
    a moment there is one more than ``max_keep_ckpts``. Arguments are the host's.
    """

    # The more the better, of these too; by parts of the names, whatever prefix a metric has.
    _default_greater_keys = [*CheckpointHook._default_greater_keys, "IoU", "Fscore", "Recall"]

    # The host's, whose types it leaves open.
    backend_args: dict | None
    keep_ckpt_ids: deque[int]
    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._best_before: dict[str, str | None] = {}  # while a new best one is written
        self._checked = False
        remote = "://" in str(self.out_dir or "")
        if self.backend_args is None and self.file_client_args is None and not remote:
            self.backend_args = dict(backend=WHOLE_FILES)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        # The host forgets it when resumed, and then does not write down what is best now.
        self.last_ckpt = runner.message_hub.runtime_info.get("last_ckpt")
        steps = (runner.cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)
        intervals = [self.interval] if not self.by_epoch and self.interval > 0 else []
        if self.save_best and runner.val_loop is not None:  # the last one is written then, too
            intervals.append(runner.train_loop.val_interval)
        if any(interval % steps for interval in intervals):
            runner.logger.warning(
                "A run that is resumed from a checkpoint loses the gradients since the last step "
                f"of the optimizer, which comes every {steps} iterations: set "
                "default_hooks.checkpoint.interval and train_cfg.val_interval to multiples of it"
            )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # Before the host writes down what is best now: what is not mentioned is never deleted.
        self._delete_previous_best(runner)
        outdated = self._now_outdated(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        self._check_first()
        with replacing(Path(runner.work_dir, "last_checkpoint")) as part:
            part.write_text(str(self.last_ckpt))
        for old in outdated:
            self._delete(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old)))

    def _check_first(self) -> None:
        """Better now than after a crash: what a schedule or a hook keeps may be no mere data."""
        if self._checked or self.backend_args != dict(backend=WHOLE_FILES):
            return
        self._checked = True
        try:
            # Weights that are no numbers are told of by who looks for their origin; of what is
            # saved without an optimizer nobody means to go on.
            check = check_resumable if self.save_optimizer else check_checkpoint
            check(Path(str(self.last_ckpt)), finite=False)
        except UserError as fault:
            raise UserError(
                f"a run could not be resumed from what it has just saved: {fault}"
            ) from None

    def _now_outdated(self, runner: Runner, step: int) -> list[int]:
        """The checkpoints to delete once that of ``step`` is written.

        It names them, too, so that a run that is resumed from it deletes them at the latest.
        """
        if self.max_keep_ckpts <= 0:
            return []
        steps = [*(old for old in self.keep_ckpt_ids if old != step), step]
        runner.message_hub.update_info("keep_ckpt_ids", steps)
        self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
        return steps[: -self.max_keep_ckpts]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        # The host deletes the best one so far before it writes the new; so it is not told of it.
        self._best_before = self._best()
        self._set_best(dict.fromkeys(self._best_before))
        super()._save_best_checkpoint(runner, metrics)
        self._delete_previous_best(runner)
        after = self._best()
        self._set_best({key: path or self._best_before[key] for key, path in after.items()})
        self._best_before = {}

    def _delete_previous_best(self, runner: Runner) -> None:
        now = self._best()
        for key, old in self._best_before.items():
            if not (old and now[key]):
                continue
            # In this run's folder: it may go on from a checkpoint of another, whose best one stays.
            old = self.file_backend.join_path(self.out_dir, Path(old).name)
            if now[key] != old and is_main_process() and self._delete(old):
                runner.logger.info("The previous best checkpoint %s is removed", old)

    def _best(self) -> dict[str, str | None]:
        """The best checkpoints so far, by their scores; of a single one the host keeps no name."""
        if not self.save_best:
            return {}
        if len(self.key_indicators) == 1:
            return {ONLY: self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best(self, best: dict[str, str | None]) -> None:
        if ONLY in best:
            self.best_ckpt_path = best[ONLY]
        elif best:
            self.best_ckpt_path_dict = best

    def _delete(self, path: str) -> bool:
        """Whether there was something to delete."""
        if found := self.file_backend.isfile(path):
            self.file_backend.remove(path)
        return found
