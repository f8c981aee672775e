"""Resume: find the checkpoint, and redo the validation that was interrupted."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from fcn_plugin.errors import UserError
from fcn_plugin.weights.files import check_checkpoint
from fcn_plugin.weights.structure import check_run

LAST = "last_checkpoint"  # mmengine's file with the name of the last one
SCORED = "scored"  # in the message hub: the iteration that was scored last
NUMBERED = re.compile(r"(?:iter|epoch)_(\d+)\.pth")
WRITTEN = re.compile(r"((?:iter|epoch)_|best_|bad_numbers_).*\.pth")
NEEDED = ("state_dict", "optimizer", "message_hub", "meta")  # in a checkpoint to resume from


def first_usable(
    files: Iterable[Path],
    warn: Callable[[str], None],
    check: Callable[[Path], object] = check_checkpoint,
) -> Path | None:
    """The first file that passes ``check``; ``warn`` gets a line for each one before it."""
    for file in files:
        try:
            check(file)
            return file
        except UserError as fault:
            warn(f"passed over, {fault}")
    return None


def find_checkpoint(path: Path) -> Path:
    """``path`` itself, or of a work dir the newest best checkpoint that is whole, else the last.

    Raises:
        UserError: there is none, or the file is damaged.
    """
    if not path.is_dir():
        check_checkpoint(path)
        return path
    best = sorted(path.glob("best_*.pth"), key=lambda file: -file.stat().st_mtime)
    file = first_usable((*best, *checkpoints_of(path)), partial(print, "warning:", file=sys.stderr))
    if file is None:
        raise UserError(f"{path}: no checkpoint there; train one first with tools/train.py")
    return file


def last_resumable(work_dir: Path, warn: Callable[[str], None]) -> Path | None:
    """The last checkpoint of a run that it can be resumed from; None if it wrote none yet.

    ``warn`` gets a line for each damaged one that is skipped.

    Raises:
        UserError: there are some, but all are damaged.
    """
    files = list(checkpoints_of(work_dir))
    file = first_usable(files, warn, check_resumable)
    if files and file is None:
        best = next(iter(sorted(work_dir.glob("best_*.pth"))), None)
        start = f"start from the best one, --cfg-options load_from={best}, or " if best else ""
        raise UserError(
            f"{work_dir}: none of its {len(files)} checkpoints can be used; put one there that "
            f"can, {start}leave --resume out to start anew"
        )
    return file


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
    """A run's checkpoints: the last by its own record, then the others, latest first."""
    last = work_dir / LAST
    record = last.read_text(errors="replace").strip() if last.is_file() else ""
    folder, name = Path(record).parent, Path(record).name
    # The record is relative to where the run was started, and work dirs are moved and copied; but
    # checkpoints may lie elsewhere (out_dir).
    if not name or (work_dir / name).is_file() or not (folder / name).is_file():
        folder = work_dir
    if name:
        yield folder / name
    matches = {path: NUMBERED.fullmatch(path.name) for path in folder.glob("*.pth")}
    numbers = {path: int(match[1]) for path, match in matches.items() if match}
    latest_first = sorted(numbers, key=lambda path: (numbers[path], path), reverse=True)
    yield from (path for path in latest_first if path.name != name)


def set_aside(work_dir: Path, needed: str | None) -> Path | None:
    """Move an earlier run's checkpoints, but for ``needed``, into a new folder, and return it.

    A new run would not delete them, a resumed one could go on from them, and the best of them would
    be taken for its best.
    """
    written = [path for path in work_dir.glob("*.pth") if WRITTEN.fullmatch(path.name)]
    if needed and Path(needed).exists():
        written = [path for path in written if not path.samefile(needed)]
    if not written:
        return None
    folder = next(
        folder for n in count(1) if not (folder := work_dir / f"earlier_run_{n}").exists()
    )
    folder.mkdir()
    for path in (work_dir / LAST, *written):
        if path.exists():
            path.rename(folder / path.name)
    return folder


@HOOKS.register_module()
class ScoreResumedHook(Hook):
    """A resumed run first scores the snapshot it goes on from.

    mmengine writes a snapshot, scores it, deletes the best one so far and writes the new best. If
    it is killed meanwhile, the resumed run starts after the scoring: the snapshot is never a
    candidate, or the best one is gone. A snapshot that was written again after its scoring, as the
    best one is, says so and is not scored twice: schedules may go by the number of scorings.
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
