"""Going on after an interruption: from which checkpoint, and what was left undone."""

import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from fcn_plugin.errors import UserError
from fcn_plugin.weights.files import check_checkpoint
from fcn_plugin.weights.structure import check_run

LAST = "last_checkpoint"  # the host's file with the name of the last one
EARLIER = "earlier_run_"  # folders for what a run finds in its work dir
SCORED = "scored"  # in the message hub: the iteration that was scored last
NUMBERED = re.compile(r"(?:iter|epoch)_(\d+)\.pth")
WRITTEN = re.compile(r"((?:iter|epoch)_|best_|bad_numbers_).*\.pth")
NEEDED = ("state_dict", "optimizer", "message_hub", "meta")


def last_whole_checkpoint(work_dir: Path, warn: Callable[[str], None]) -> Path | None:
    """The last checkpoint of a run that it can be resumed from; None if it wrote none yet.

    Each one that is damaged is passed over, for the one before it, and told to ``warn``.

    Raises:
        UserError: there are some, but all are damaged.
    """
    found = list(checkpoints_of(work_dir))
    for path in found:
        try:
            check_resumable(path)
            return path
        except UserError as fault:
            warn(f"passed over, {fault}")
    if found:
        best = next(iter(sorted(work_dir.glob("best_*.pth"))), None)
        start = f"start from the best one, --cfg-options load_from={best}, or " if best else ""
        raise UserError(
            f"{work_dir}: none of its {len(found)} checkpoints can be used; put one there that "
            f"can, {start}leave --resume out to start anew"
        )
    return None


def check_resumable(path: Path, finite: bool = True) -> None:
    """Raise a ``UserError`` if a run cannot go on from ``path`` as it would have.

    ``finite`` is as for ``check_checkpoint``.
    """
    held = check_checkpoint(path, finite)
    if missing := [name for name in NEEDED if name not in held]:
        raise UserError(
            f"{path}: holds no {' and no '.join(missing)}, so that a run cannot go on from it; "
            "give an iter_N.pth, or start with it: --cfg-options load_from=FILE"
        )
    check_run(path, held)


def checkpoints_of(work_dir: Path) -> Iterator[Path]:
    """Those of a run: the last by its own record, then the others in the work dir, latest first."""
    last = work_dir / LAST
    record = last.read_text(errors="replace").strip() if last.is_file() else ""
    folder, name = Path(record).parent, Path(record).name
    # The record is relative to where the run was started, and work dirs are moved and copied; but
    # checkpoints may lie elsewhere (out_dir).
    if not name or (work_dir / name).is_file() or not (folder / name).is_file():
        folder = work_dir
    if name:
        yield folder / name
    numbers = {path: NUMBERED.fullmatch(path.name) for path in folder.glob("*.pth")}
    others = [(int(found[1]), path) for path, found in numbers.items() if found]
    yield from (path for _, path in sorted(others, reverse=True) if path.name != name)


def set_aside(work_dir: Path, needed: str | None) -> Path | None:
    """Move the checkpoints of an earlier run into a folder of their own, which is returned.

    A new run would not delete them, a resumed one could go on from them, and the best of them would
    be taken for its best. ``needed`` is a file that stays.
    """
    written = [path for path in work_dir.glob("*.pth") if WRITTEN.fullmatch(path.name)]
    if needed and Path(needed).exists():
        written = [path for path in written if not path.samefile(needed)]
    if not written:
        return None
    folder = next(folder for n in count(1) if not (folder := work_dir / f"{EARLIER}{n}").exists())
    folder.mkdir()
    for path in (work_dir / LAST, *written):
        if path.exists():
            path.rename(folder / path.name)
    return folder


@HOOKS.register_module()
class ScoreResumedHook(Hook):
    """A resumed run first scores the snapshot it goes on from.

    The host writes a snapshot, then scores it, deletes the best one so far and writes the new
    best. A run that is killed meanwhile would go on after the scoring, with a snapshot that never
    was a candidate or a best one that is gone; killed at the last snapshot it would just end. A
    snapshot that was written again after its scoring, as the best one is, says so and is not scored
    twice: schedules may go by the number of scorings.
    """

    # After CheckpointHook (VERY_LOW), which in ``before_train`` finds the best snapshot so far.
    priority = "LOWEST"

    def before_val(self, runner: Runner) -> None:
        runner.message_hub.update_info(SCORED, runner.iter)

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if runner.val_loop is None or not isinstance(loop, IterBasedTrainLoop):
            return
        if runner.message_hub.runtime_info.get(SCORED) == runner.iter:
            return
        due = runner.iter % loop.val_interval == 0 or runner.iter == loop.max_iters
        if runner.iter >= max(loop.val_begin, 1) and due:
            runner.val_loop.run()
