"""Going on after an interruption: from which checkpoint, and what was left undone."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from fcn_plugin.errors import UserError
from fcn_plugin.weights.loading import check_checkpoint, read_torch_file

LAST = "last_checkpoint"  # the host's file with the name of the last one
NUMBERED = re.compile(r"(?:iter|epoch)_(\d+)\.pth")
NEEDED = ("state_dict", "optimizer", "message_hub", "meta")


def last_whole_checkpoint(work_dir: Path, warn: Callable[[str], None]) -> Path | None:
    """The last checkpoint of a run that it can be resumed from; None if it wrote none yet.

    Each one that is damaged is passed over, for the one before it, and told to ``warn``.

    Raises:
        UserError: there are some, but all are damaged.
    """
    found = list(_checkpoints(work_dir))
    for path in found:
        try:
            check_resumable(path)
            return path
        except UserError as fault:
            warn(f"passed over, {fault}")
    if found:
        raise UserError(
            f"{work_dir}: none of its {len(found)} checkpoints is whole; put a whole one there, or "
            "leave --resume out to start anew"
        )
    return None


def check_resumable(path: Path) -> None:
    """Raise a ``UserError`` if a run cannot go on from ``path`` as it would have."""
    check_checkpoint(path)
    held = read_torch_file(path)
    if missing := [name for name in NEEDED if name not in held]:
        raise UserError(
            f"{path}: holds no {' and no '.join(missing)}, so that a run cannot go on from it; "
            "give an iter_N.pth, or start with it: --cfg-options load_from=FILE"
        )


def _checkpoints(work_dir: Path) -> Iterator[Path]:
    """Those of a run: the last by its own record, then the others in the work dir, latest first."""
    last = work_dir / LAST
    recorded = Path(last.read_text(errors="replace").strip()) if last.is_file() else None
    if recorded is not None and recorded.name:
        # Relative to where the run was started; and work dirs are moved.
        recorded = recorded if recorded.is_file() else work_dir / recorded.name
        yield recorded
    numbers = {path: NUMBERED.fullmatch(path.name) for path in work_dir.glob("*.pth")}
    others = [(int(match[1]), path) for path, match in numbers.items() if match]
    for _, path in sorted(others, reverse=True):
        if recorded is None or path.name != recorded.name:
            yield path


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
