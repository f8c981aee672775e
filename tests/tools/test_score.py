"""tools/score.py on folders of small PNGs, and once on more than 2^31 pixels."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools.running import Fork, tool

FOLDERS = ("--pred", "pred", "--truth", "truth", "--protocol")
WORKED_TRUTH = [[0] * 4, [1] * 4, [2] * 4, [3] * 4]
WORKED_PREDICTION = [[1, 0, 0, 0], [1, 3, 0, 1], [2, 2, 2, 3], [3, 1, 0, 0]]


def write(folder: Path, name: str, labels, palette: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(labels, dtype=np.uint8))
    if palette:
        image.putpalette([9, 9, 9] * 256)  # indices count, colours do not
    image.save(folder / f"{name}.png")


def score(folder: Path, protocol: str, *options: object) -> subprocess.CompletedProcess:
    """Having scored FOLDER/pred against FOLDER/truth."""
    return tool("score.py", *FOLDERS, protocol, *options, folder=folder)


def lines(done: subprocess.CompletedProcess) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_worked_example(tmp_path):
    write(tmp_path / "truth", "a", WORKED_TRUTH)
    write(tmp_path / "pred", "a", WORKED_PREDICTION, palette=True)
    done = score(tmp_path, "voc", "--num-classes", 4, "--json", "out/scores.json")
    text = lines(done)
    assert done.stderr == ""
    assert text[-5:] == [
        "pixel acc.   0.5625  (56.25 %)",
        "mean acc.    0.5625  (56.25 %)",
        "mean IU      0.4196  (41.96 %)",
        "f.w. IU      0.4196  (41.96 %)",
        "Done: 1 images, 16 pixels: mean IU 0.4196, pixel acc. 56.25 %",
    ]
    found = json.loads((tmp_path / "out/scores.json").read_text())
    expected = [3 / 7, 2 / 6, 3 / 4, 1 / 6]
    assert [row["iu"] for row in found["classes"]] == pytest.approx(expected, rel=1e-15)
    assert found["mean_iu"] == pytest.approx(np.mean(expected), rel=1e-15)
    assert (found["protocol"], found["images"], found["pixels"]) == ("voc", 1, 16)


def test_mits_demonstration(tmp_path):
    """15 of 150 classes, predicted as they are; one pixel as no class, which is warned of."""
    generator = np.random.default_rng(0)
    for i in range(3):
        truth = np.repeat(np.arange(1 + 5 * i, 6 + 5 * i), 20).reshape(10, 10)
        truth[generator.random(truth.shape) < 0.2] = 0
        there = generator.integers(0, 151, truth.shape)
        write(tmp_path / "truth", f"{i}", truth)
        write(tmp_path / "pred", f"{i}", np.where(truth == 0, there, truth))
    options = ("--json", "scores.json")
    done = score(tmp_path, "mit", *options)
    text = lines(done)
    assert done.stderr == ""
    for line in (
        "mean IoU     0.1000  (10.00 %)",
        "pixel acc.   1.0000  (100.00 %)",
        "final score  0.5500  (55.00 %)",
    ):
        assert line in text
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["final_score"] == pytest.approx(0.55, rel=1e-15)
    assert found["classes"][0]["name"] == "wall" and found["classes"][0]["iu"] == 1
    assert found["classes"][149]["iu"] is None and found["classes"][149]["pixels"] == 0

    for kind, labels in (("truth", [[1, 1, 2, 0]]), ("pred", [[1, 0, 0, 0]])):
        write(tmp_path / kind, "more", labels)
    assert score(tmp_path, "mit", *options).stderr == (
        "warning: 2 labelled pixels in 1 of 4 images are predicted as 0, which is no class; they "
        "count as wrong\n"
    )
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["pixels_predicted_as_no_class"] == 2


def test_a_list_and_void_of_ones_own(tmp_path):
    """CamVid: 11 classes, 11 is void; a label that is not on the list may be anything."""
    write(tmp_path / "truth", "a", [[0, 10, 11]])
    write(tmp_path / "pred", "a", [[0, 10, 3]])
    write(tmp_path / "truth", "unscored", [[99]])
    (tmp_path / "val.txt").write_text("a\n")
    options = ["--list", "val.txt", "--num-classes", 11, "--ignore", 11]
    last = lines(score(tmp_path, "voc", *options))[-1]
    assert last == "Done: 1 images, 2 pixels: mean IU 1.0000, pixel acc. 100.00 %"


def test_a_mistake_ends_in_one_line(tmp_path):
    for name, truth, prediction in (("a", 1, 1), ("b", 1, 33), ("void", 255, 1)):
        write(tmp_path / "truth", name, [[truth]])
        write(tmp_path / "pred", name, [[prediction]])
    (tmp_path / "void.txt").write_text("void\n")
    for options, message in (
        (["--jobs", 2], "pred/b.png: label values 33 (1 px), but with --protocol voc and"),
        (["--list", "void.txt"], "truth: every pixel is 255, which is not scored; give the"),
    ):
        done = score(tmp_path, "voc", "--json", "scores.json", *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
        assert not (tmp_path / "scores.json").exists()


def links(folder: Path, names: int, **images: np.ndarray) -> None:
    """FOLDER/truth and FOLDER/pred, all whose files are hard links to one."""
    for kind, labels in images.items():
        write(folder / kind, "0", labels)
        for i in range(1, names):
            os.link(folder / kind / "0.png", folder / kind / f"{i}.png")


def members(group: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            state, _, of = file.read_text().rpartition(")")[2].split()[:3]
            found += [int(file.parent.name)] * (int(of) == group and state != "Z")
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("how", ["terminal", "to the tool alone", "killed"])
def test_an_interrupted_run_ends_at_once_and_leaves_no_worker(tmp_path, how):
    """Half a minute's work."""
    plain = np.zeros((2000, 2000), np.uint8)
    links(tmp_path, 2000, truth=plain, pred=plain)
    options = (*FOLDERS, "voc", "--jobs", 2, "--json", "scores.json")
    with Fork("score.py", *options, folder=tmp_path) as run:
        wait_for(lambda: len(members(run.pid)) > 2, 60)
        time.sleep(0.3)
        kill = os.killpg if how == "terminal" else os.kill
        kill(run.pid, signal.SIGKILL if how == "killed" else signal.SIGINT)
        wait_for(lambda: not members(run.pid), 10)
        done = run.finished()
    assert done.stdout == ""
    if how != "killed":
        assert (done.returncode, done.stderr) == (130, "interrupted\n")
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
    links(tmp_path, images, truth=truth.reshape(side), pred=prediction.reshape(side))
    last = lines(score(tmp_path, "voc", "--num-classes", 3, "--json", "scores.json"))[-1]
    found = json.loads((tmp_path / "scores.json").read_text())

    hits = pixels - 5 - 4 - 7 - 3
    assert found["pixels"] == images * (pixels - 3) > 2**31
    assert last.startswith("Done: 33 images, 2,214,592,413 pixels: mean IU 0.4444")
    ius = [Fraction(hits, hits + 4 + 7 + 2), Fraction(3, 5 + 4), Fraction(0)]
    share = Fraction(5, pixels - 3)
    expected = dict(
        pixel_accuracy=Fraction(hits + 3, pixels - 3),
        mean_iu=sum(ius) / 3,
        mean_accuracy=(Fraction(hits, hits + 4 + 7) + Fraction(3, 5)) / 2,
        frequency_weighted_iu=(1 - share) * ius[0] + share * ius[1],
    )
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), abs=1e-12), name
    assert [row["iu"] for row in found["classes"]] == pytest.approx([*map(float, ius)], abs=1e-12)
    # In single precision the same sums come out otherwise.
    single = np.zeros(2, np.float32)
    for _ in range(images):
        single += np.array([hits + 3, pixels - 3], np.float32)
    right = float(expected["pixel_accuracy"])
    assert abs(float(single[0]) / float(single[1]) - right) > 1e-9
