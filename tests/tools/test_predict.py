"""tools/predict.py as a user runs it."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from prediction.trained import CLASSES, image, trained
from tools.running import ENVIRONMENT, TOOLS, Fork, as_module, ran, tool

from fcn_plugin.prediction import Predictor
from fcn_plugin.prepare.shapes import write_shapes


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Shapes with a config, and a work dir with random weights."""
    folder = tmp_path_factory.mktemp("project")
    write_shapes(folder / "data" / "shapes", train=1, val=5, size=32)
    for number in range(5):  # random weights see little in drawings
        image(folder / f"data/shapes/JPEGImages/val_{number:05}.jpg", 32, 32, number)
    (folder / "run").mkdir()
    _, weights = trained(folder, dataset_meta=dict(classes=CLASSES))
    weights.rename(folder / "run" / "best_mIoU_iter_4.pth")
    return folder


def labels(folder: Path) -> dict[str, list]:
    return {
        str(file.relative_to(folder)): np.asarray(Image.open(file)).tolist()
        for file in sorted(folder.rglob("*.png"))
    }


def test_a_folder_is_labelled_as_testing_does(project):
    images = "data/shapes/JPEGImages/val_*.jpg --out new --batch-size 2 --probabilities"
    run = ran(f"predict.py tiny.py run {images}", folder=project)
    ran("test.py tiny.py run --out tested", folder=project)
    found = labels(project / "new" / "labels")
    assert found == labels(project / "tested") and len(found) == 5
    assert len({value for rows in found.values() for row in rows for value in row}) > 1
    assert {file.suffix for file in (project / "new" / "overlays").iterdir()} == {".jpg"}
    assert np.load(project / "new/probabilities/val_00000.npy").shape == (5, 32, 32)
    assert run.stdout.splitlines()[-2].startswith("Done: 5 images, labels in new/labels, overlays")
    shares = [float(share) for share in re.findall(r"([\d.]+) %", run.stdout)]
    assert sum(shares) == pytest.approx(100, abs=0.05)


def test_what_cannot_be_read_is_named_and_passed_over(project):
    photos = project / "photos"
    image(photos / "one.png", 20, 30)
    image(photos / "below" / "one.tif", 20, 30)
    whole = (project / "data/shapes/JPEGImages/val_00000.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[:400])
    for _ in range(2):  # what was written is no input, though it lies in the folder
        options = "--out photos/out --no-overlays --device cpu"
        run = tool(f"predict.py tiny.py run photos {options}", folder=project)
        assert run.returncode == 1
        named, last = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
        assert "photos/cut.jpg: damaged image" in named and "1 of 3 images" in last
        assert list(labels(photos / "out" / "labels")) == ["below/one.png", "one.png"]
    assert not (photos / "out" / "overlays").exists()
    run = tool("predict.py tiny.py run photos/cut.jpg --out none", folder=project)
    assert (run.returncode, run.stdout) == (1, "")


def test_predictions_come_back_from_labelme(project):
    """The command that the tool names makes data to train on again of what it has written."""
    images = "data/shapes/JPEGImages/val_*.jpg --no-overlays --labels-as labelme --tolerance 0"
    run = ran(f"predict.py tiny.py run {images} --out polygons", folder=project)
    following = run.stdout.splitlines()[-1].removeprefix("Next: fcn-plugin prepare_data ")
    ran(f"prepare_data.py {following}", folder=project)
    assert not (project / "data/mine").exists()  # the tutorial's data set
    predictor = Predictor(project / "tiny.py", project / "run", "cpu")
    assert labels(project / "data/corrected/SegmentationClass") == {
        f"{file.stem}.png": predictor(file).labels.tolist()
        for file in sorted((project / "data/shapes/JPEGImages").glob("val_*.jpg"))
    }


def test_videos(project):
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(project / "film.avi"), codec, 8.0, (32, 32))
    for number in range(5):
        writer.write(cv2.imread(str(project / f"data/shapes/JPEGImages/val_{number:05}.jpg")))
    writer.release()
    capture = cv2.VideoCapture(str(project / "film.avi"))
    (project / "frames").mkdir()
    for number in range(1, 6):
        cv2.imwrite(str(project / f"frames/film_{number:06}.png"), capture.read()[1])
    options = "--confidence --out-frames --batch-size 2"
    run = ran(f"predict.py tiny.py run film.avi --out film {options}", folder=project)
    assert re.search(r"\nDone: 5 frames, .* images/s, [\d.e-]+ s a frame\n", run.stdout)
    ran("predict.py tiny.py run frames --out stills --confidence", folder=project)
    for kind in ("labels", "confidence"):
        assert labels(project / "film" / kind) == labels(project / "stills" / kind)
    confidence = np.asarray(Image.open(project / "film/confidence/film_000001.png"))
    assert confidence.dtype == np.uint8 and np.ptp(confidence) > 9
    assert [file.name for file in (project / "film/overlays").iterdir()] == ["film.mp4"]

    (project / "none.mp4").write_bytes(b"none")
    options = "film.avi frames --out three --labels-as coco"
    run = tool(f"predict.py tiny.py run none.mp4 {options}", folder=project)
    said, last = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert "none.mp4: damaged" in said and "1 of 7 images and videos" in last
    document = json.loads((project / "three/labels/annotations.json").read_text())
    names = [image["file_name"] for image in document["images"]]
    assert names == [f"film_{number:06}.png" for number in range(1, 6)]
    assert [category["name"] for category in document["categories"]] == list(CLASSES)


WRAPPED = """
_base_ = "tiny.py"
test_dataloader = dict(
    dataset=dict(_delete_=True, type="ConcatDataset", datasets=[_base_.test_dataloader.dataset])
)
"""


def test_wrapped_data_sets(project):
    """The test pipeline, and that of --tta, are those of the data set within."""
    (project / "wrapped.py").write_text(WRAPPED)
    predict = "predict.py wrapped.py run data/shapes/JPEGImages/val_*.jpg --no-overlays --tta"
    ran(f"{predict} --out wrapped", folder=project)
    for config in ("tiny.py", "wrapped.py"):
        ran(f"test.py {config} run --tta --out {config}-labels", folder=project)
        assert labels(project / f"{config}-labels") == labels(project / "wrapped/labels")


MEASURED = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)
"""


def measured(project: Path, picture: Path, limit: str) -> tuple[str, int]:
    """What a prediction in a process of its own says, and the most memory that it had, in bytes."""
    command = [TOOLS / "predict.py", "tiny.py", "run", picture, "--out", "big", "--max-memory"]
    command = [sys.executable, "-c", MEASURED, sys.executable, *map(str, command), limit]
    how = dict(cwd=project, env=os.environ | ENVIRONMENT, stderr=subprocess.STDOUT, text=True)
    said = subprocess.check_output(command, **how)
    status, peak = map(int, said.splitlines()[-1].split())
    assert status == ("error: " in said), said
    return said, peak


SLOW = [pytest.param(size, marks=pytest.mark.slow) for size in ((700, 43000), (5500, 5500))]


@pytest.mark.parametrize("size", [(1, 30000), *SLOW], ids=str)
def test_a_process_stays_within_its_limit(project, size):
    """For noise, whose file is as large as it can be; a row takes memory for its pixels only."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(project / "noise.png", compress_level=1)
    said, peak = measured(project, project / "noise.png", "1GB")
    assert "Done: " in said and peak < (8e8 if size[0] == 1 else 1e9)
    assert Image.open(project / "big/labels/noise.png").size == size[::-1]


@pytest.mark.slow
def test_a_refused_limit_names_one_that_works(project):
    """180 million pixels, which Pillow itself would refuse."""
    big = image(project / "big.png", 12000, 15000)
    said, peak = measured(project, big, "1GB")
    would_do = re.search(r"15000x12000 .* give --max-memory (\d+)MB", said)
    assert would_do and "damaged" not in said and peak < 1e9
    said, peak = measured(project, big, f"{would_do[1]}MB")
    assert "Done: " in said and peak < int(would_do[1]) * 1e6


def test_a_full_disk_in_the_middle(tmp_path, monkeypatch):
    """The first file that cannot be written is named; those before it are whole, none after."""
    writes = []

    def save_labels(labels, path, palette=None):
        writes.append(path.name)
        if path.name == "3.png":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"whole")

    monkeypatch.setattr("fcn_plugin.prediction.result.save_labels", save_labels)
    trained(tmp_path, dataset_meta=dict(classes=CLASSES))
    for number in range(9):
        image(tmp_path / f"photos/{number}.png", 20, 30, number)
    words = "predict.py tiny.py weights.pth photos --out out --no-overlays --device cpu"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", words.split())
    with as_module("predict") as predict, pytest.raises(OSError) as fault:
        predict.main()
    assert fault.value.filename == "out/labels/3.png"
    assert {"0.png", "1.png", "2.png"} <= set(labels_of(tmp_path / "out")) and len(writes) < 9


def labels_of(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "labels").iterdir())


def test_a_folder_that_cannot_be_written(project):
    (project / "kept").mkdir()
    (project / "kept/overlays").write_text("a file")
    (project / "kept/.predictions").touch()
    images = "data/shapes/JPEGImages/val_*.jpg --out kept"
    run = tool(f"predict.py tiny.py run {images}", folder=project)
    assert run.returncode == 1
    (said,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert "kept/overlays" in said


def test_ctrl_c_ends_at_once_and_leaves_whole_files(project):
    for number in range(300):
        image(project / f"lots/{number:03}.png", 60, 80, number)
    options = "tiny.py run lots --out stopped --confidence --device cpu"
    with Fork("predict.py", *options.split(), folder=project) as fork:
        deadline = time.monotonic() + 60
        while not list(project.glob("stopped/labels/*.png")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(fork.pid, signal.SIGINT)
        began = time.monotonic()
        done = fork.finished()
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "interrupted")
    assert time.monotonic() - began < 5
    files = [file for file in (project / "stopped").rglob("*.*") if file.name != ".predictions"]
    assert 0 < len(files) < 900 and {file.suffix for file in files} <= {".png", ".jpg"}
    for file in files:
        Image.open(file).load()
