"""tools/score.py on folders of small PNGs, and once on more than 2^31 pixels."""

import json
import os
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools.running import Fork, ran, tool

FOLDERS = "--pred pred --truth truth --protocol"
WORKED_TRUTH = [[0] * 4, [1] * 4, [2] * 4, [3] * 4]
WORKED_PREDICTION = [[1, 0, 0, 0], [1, 3, 0, 1], [2, 2, 2, 3], [3, 1, 0, 0]]


def write(folder: Path, name: str, truth, prediction) -> None:
    for kind, labels in (("truth", truth), ("pred", prediction)):
        (folder / kind).mkdir(exist_ok=True)
        image = Image.fromarray(np.asarray(labels, dtype=np.uint8))
        image.putpalette([9, 9, 9] * 256)  # indices count, colours do not
        image.save(folder / kind / f"{name}.png")


def scored(folder: Path, options: str) -> tuple[subprocess.CompletedProcess, dict]:
    done = ran(f"score.py {FOLDERS} {options} --json out/scores.json", folder=folder)
    return done, json.loads((folder / "out/scores.json").read_text())


def test_the_worked_example(tmp_path):
    write(tmp_path, "a", WORKED_TRUTH, WORKED_PREDICTION)
    done, found = scored(tmp_path, "voc --num-classes 4")
    assert done.stderr == ""
    assert done.stdout.splitlines()[-5:] == [
        "pixel acc.   0.5625  (56.25 %)",
        "mean acc.    0.5625  (56.25 %)",
        "mean IU      0.4196  (41.96 %)",
        "f.w. IU      0.4196  (41.96 %)",
        "Done: 1 images, 16 pixels: mean IU 0.4196, pixel acc. 56.25 %",
    ]
    expected = [3 / 7, 2 / 6, 3 / 4, 1 / 6]
    assert [row["iu"] for row in found["classes"]] == pytest.approx(expected, rel=1e-15)
    assert found["mean_iu"] == pytest.approx(np.mean(expected), rel=1e-15)
    assert (found["protocol"], found["images"], found["pixels"]) == ("voc", 1, 16)


def test_mits_demonstration(tmp_path):
    """15 of 150 classes, predicted as they are; then two pixels as no class."""
    generator = np.random.default_rng(0)
    for i in range(3):
        truth = np.repeat(np.arange(1 + 5 * i, 6 + 5 * i), 20).reshape(10, 10)
        truth[generator.random(truth.shape) < 0.2] = 0
        there = generator.integers(0, 151, truth.shape)
        write(tmp_path, f"{i}", truth, np.where(truth == 0, there, truth))
    done, found = scored(tmp_path, "mit")
    assert done.stderr == ""
    assert done.stdout.splitlines()[-2] == "final score  0.5500  (55.00 %)"
    assert found["final_score"] == pytest.approx(0.55, rel=1e-15)
    assert found["classes"][0]["name"] == "wall" and found["classes"][0]["iu"] == 1
    assert found["classes"][149]["iu"] is None and found["classes"][149]["pixels"] == 0
    write(tmp_path, "more", [[1, 1, 2, 0]], [[1, 0, 0, 0]])
    done, found = scored(tmp_path, "mit")
    assert found["pixels_predicted_as_no_class"] == 2
    assert done.stderr == (
        "warning: 2 labelled pixels in 1 of 4 images are predicted as 0, which is no class; they "
        "count as wrong\n"
    )


def test_a_list_and_void_of_ones_own(tmp_path):
    """CamVid: 11 classes, 11 is void; a label that is not on the list may be anything."""
    write(tmp_path, "a", [[0, 10, 11]], [[0, 10, 3]])
    write(tmp_path, "unscored", [[99]], [[0]])
    (tmp_path / "val.txt").write_text("a\n")
    done, _ = scored(tmp_path, "voc --list val.txt --num-classes 11 --ignore 11")
    last = done.stdout.splitlines()[-1]
    assert last == "Done: 1 images, 2 pixels: mean IU 1.0000, pixel acc. 100.00 %"


def test_a_mistake_ends_in_one_line(tmp_path):
    for name, truth, prediction in (("a", 1, 1), ("b", 1, 33), ("void", 255, 1)):
        write(tmp_path, name, [[truth]], [[prediction]])
    (tmp_path / "void.txt").write_text("void\n")
    for options, message in (
        ("--jobs 2", "pred/b.png: label values 33 (1 px), but with --protocol voc and"),
        ("--list void.txt", "truth: every pixel is 255, which is not scored; give the"),
    ):
        done = tool(f"score.py {FOLDERS} voc --json scores.json {options}", folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
        assert not (tmp_path / "scores.json").exists()


def links(folder: Path, names: int, truth: np.ndarray, prediction: np.ndarray) -> None:
    """Files that are all hard links to one."""
    write(folder, "0", truth, prediction)
    for kind in ("truth", "pred"):
        for i in range(1, names):
            os.link(folder / kind / "0.png", folder / kind / f"{i}.png")


@pytest.mark.parametrize("kill", [os.killpg, os.kill], ids=["terminal", "to the tool alone"])
def test_an_interrupted_run_ends_at_once_with_its_workers(tmp_path, kill):
    """Half a minute's work."""
    plain = np.zeros((2000, 2000), np.uint8)
    links(tmp_path, 2000, plain, plain)
    options = f"{FOLDERS} voc --jobs 2 --json scores.json".split()
    with Fork("score.py", *options, folder=tmp_path) as run:
        time.sleep(3)
        assert not (run.files / "status").exists()
        kill(run.pid, signal.SIGINT)
        before = time.monotonic()
        done = run.finished()
        assert time.monotonic() - before < 10
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.slow
def test_more_than_2_to_the_31_pixels(tmp_path):
    """33 images of 2^26 pixels with counts known from how they are made."""
    images, pixels = 33, 2**26
    truth = np.zeros(pixels, np.uint8)
    truth[:5] = 1
    prediction = truth.copy()
    prediction[:2] = 0  # 2 of class 1 as 0, 3 are right
    prediction[5:9] = 1  # 4 of class 0 as 1
    prediction[9:16] = 2  # 7 of class 0 as 2
    truth[-3:] = 255  # void
    side = (8192, 8192)
    links(tmp_path, images, truth.reshape(side), prediction.reshape(side))
    done, found = scored(tmp_path, "voc --num-classes 3")
    assert found["pixels"] == images * (pixels - 3) > 2**31
    last = done.stdout.splitlines()[-1]
    assert last.startswith("Done: 33 images, 2,214,592,413 pixels: mean IU 0.4444")
    hits = pixels - 5 - 4 - 7 - 3
    ius = [Fraction(hits, hits + 4 + 7 + 2), Fraction(3, 5 + 4), Fraction(0)]
    share = Fraction(5, pixels - 3)
    for name, value in dict(
        pixel_accuracy=Fraction(hits + 3, pixels - 3),
        mean_iu=sum(ius) / 3,
        mean_accuracy=(Fraction(hits, hits + 4 + 7) + Fraction(3, 5)) / 2,
        frequency_weighted_iu=(1 - share) * ius[0] + share * ius[1],
    ).items():
        assert found[name] == pytest.approx(float(value), abs=1e-12), name
