"""Checkpoints survive a kill at any moment, a full disk and damage; resuming finds them."""

import copy
import errno
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from engine.runs import result, runner, same
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from fcn_plugin.engine.resuming import (
    check_resumable,
    find_checkpoint,
    last_resumable,
    set_aside,
)
from fcn_plugin.errors import UserError


class Killed(BaseException):
    """Stands in for a signal; nothing catches it."""


class Moments:
    """Counts what happens to the disk, and ends the run at the one wanted."""

    def __init__(self, end: int | None = None) -> None:
        self.end, self.passed = end, 0

    def __call__(self) -> None:
        if self.passed == self.end:
            raise Killed
        self.passed += 1


# Before and after each of these the run may be killed.
DISK = ("replace", "remove", "unlink", "fsync")


@contextmanager
def counted(moment: Moments, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def wrapped(function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            moment()
            done = function(*args, **kwargs)
            moment()
            return done

        return call

    with monkeypatch.context() as patch:
        for name in DISK:
            patch.setattr(os, name, wrapped(getattr(os, name)))
        yield


class EachStep(Hook):
    def __init__(self, moment: Moments) -> None:
        self.moment = moment

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.moment()

    def before_val(self, runner) -> None:
        self.moment()


def train(folder: Path, moment: Moments, monkeypatch, resume: bool, **settings) -> dict:
    run = runner(folder, iterations=6, resume=resume, **settings)
    run.register_hook(EachStep(moment))
    with counted(moment, monkeypatch):
        run.train()
    return copy.deepcopy(result(run))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix == ".pth"}


@pytest.mark.parametrize(
    "every", [4, pytest.param(1, marks=pytest.mark.slow)], ids=["every-fourth", "every"]
)
def test_killed_at_a_moment(tmp_path, monkeypatch, every):
    """Resumed as tools/train.py does, the run ends with the same weights and the same files."""
    moments = Moments()
    whole = train(tmp_path / "whole", moments, monkeypatch, resume=False)
    assert moments.passed > 40
    for end in range(0, moments.passed, every):
        folder = tmp_path / str(end)
        with pytest.raises(Killed):
            train(folder, Moments(end), monkeypatch, resume=False)
        last = last_resumable(folder, pytest.fail)
        settings = dict(load_from=str(last)) if last else {}
        again = train(folder, Moments(), monkeypatch, resume=last is not None, **settings)
        assert same(again, whole), f"killed at moment {end} of {moments.passed}"
        assert files(folder) == files(tmp_path / "whole"), f"killed at moment {end}"


def test_mmengine_alone_loses_its_only_checkpoint(tmp_path, monkeypatch):
    """It deletes before it writes, which makes the test above one that can fail."""
    settings = dict(checkpoint=dict(type="CheckpointHook"))
    moments = Moments()
    train(tmp_path / "whole", moments, monkeypatch, resume=False, **copy.deepcopy(settings))
    for end in range(moments.passed):
        with pytest.raises(Killed):
            train(tmp_path / str(end), Moments(end), monkeypatch, False, **copy.deepcopy(settings))
        begun = (tmp_path / str(end) / "last_checkpoint").is_file()
        if begun and not list((tmp_path / str(end)).glob("iter_*.pth")):
            return
    pytest.fail("it never did")


@pytest.mark.parametrize("hook", [True, False])
def test_the_last_snapshot_is_scored_though_its_scoring_was_interrupted(tmp_path, hook):
    """mmengine alone finds nothing left to do, and the last snapshot is never a candidate."""

    class Die(Hook):
        def before_val(self, runner) -> None:
            if runner.iter == 6:
                raise Killed

    hooks = {} if hook else dict(hooks=dict(score_resumed=dict(type=Hook)))
    run = runner(tmp_path, iterations=6, **copy.deepcopy(hooks))
    run.register_hook(Die(), priority="VERY_HIGH")
    with pytest.raises(Killed):
        run.train()
    # Before the end, on the end, and after its scoring: from it a run scores what it has not yet.
    for iterations, times in ((6, hook), (6, False), (9, True)):
        run = runner(tmp_path, iterations, resume=True, **copy.deepcopy(hooks))
        run.train()
        (metric,) = run.val_loop.evaluator.metrics
        assert metric.times == times
        if iterations == 6:
            (best,) = tmp_path.glob("best_*")
            assert best.name == f"best_mIoU_iter_{6 if hook else 3}.pth"


def test_between_two_scorings_nothing_more_is_scored(tmp_path):
    runner(tmp_path, iterations=4).train()
    run = runner(tmp_path, iterations=6, resume=True)
    run.train()
    assert run.val_loop.evaluator.metrics[0].times == 1


def test_a_full_disk_leaves_the_last_one(tmp_path, monkeypatch):
    run = runner(tmp_path, iterations=6)
    written = []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left") as raised:
        patch.setattr(os, "fsync", full)
        run.train()
    assert raised.value.filename == str(tmp_path / "best_mIoU_iter_3.pth")
    assert [path.name for path in tmp_path.glob("*.pth*")] == ["iter_2.pth"]
    assert last_resumable(tmp_path, pytest.fail) == tmp_path / "iter_2.pth"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    runner(folder, checkpoint=dict(max_keep_ckpts=3)).train()
    assert {"iter_4.pth", "iter_6.pth", "iter_8.pth"} <= files(folder)
    return folder


def copy_files(source: Path, target: Path, *names: str) -> None:
    for name in names:
        (target / name).write_bytes((source / name).read_bytes())


def damaged(content: bytes, how: str) -> bytes:
    if how == "flipped":  # within a tensor, where PyTorch itself does not look
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            tensors = [archive.read(name) for name in archive.namelist() if "/data/" in name]
        at = content.index(max(tensors, key=lambda tensor: len(set(tensor))))
        return content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :]
    return dict(cut=content[: len(content) // 2], empty=b"", zeros=bytes(len(content)))[how]


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "zeros"])
def test_a_damaged_one_is_passed_over_with_a_word(finished, tmp_path, how):
    copy_files(finished, tmp_path, "iter_4.pth", "iter_6.pth", "iter_8.pth", "last_checkpoint")
    last, words = tmp_path / "iter_8.pth", []
    (tmp_path / "last_checkpoint").write_text(str(last))
    assert last_resumable(tmp_path, words.append) == last
    last.write_bytes(damaged(last.read_bytes(), how))
    assert last_resumable(tmp_path, words.append) == tmp_path / "iter_6.pth"
    assert len(words) == 1 and "passed over" in words[0] and str(last) in words[0]
    for name in ("iter_4.pth", "iter_6.pth"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="none of its 3 checkpoints can be used"):
        last_resumable(tmp_path, words.append)


def test_a_work_dir_may_be_moved_and_its_record_lost(finished, tmp_path):
    copy_files(finished, tmp_path, "iter_4.pth", "iter_6.pth", "last_checkpoint")
    (tmp_path / "last_checkpoint").write_text("elsewhere/iter_4.pth")
    assert last_resumable(tmp_path, pytest.fail) == tmp_path / "iter_4.pth"
    for content in (b"", b"\xff\x00\n"):
        (tmp_path / "last_checkpoint").write_bytes(content)
        words: list[str] = []
        assert last_resumable(tmp_path, words.append) == tmp_path / "iter_6.pth"
    assert last_resumable(tmp_path / "none", pytest.fail) is None


def test_to_predict_with_the_best_one_is_found(finished, tmp_path, capsys):
    """The newest best one that is whole, else the last; a file is itself."""
    (best,) = (path.name for path in finished.glob("best_*"))
    with pytest.raises(UserError, match=r"no checkpoint there; train one first"):
        find_checkpoint(tmp_path)
    copy_files(finished, tmp_path, "iter_6.pth", best)
    assert find_checkpoint(tmp_path) == tmp_path / best
    os.utime(tmp_path / best, (1, 1))
    newer = tmp_path / "best_mIoU_iter_2.pth"
    newer.write_bytes((finished / best).read_bytes())
    assert find_checkpoint(tmp_path) == newer == find_checkpoint(newer)
    newer.write_bytes(b"")
    assert find_checkpoint(tmp_path) == tmp_path / best
    (tmp_path / best).write_bytes(b"")
    assert find_checkpoint(tmp_path) == tmp_path / "iter_6.pth"
    assert f"warning: passed over, {newer}" in capsys.readouterr().err
    with pytest.raises(UserError, match=re.escape(str(newer))):
        find_checkpoint(newer)


def test_of_a_copied_work_dir_its_own_are_taken(finished, tmp_path):
    """Though its record names the original's, which is still there."""
    copy_files(finished, tmp_path, "iter_6.pth", "iter_8.pth", "last_checkpoint")
    assert last_resumable(tmp_path, pytest.fail) == tmp_path / "iter_8.pth"


def test_checkpoints_elsewhere(tmp_path):
    """All of them are looked at, not the recorded one alone."""
    run = runner(
        tmp_path / "work", checkpoint=dict(out_dir=str(tmp_path / "out"), max_keep_ckpts=2)
    )
    run.train()
    last = last_resumable(tmp_path / "work", pytest.fail)
    assert last == tmp_path / "out" / "work" / "iter_8.pth"
    last.write_bytes(b"")
    words: list[str] = []
    assert last_resumable(tmp_path / "work", words.append) == last.with_name("iter_6.pth")
    assert len(words) == 1


def test_the_best_one_of_another_run_stays(tmp_path):
    """One that goes on from its checkpoint, in a work dir of its own, has a best one of its own."""
    runner(tmp_path / "first", iterations=4).train()
    (best,) = (tmp_path / "first").glob("best_*")
    last = tmp_path / "first" / "iter_4.pth"
    runner(tmp_path / "second", iterations=9, resume=True, load_from=str(last)).train()
    assert best.is_file()
    assert len(list((tmp_path / "second").glob("best_*"))) == 1


def test_a_new_run_sets_the_old_ones_aside(finished, tmp_path):
    copy_files(finished, tmp_path, "iter_6.pth", "iter_8.pth", "last_checkpoint")
    (tmp_path / "mine.pth").write_bytes(b"mine")
    aside = set_aside(tmp_path, needed=str(tmp_path / "iter_6.pth"))
    assert aside is not None
    assert files(aside) == {"iter_8.pth"} and (aside / "last_checkpoint").is_file()
    assert files(tmp_path) == {"iter_6.pth", "mine.pth"}
    assert set_aside(tmp_path, needed=None) == tmp_path / "earlier_run_2"
    assert set_aside(tmp_path, needed=None) is None
    assert last_resumable(tmp_path, pytest.fail) is None


def test_what_could_not_be_resumed_from_is_told_at_once(tmp_path):
    class Keeps(Hook):
        def before_save_checkpoint(self, runner, checkpoint) -> None:
            checkpoint["meta"]["path"] = Path("anything")

    run = runner(tmp_path)
    run.register_hook(Keeps())
    with pytest.raises(UserError, match=r"has just saved: .*iter_2.pth: asks for pathlib"):
        run.train()


class Writes(Hook):
    """Where the run's own record of its iterations stands."""

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        checkpoint["message_hub"]["runtime_info"]["iter"] = "two"


@pytest.mark.parametrize("save_optimizer", [True, False])
def test_the_first_one_is_judged_as_when_it_is_resumed_from(tmp_path, save_optimizer):
    """But for runs that save nothing to go on from."""
    run = runner(tmp_path, iterations=2, checkpoint=dict(save_optimizer=save_optimizer))
    run.register_hook(Writes())
    with (
        pytest.raises(UserError, match=r"has just saved: .*iter_2.pth: .*iter")
        if (save_optimizer)
        else nullcontext()
    ):
        run.train()


def test_the_best_one_cannot_be_resumed_from(finished):
    (best,) = finished.glob("best_*.pth")
    with pytest.raises(UserError, match="holds no optimizer, so that a run cannot go on from it"):
        check_resumable(best)


def test_several_best_ones(tmp_path):
    """One for each score; each replaces its own."""
    settings = dict(checkpoint=dict(save_best=["mIoU", "other"], rule=["greater", "less"]))

    class Two(Hook):
        priority = "VERY_HIGH"

        def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
            metrics["other"] = float(-runner.iter)

    for resume in (False, True):
        run = runner(
            tmp_path, iterations=9 if resume else 6, resume=resume, **copy.deepcopy(settings)
        )
        run.register_hook(Two())
        run.train()
    assert [path.name for path in sorted(tmp_path.glob("best_other*"))] == ["best_other_iter_9.pth"]
    assert len(list(tmp_path.glob("best_mIoU*"))) == 1


def test_a_better_score_of_the_same_iteration(tmp_path):
    """Its file takes the place of the one before, and is not deleted with it."""
    run = runner(tmp_path, iterations=6)
    run.train()
    for _ in range(2):
        run.model.weight.data += 1
        run.val_loop.run()
        (best,) = tmp_path.glob("best_*")
        assert best.name == "best_mIoU_iter_6.pth"


def test_gradients_between_two_steps_are_told_of(tmp_path):
    """They are in no checkpoint."""
    for interval, scored, word in ((2, 4, False), (3, 4, True), (2, 3, True)):
        run = runner(
            tmp_path / f"{interval}-{scored}",
            iterations=1,
            checkpoint=dict(interval=interval),
            train_cfg=dict(val_interval=scored),
            cfg=Config(dict(optim_wrapper=dict(accumulative_counts=2))),
            log_level="INFO",
        )
        run.train()
        log = next(Path(run.work_dir).rglob(f"{run.timestamp}.log")).read_text()
        assert ("loses the gradients since the last step" in log) == word
