"""A full disk: what is written is whole or not there, and the message names the file."""

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
from PIL import Image
from prediction.trained import CLASSES, image, trained
from tools.running import as_module

from fcn_plugin.data.labels import save_labels
from fcn_plugin.data.picture_files import save_picture
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.evaluation.pictures import PicturesHook
from fcn_plugin.prediction import Predictor
from fcn_plugin.report.panels import save_panels
from fcn_plugin.system import files
from fcn_plugin.system.files import allocate, replacing

NOISE = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)


@contextmanager
def files_of_at_most(size: int):
    """Writing more fails half-way, as on a full disk, with another number of the error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


WRITERS = {
    "labels": ("a.png", lambda path: save_labels(NOISE, path)),
    "overlay": ("a.jpg", lambda path: save_picture(Image.fromarray(NOISE), path, quality=90)),
    "panels": (
        "0.png",
        lambda path: save_panels(path.parent, 0, np.stack([NOISE] * 3, -1), NOISE, NOISE),
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_picture_is_whole_or_not_there(tmp_path, name):
    file, write = WRITERS[name]
    with files_of_at_most(20_000), pytest.raises(OSError, match=file) as error:
        write(tmp_path / file)
    assert error.value.filename == str(tmp_path / file)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / file)
    Image.open(tmp_path / file).load()
    before = (tmp_path / file).read_bytes()
    with files_of_at_most(20_000), pytest.raises(OSError, match=file):
        write(tmp_path / file)
    assert (tmp_path / file).read_bytes() == before


def test_processes_that_write_one_file_do_not_meet(tmp_path, monkeypatch):
    with replacing(tmp_path / "a.png", alone=False) as one:
        one.write_text("one")
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 1)
            with replacing(tmp_path / "a.png", alone=False) as two:
                two.write_text("two")
    assert (tmp_path / "a.png").read_text() == "one"


@pytest.mark.parametrize("fallocate", [True, False])
def test_space_is_taken_before_it_is_written(tmp_path, monkeypatch, fallocate):
    if not fallocate:
        monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(files, "BLOCK", 1000)
    file = tmp_path / "a"
    file.write_bytes(b"head")
    os.truncate(file, 100_000)
    allocate(file)
    assert file.stat().st_blocks * 512 >= 100_000
    assert file.read_bytes() == b"head" + bytes(99_996)


def test_probabilities_are_allocated_first(tmp_path, monkeypatch):
    """A memory map over a hole would kill the process where the disk is full."""

    def full(file: Path):
        assert file.stat().st_blocks * 512 < file.stat().st_size
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fcn_plugin.prediction.result.allocate", full)
    config, weights = trained(tmp_path, dataset_meta=dict(classes=CLASSES))
    picture = image(tmp_path / "a.png", 64, 64)
    predict = Predictor(config, weights, "cpu")
    with pytest.raises(OSError, match=r"out/a\.npy"):
        predict(picture, probabilities=tmp_path / "out" / "a.npy")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "file", "allowed"),
    [
        ([], "labels/a.png", 1_000),
        ([], "overlays/a.jpg", 10_000),
        (["--probabilities"], "probabilities/a.npy", 200_000),
    ],
)
def test_predict_names_the_file(tmp_path, monkeypatch, options, file, allowed):
    trained(tmp_path, dataset_meta=dict(classes=CLASSES))
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    argv = ["predict.py", "tiny.py", "weights.pth", "a.png", "--out", "out", *options]
    monkeypatch.setattr("sys.argv", argv)
    with as_module("predict") as predict:
        unlimited = predict.predict

        def limited(*arguments):  # not all of the tool: mmengine writes configs to read them
            with files_of_at_most(allowed):
                unlimited(*arguments)

        monkeypatch.setattr(predict, "predict", limited)
        with pytest.raises(OSError, match="File too large") as error:
            predict.main()
    with as_module("common") as common:
        assert common.explain(error.value).startswith(f"out/{file}: ")
    left = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert left - {".predictions"} == ({"labels/a.png"} if "jpg" in file else set())


def sample_of(folder: Path) -> SegDataSample:
    """What a tested network gives of an image: the file, truth and prediction of noise."""
    size = 160
    labels = np.random.default_rng(0).integers(0, 5, (1, size, size))
    data = PixelData(data=torch.from_numpy(labels))
    sample = SegDataSample(gt_sem_seg=data, pred_sem_seg=data)
    sample.set_metainfo(dict(img_path=str(image(folder / "a.jpg", size, size))))
    return sample


META = dict(classes=CLASSES, palette=[[9 * i] * 3 for i in range(5)])


def test_the_metrics_predictions_are_whole_or_not_there(tmp_path):
    metric = ConfusionMatrixMetric(output_dir=str(tmp_path / "out"), format_only=True)
    metric.dataset_meta = META
    sample = sample_of(tmp_path).to_dict()
    with files_of_at_most(5_000), pytest.raises(OSError, match=r"out/a\.png"):
        metric.process({}, [sample])
    assert list((tmp_path / "out").iterdir()) == []


def test_pictures_of_a_test_are_whole_or_not_there(tmp_path, monkeypatch):
    """The scores are dearer than they: it is said once, and the test goes on."""
    dataset = SimpleNamespace(metainfo=META)
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    said: list[str] = []
    monkeypatch.setattr("fcn_plugin.data.display.print_log", lambda text, *_: said.append(text))
    hook = PicturesHook(str(tmp_path / "out"))
    hook.before_test(runner)
    samples = [sample_of(tmp_path)] * 2
    with files_of_at_most(5_000):
        hook.after_test_iter(runner, 0, outputs=samples)
    assert list((tmp_path / "out").iterdir()) == []
    (line,) = said
    assert "out/a.png" in line
    hook.after_test_iter(runner, 1, outputs=samples)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
