"""What is written is whole or not there, also when the writer is killed or the disk is full."""

import errno
import os
import resource
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from prediction.trained import CLASSES, image, trained

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.pictures import PicturesHook
from fcn_plugin.prediction import Predictor
from fcn_plugin.system.files import allocate, disk_full, replacing

NOISE = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_takes_the_place_of_the_target_if_nothing_goes_wrong(tmp_path):
    target = tmp_path / "new" / "list.txt"
    for before, text in (({}, "one"), ({"list.txt": "one"}, "two")):
        with replacing(target) as part:
            part.write_text(text)
            assert contents(target.parent) == before | {part.name: text}
        assert contents(target.parent) == {"list.txt": text}
    with pytest.raises(KeyboardInterrupt), replacing(target) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert contents(target.parent) == {"list.txt": "two"}
    # Killed, which leaves a part that the next writer overwrites.
    part.write_text("half")
    with replacing(target) as part:
        part.write_text("new")
    assert contents(target.parent) == {"list.txt": "new"}


def test_processes_that_write_one_file_do_not_meet(tmp_path, monkeypatch):
    with replacing(tmp_path / "a.png", alone=False) as one:
        one.write_text("one")
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 1)
            with replacing(tmp_path / "a.png", alone=False) as two:
                two.write_text("two")
    assert (tmp_path / "a.png").read_text() == "one"


@contextmanager
def files_of_at_most(size: int):
    """Writing more fails half-way, as on a full disk, with another number of the error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_with_the_file_and_any_other_error_passes(tmp_path):
    with (
        files_of_at_most(10),
        pytest.raises(UserError, match="a: the disk is full; make room"),
        disk_full(tmp_path / "a"),
    ):
        (tmp_path / "b").write_bytes(bytes(100))
    with pytest.raises(FileNotFoundError), disk_full(tmp_path / "a"):
        (tmp_path / "none").read_bytes()


def test_space_is_taken_before_it_is_written(tmp_path, monkeypatch):
    """Writing probabilities over a hole would kill the process where the disk is full."""

    def full(file: Path):
        allocate(file)
        assert file.stat().st_blocks * 512 >= file.stat().st_size > 0
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fcn_plugin.prediction.result.allocate", full)
    config, weights = trained(tmp_path, dataset_meta=dict(classes=CLASSES))
    predict, out = Predictor(config, weights, "cpu"), tmp_path / "out"
    with pytest.raises(OSError, match=r"out/a\.npy"):
        predict(image(tmp_path / "a.png", 64, 64), probabilities=out / "a.npy")
    assert list(out.iterdir()) == []


def test_a_test_goes_on_without_a_picture(tmp_path, monkeypatch):
    """The scores are dearer than the pictures: it is said once, and the test goes on."""
    labels = PixelData(data=torch.from_numpy(NOISE[None, :160, :160] % 5).long())
    sample = SegDataSample(gt_sem_seg=labels, pred_sem_seg=labels)
    sample.set_metainfo(dict(img_path=str(image(tmp_path / "a.jpg", 160, 160))))
    meta = dict(classes=CLASSES, palette=[[9 * i] * 3 for i in range(5)])
    said: list[str] = []
    monkeypatch.setattr("fcn_plugin.data.display.print_log", lambda text, *_: said.append(text))
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=meta))
    runner = SimpleNamespace(test_dataloader=loader)
    hook = PicturesHook(str(tmp_path / "out"))
    hook.before_test(runner)
    with files_of_at_most(5_000):
        hook.after_test_iter(runner, 0, outputs=[sample] * 2)
        hook._finish(2)
    assert list((tmp_path / "out").iterdir()) == []
    (line,) = said
    assert "out/a.png" in line
    hook.after_test_iter(runner, 1, outputs=[sample])
    hook._finish(1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
