"""Checkpoints that stay complete even if a run is killed while it writes one."""

import os
from collections import deque
from collections.abc import Collection
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

WHOLE_FILES = "fcn_plugin.whole_files"  # its name among mmengine's file backends
# Each matches any part of a score's name. mmengine's own list lacks classes' and others' IoU, the
# F score and the recall.
HIGHER_IS_BETTER = (
    "acc",
    "top",
    "AR@",
    "auc",
    "precision",
    "mAP",
    "Dice",
    "IoU",
    "Fscore",
    "Recall",
)


@register_backend(WHOLE_FILES)
class WholeFilesBackend(LocalBackend):
    """The local disk; a write replaces the whole file, synced to disk, or leaves the old one."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``.

        Raises:
            OSError: with the file's name, which the error of a full disk lacks.
        """
        try:
            with replacing(Path(filepath)) as part, part.open("wb") as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(filepath)) from error


class LateDeletion:
    """A file backend that deletes in one folder only, and only when ``delete`` is called."""

    def __init__(self, backend: Any, folder: str) -> None:
        self.backend, self.folder = backend, folder
        self.outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def isfile(self, path: str) -> bool:
        return self.backend.isfile(self._here(path))

    def remove(self, path: str) -> None:
        self.outdated.append(self._here(path))

    def delete(self, kept: Collection[str]) -> None:
        while self.outdated:
            path = self.outdated.pop()
            if path not in kept and is_main_process() and self.backend.isfile(path):
                self.backend.remove(path)

    def _here(self, path: str) -> str:
        """The file of this name in the folder: the best file of another run is never deleted."""
        return self.backend.join_path(self.folder, Path(path).name)


@HOOKS.register_module()
class SnapshotHook(CheckpointHook):
    """mmengine's ``CheckpointHook``; a kill, a crash or a full disk leaves the last file complete.

    Each file is written under another name and then renamed, and outdated ones are deleted last:
    for a moment there is one more than ``max_keep_ckpts``. Arguments are mmengine's.
    """

    # mmengine's attributes, which it does not annotate.
    backend_args: dict | None
    keep_ckpt_ids: deque[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("greater_keys") is None:
            kwargs["greater_keys"] = HIGHER_IS_BETTER
        super().__init__(*args, **kwargs)
        self._checked = False
        remote = "://" in str(self.out_dir or "")
        if self.backend_args is None and self.file_client_args is None and not remote:
            self.backend_args = dict(backend=WHOLE_FILES)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.file_backend: Any = LateDeletion(self.file_backend, self.out_dir)
        # A resumed CheckpointHook forgets it, and then does not record the new best checkpoint.
        self.last_ckpt = runner.message_hub.runtime_info.get("last_ckpt")
        steps = (runner.cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)
        intervals = [self.interval] if not self.by_epoch and self.interval > 0 else []
        if self.save_best and runner.val_loop is not None:  # it writes the last one again
            intervals.append(runner.train_loop.val_interval)
        if any(interval % steps for interval in intervals):
            runner.logger.warning(
                "A run that is resumed from a checkpoint loses the gradients since the last step "
                f"of the optimizer, which comes every {steps} iterations: set "
                "default_hooks.checkpoint.interval and train_cfg.val_interval to multiples of it"
            )

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        super().after_val_epoch(runner, metrics)
        self._delete_outdated(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # Delete the old best file before saving a checkpoint that records the new one; a resumed
        # run deletes only files its checkpoint lists.
        self._delete_outdated(runner)
        if self.max_keep_ckpts > 0:
            steps = [*(old for old in self.keep_ckpt_ids if old != step), step]
            self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
            # Lists outdated files too: a resumed run deletes those that this run did not.
            runner.message_hub.update_info("keep_ckpt_ids", steps)
            for old in steps[: -self.max_keep_ckpts]:
                self.file_backend.remove(self.filename_tmpl.format(old))
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
        if is_main_process():
            self._check_first()
            with replacing(Path(runner.work_dir, "last_checkpoint")) as part:
                part.write_text(str(self.last_ckpt))
        self._delete_outdated(runner)

    def _delete_outdated(self, runner: Runner) -> None:
        infos = runner.message_hub.runtime_info
        self.file_backend.delete({v for k, v in infos.items() if k.startswith("best_ckpt")})

    def _check_first(self) -> None:
        """Check the first checkpoint: a schedule or hook may store what cannot be loaded again."""
        if self._checked or self.backend_args != dict(backend=WHOLE_FILES):
            return
        self._checked = True
        try:
            # BadNumbersHook reports NaN and inf; a checkpoint without an optimizer is not for
            # resuming.
            check = check_resumable if self.save_optimizer else check_checkpoint
            check(Path(str(self.last_ckpt)), finite=False)
        except UserError as fault:
            raise UserError(
                f"a run could not be resumed from what it has just saved: {fault}"
            ) from None
