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
from fcn_plugin.weights.addresses import fetched, is_address
from fcn_plugin.weights.files import check_checkpoint
from fcn_plugin.weights.structure import check_run

LAST = "last_checkpoint"  # mmengine's file that names the last checkpoint
SCORED = "scored"  # key in the message hub: the iteration scored last
NUMBERED = re.compile(r"(?:iter|epoch)_(\d+)\.pth")
ANY_CHECKPOINT = re.compile(r"((?:iter|epoch)_|best_|bad_numbers_).*\.pth")
NEEDED = ("state_dict", "optimizer", "message_hub", "meta")  # keys of a checkpoint to resume from


def first_usable(
    files: Iterable[Path],
    warn: Callable[[str], None],
    check: Callable[[Path], object] = check_checkpoint,
) -> Path | None:
    """The first file that passes ``check``; ``warn`` gets a line for each file before it."""
    for file in files:
        try:
            check(file)
            return file
        except UserError as fault:
            warn(f"passed over, {fault}")
    return None


def find_checkpoint(place: str | Path) -> Path:
    """``place`` itself; for a work dir the newest undamaged best checkpoint, else the last one.

    Args:
        place: a file, a work dir, or the address of a file (``addresses.fetched``).

    Raises:
        UserError: there is no checkpoint, or it is damaged.
    """
    if is_address(place):
        with fetched(str(place)) as file:
            check_checkpoint(file)
            return file
    path = Path(place)
    if not path.is_dir():
        check_checkpoint(path)
        return path
    best = sorted(path.glob("best_*.pth"), key=lambda file: -file.stat().st_mtime)
    warn = partial(print, "warning:", file=sys.stderr)
    checkpoint = first_usable((*best, *checkpoints_of(path)), warn)
    if checkpoint is None:
        raise UserError(f"{path}: no checkpoint there; train one first with fcn-plugin train")
    return checkpoint


def last_resumable(work_dir: Path, warn: Callable[[str], None]) -> Path | None:
    """The last checkpoint that the run can be resumed from; None if it has none yet.

    ``warn`` gets a line for each damaged one that is skipped.

    Raises:
        UserError: all of its checkpoints are damaged.
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
    """Raise ``UserError`` if a run cannot be resumed exactly from the checkpoint ``path``.

    ``finite`` is as for ``check_checkpoint``.
    """
    checkpoint = check_checkpoint(path, finite)
    if missing := [name for name in NEEDED if name not in checkpoint]:
        raise UserError(
            f"{path}: holds no {' and no '.join(missing)}, so that a run cannot go on from it; "
            "give an iter_N.pth, or start with it: --cfg-options load_from=FILE"
        )
    check_run(path, checkpoint)


def checkpoints_of(work_dir: Path) -> Iterator[Path]:
    """A run's checkpoints: the one named in ``last_checkpoint``, then the others, latest first."""
    last = work_dir / LAST
    record = last.read_text(errors="replace").strip() if last.is_file() else ""
    folder, name = Path(record).parent, Path(record).name
    # The recorded path is relative to where the run was started, and a work dir may have been moved
    # since: look in the work dir, unless only the recorded folder (out_dir) has the file.
    if not name or (work_dir / name).is_file() or not (folder / name).is_file():
        folder = work_dir
    if name:
        yield folder / name
    matches = {path: NUMBERED.fullmatch(path.name) for path in folder.glob("*.pth")}
    numbers = {path: int(match[1]) for path, match in matches.items() if match}
    latest_first = sorted(numbers, key=lambda path: (numbers[path], path), reverse=True)
    yield from (path for path in latest_first if path.name != name)


def move_checkpoints(work_dir: Path, needed: str | None) -> Path | None:
    """Move an earlier run's checkpoints, except ``needed``, to a new folder; return the folder.

    A new run would not delete them, resuming it might start from one of them, and their best would
    be taken for the new run's best.
    """
    files = [path for path in work_dir.glob("*.pth") if ANY_CHECKPOINT.fullmatch(path.name)]
    if needed and Path(needed).exists():
        files = [path for path in files if not path.samefile(needed)]
    if not files:
        return None
    folder = next(
        folder for n in count(1) if not (folder := work_dir / f"earlier_run_{n}").exists()
    )
    folder.mkdir()
    for path in (work_dir / LAST, *files):
        if path.exists():
            path.rename(folder / path.name)
    return folder


@HOOKS.register_module()
class ScoreResumedHook(Hook):
    """Score the snapshot a run is resumed from, unless that was done before it was saved.

    mmengine writes a snapshot, scores it, deletes the old best one and writes the new best. A run
    killed in between resumes after the scoring: its snapshot cannot become the best, or the best is
    lost. A best snapshot is saved after scoring and records that, so it is not scored again:
    schedules may count the scorings.
    """

    # After CheckpointHook (VERY_LOW), which looks up the best snapshot in ``before_train``.
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
