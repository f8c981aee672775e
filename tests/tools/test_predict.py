"""tools/predict.py as a user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prediction.trained import CLASSES, image, trained
from tools.running import ENVIRONMENT, TOOLS, as_module, ran, tool

from fcn_plugin.errors import UserError
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
    *table, last, following = run.stdout.splitlines()
    assert following == "Next: fcn-plugin export_onnx tiny.py run network.onnx"
    assert re.fullmatch(
        "Done: 5 images, labels in new/labels, overlays in new/overlays, probabilities in "
        r"new/probabilities, [\d.]+ images/s",
        last,
    )
    shares = [float(share) for share in re.findall(r"([\d.]+) %", "\n".join(table))]
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
        assert "photos/cut.jpg: damaged image" in named
        assert last.endswith("(see above); the others are predicted") and "1 of 3 images" in last
        assert "Done: 2 images, labels in photos/out/labels, " in run.stdout
        assert list(labels(photos / "out" / "labels")) == ["below/one.png", "one.png"]
    assert not (photos / "out" / "overlays").exists()
    run = tool("predict.py tiny.py run photos/cut.jpg --out none", folder=project)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.splitlines()[-1].endswith("(see above); nothing is predicted")


@pytest.mark.parametrize("size", ["1", "3"])
def test_what_is_refused_while_it_is_predicted_is_passed_over(
    project, tmp_path, monkeypatch, capsys, size
):
    """Alone, not with the others of its batch."""
    for name in "abc":
        image(tmp_path / f"{name}.png", 16, 16)
    whole = Predictor.predict

    def refusing(self, pictures, wanted) -> list:
        for path in (picture.samples[0].img_path for picture in pictures):
            if path.endswith("b.png"):
                raise UserError(f"{path}: no memory")
        return whole(self, pictures, wanted)

    monkeypatch.setattr(Predictor, "predict", refusing)
    monkeypatch.chdir(project)
    options = f"--out {tmp_path}/out --no-overlays --batch-size {size} --device cpu"
    monkeypatch.setattr("sys.argv", f"predict.py tiny.py run {tmp_path} {options}".split())
    with as_module("predict") as predict, pytest.raises(SystemExit) as ended:
        predict.run(predict.main)
    assert ended.value.code == 1
    assert list(labels(tmp_path / "out/labels")) == ["a.png", "c.png"]
    named, _ = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert named == f"error: {tmp_path}/b.png: no memory"


WRAPPED = """
_base_ = "tiny.py"
plain = _base_.test_dataloader.dataset
first, last = plain.pipeline[:-1], plain.pipeline[-1:]
mixed = dict(type="MultiImageMixDataset", dataset=dict(plain, pipeline=first), pipeline=last)
repeated = dict(type="RepeatDataset", times=1, dataset=mixed)
test_dataloader = dict(dataset=dict(_delete_=True, type="ConcatDataset", datasets=[repeated]))
"""


def test_wrapped_data_sets(project):
    """The test pipeline, and that of --tta, are those of the data set within."""
    (project / "wrapped.py").write_text(WRAPPED)
    predict = "predict.py {} run data/shapes/JPEGImages/val_*.jpg --no-overlays --out {}"
    for command in (predict, f"{predict} --tta", "test.py {} run --tta --report page --out {}"):
        found = []
        for config in ("tiny.py", "wrapped.py"):
            out = project / f"wrapped-{len(command)}-{config}"
            ran(command.format(config, out), folder=project)
            found.append(labels(out))
        assert found[0] == found[1] and len(found[0]) == 5
    assert "BaseSegDataset in data/shapes, val" in (project / "page").read_text()


def test_a_factor_by_which_the_config_resizes_is_told(project):
    for name, side in (("small", 32), ("large", 60)):
        image(project / f"sizes/{name}.png", side, side)
    for resize, told in (("scale_factor=1.0", False), ("scale=(48, 48), keep_ratio=True", True)):
        steps = f'dict(type="LoadImageFromFile"), dict(type="Resize", {resize})'
        (project / "resized.py").write_text(
            f'_base_ = "tiny.py"\nsteps = [{steps}, dict(type="PackSegInputs")]\n'
            "test_dataloader = dict(dataset=dict(pipeline=steps))\n"
        )
        said = ran("predict.py resized.py run sizes --out resized", folder=project).stdout
        assert ("at 0.8 to 1.5 of their size" in said) == ("of their size" in said) == told


def test_sizes():
    with as_module("predict") as predict:
        assert [*map(predict.number_of_bytes, ("2GB", "1.5g", "300MiB", "77", "2 kb"))] == [
            *(2e9, 1.5e9, 300 * 2**20, 77, 2000)
        ]


MEASURED = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)
"""


def measured(project: Path, picture: Path, limit: str) -> tuple[str, int]:
    """What a prediction in a process of its own says, and the most memory that it had, in bytes."""
    command = [TOOLS / "predict.py", "tiny.py", "run", picture, "--out", "big", "--max-memory"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, sys.executable, *map(str, command), limit],
        cwd=project,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    status, peak = map(int, done.stdout.splitlines()[-1].split())
    assert status == ("error: " in done.stderr), done.stderr
    return done.stdout + done.stderr, peak


def test_a_row_of_pixels_takes_memory_for_its_pixels_only(project):
    """No matrix is as long as the row and as wide as its scores."""
    said, peak = measured(project, image(project / "row.png", 1, 30000), "1GB")
    assert "Done: " in said and peak < 8e8


@pytest.mark.slow
@pytest.mark.parametrize("size", [(30000, 1), (700, 43000), (5500, 5500)], ids=str)
def test_a_process_stays_within_its_limit(project, size):
    """For noise, whose file is as large as it can be."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(project / "noise.png", compress_level=1)
    said, peak = measured(project, project / "noise.png", "1GB")
    assert "Done: " in said and peak < 1e9
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


@pytest.mark.slow
def test_windows_give_the_labels_of_the_whole(project):
    big, labels = image(project / "big.tif", 5000, 6000), []
    for limit in ("1GB", "100GB"):
        said, _ = measured(project, big, limit)
        labels.append(np.asarray(Image.open(project / "big/labels/big.png")))
        assert ("of them in windows" in said) == (limit == "1GB")
    assert (labels[0] != labels[1]).sum() < 100  # float32: a rounding decides between two classes
