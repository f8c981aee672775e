"""Checkpoints survive a kill at any moment, and damage; resuming finds them."""

import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from engine.runs import result, runner, same
from mmengine.hooks import Hook

from fcn_plugin.engine.resuming import (
    check_resumable,
    find_checkpoint,
    last_resumable,
    move_checkpoints,
)
from fcn_plugin.errors import UserError


class Killed(BaseException):
    """Stands in for a signal; nothing catches it."""


class Moments(Hook):
    """Counts what happens to the disk and in a run, and ends the run at the one wanted."""

    def __init__(self, end: int | None = None) -> None:
        self.end, self.passed = end, 0

    def __call__(self) -> None:
        if self.passed == self.end:
            raise Killed
        self.passed += 1

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self()

    def before_val(self, runner) -> None:
        self()


# Before and after each of these the run may be killed.
DISK = ("replace", "remove", "unlink", "fsync")


def train(folder: Path, moment: Moments, **settings) -> dict:
    run = runner(folder, iterations=6, **settings)
    run.register_hook(moment)

    def call(function: Callable, *args: Any, **kwargs: Any) -> Any:
        moment()
        done = function(*args, **kwargs)
        moment()
        return done

    with pytest.MonkeyPatch.context() as patch:
        for name in DISK:
            patch.setattr(os, name, partial(call, getattr(os, name)))
        run.train()
    return result(run)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix == ".pth"}


def last(folder: Path, passed_over: int = 0) -> Path | None:
    """The checkpoint to resume from; of each one passed over a word is said."""
    words: list[str] = []
    file = last_resumable(folder, words.append)
    assert len(words) == passed_over and all("passed over" in text for text in words)
    return file


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_a_moment(tmp_path, every):
    """Resumed as tools/train.py does, the run ends with the same weights and the same files."""
    moments = Moments()
    whole = train(tmp_path / "whole", moments)
    assert moments.passed > 40
    for end in range(0, moments.passed, every):
        folder = tmp_path / str(end)
        with pytest.raises(Killed):
            train(folder, Moments(end))
        file = last(folder)
        settings = dict(resume=True, load_from=str(file)) if file else {}
        assert same(train(folder, Moments(), **settings), whole), f"killed at moment {end}"
        assert files(folder) == files(tmp_path / "whole"), f"killed at moment {end}"


def test_the_last_snapshot_is_scored_though_its_scoring_was_interrupted(tmp_path):
    """mmengine alone finds nothing left to do, and the last snapshot is never a candidate."""

    class Die(Hook):
        def before_val(self, runner) -> None:
            if runner.iter == 6:
                raise Killed

    run = runner(tmp_path, iterations=6)
    run.register_hook(Die(), priority="VERY_HIGH")
    with pytest.raises(Killed):
        run.train()
    # On from its scoring; after that; and between two scorings, where nothing more is scored.
    for iterations, times in ((6, 1), (6, 0), (8, 1), (9, 1)):
        run = runner(tmp_path, iterations, resume=True)
        run.train()
        (metric,) = run.val_loop.evaluator.metrics
        assert metric.times == times
        if iterations == 6:
            assert (tmp_path / "best_mIoU_iter_6.pth").exists()


# --- work dirs with several ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    runner(folder, checkpoint=dict(max_keep_ckpts=3)).train()
    assert {"iter_4.pth", "iter_6.pth", "iter_8.pth"} <= files(folder)
    return folder


@pytest.fixture
def work(finished, tmp_path) -> Path:
    """A copy, whose record names the original's last one, which is still there."""
    return Path(shutil.copytree(finished, tmp_path / "work"))


def test_a_damaged_one_is_passed_over_with_a_word(work):
    """One bit within a tensor, where PyTorch itself does not look, or half of the file."""
    assert last(work) == work / "iter_8.pth"
    content = (work / "iter_8.pth").read_bytes()
    with zipfile.ZipFile(work / "iter_8.pth") as archive:
        tensors = [archive.read(name) for name in archive.namelist() if "/data/" in name]
    at = content.index(max(tensors, key=lambda tensor: len(set(tensor))))
    flipped = content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :]
    for damaged in (flipped, content[: len(content) // 2]):
        (work / "iter_8.pth").write_bytes(damaged)
        assert last(work, 1) == work / "iter_6.pth"
    for name in ("iter_4.pth", "iter_6.pth"):
        (work / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"none of its 3 checkpoints .* load_from=.*best_mIoU"):
        last(work)
    (best,) = work.glob("best_*.pth")
    with pytest.raises(UserError, match="holds no optimizer, so that a run cannot go on from it"):
        check_resumable(best)


def test_a_work_dir_may_be_moved_and_its_record_lost(work):
    (work / "last_checkpoint").write_text("elsewhere/iter_4.pth")
    assert last(work) == work / "iter_4.pth"
    for content in (b"", b"\xff\x00\n"):
        (work / "last_checkpoint").write_bytes(content)
        assert last(work, passed_over=len(content) > 0) == work / "iter_8.pth"
    assert last(work / "none") is None


def test_to_predict_with_the_best_one_is_found(work, capsys):
    """The newest best one that is whole, else the last; a file is itself."""
    (best,) = work.glob("best_*")
    assert find_checkpoint(work) == best
    os.utime(best, (1, 1))
    newer = Path(shutil.copy(best, work / "best_mIoU_iter_2.pth"))
    os.utime(newer, (2, 2))
    assert find_checkpoint(work) == newer == find_checkpoint(newer)
    newer.write_bytes(b"")
    assert find_checkpoint(work) == best
    best.write_bytes(b"")
    assert find_checkpoint(work) == work / "iter_8.pth"
    assert f"warning: passed over, {newer}" in capsys.readouterr().err


def test_a_new_run_sets_the_old_ones_aside(work):
    (work / "mine.pth").write_bytes(b"mine")
    written = files(work) - {"mine.pth"}
    aside = move_checkpoints(work, needed=str(work / "iter_6.pth"))
    assert aside is not None
    assert files(aside) == written - {"iter_6.pth"} and (aside / "last_checkpoint").is_file()
    assert files(work) == {"iter_6.pth", "mine.pth"}
    assert move_checkpoints(work, needed=None) == work / "earlier_run_2"
    assert last(work) is None


# --- what a snapshot holds -----------------------------------------------------------------------


def test_what_could_not_be_resumed_from_is_told_at_once(tmp_path):
    class Writes(Hook):
        def before_save_checkpoint(self, runner, checkpoint) -> None:
            checkpoint["message_hub"]["runtime_info"]["iter"] = "two"

    for saves in (False, True):  # without an optimizer it is not for going on from
        run = runner(tmp_path, iterations=2, checkpoint=dict(save_optimizer=saves))
        run.register_hook(Writes())
        with pytest.raises(UserError, match="has just saved") if saves else nullcontext():
            run.train()


def test_the_best_one_of_another_run_stays(tmp_path):
    """One that goes on from its checkpoint, in a work dir of its own, has a best one of its own."""
    runner(tmp_path / "first", iterations=4).train()
    start = str(tmp_path / "first" / "iter_4.pth")
    runner(tmp_path / "second", iterations=9, resume=True, load_from=start).train()
    assert [len(list((tmp_path / name).glob("best_*"))) for name in ("first", "second")] == [1, 1]


def test_a_better_score_of_the_same_iteration(tmp_path):
    """Its file takes the place of the one before, and is not deleted with it."""
    run = runner(tmp_path, iterations=6)
    run.train()
    for _ in range(2):
        run.model.weight.data += 1
        run.val_loop.run()
        assert [path.name for path in tmp_path.glob("best_*")] == ["best_mIoU_iter_6.pth"]
