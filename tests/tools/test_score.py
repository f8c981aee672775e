"""tools/score.py on folders of small PNGs, and once on more than 2^31 pixels."""

import json
import os
import re
import signal
import subprocess
import time
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


def score(folder: Path, protocol: str, *options: object, **environment: str):
    """The finished process, having scored FOLDER/pred against FOLDER/truth."""
    return tool(
        "score.py",
        *(*FOLDERS, protocol, *options),
        folder=folder,
        **environment,
    )


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
    table = [line.split("|")[1:5] for line in text if line.startswith("| ")]
    ius = {row[0].strip(): row[1].strip() for row in table}
    assert ius == {"class": "IU", "0": "42.86", "1": "33.33", "2": "75.00", "3": "16.67"} | {
        "mean": "41.96"
    }
    found = json.loads((tmp_path / "out/scores.json").read_text())
    expected = [3 / 7, 2 / 6, 3 / 4, 1 / 6]
    assert [row["iu"] for row in found["classes"]] == pytest.approx(expected, rel=1e-15)
    assert found["mean_iu"] == pytest.approx(np.mean(expected), rel=1e-15)
    assert round(found["mean_iu"], 3) == 0.420
    assert (found["protocol"], found["images"], found["pixels"]) == ("voc", 1, 16)


def test_mits_demonstration(tmp_path):
    """3 images, 15 of 150 classes, predicted as they are; unlabelled pixels do not matter."""
    generator = np.random.default_rng(0)
    for i in range(3):
        truth = np.repeat(np.arange(1 + 5 * i, 6 + 5 * i), 20).reshape(10, 10)
        truth[generator.random(truth.shape) < 0.2] = 0
        there = generator.integers(0, 151, truth.shape)
        write(tmp_path / "truth", f"{i}", truth)
        write(tmp_path / "pred", f"{i}", np.where(truth == 0, there, truth))
    done = score(tmp_path, "mit", "--json", "scores.json")
    text = lines(done)
    assert done.stderr == ""
    assert "mean IoU     0.1000  (10.00 %)" in text
    assert "pixel acc.   1.0000  (100.00 %)" in text
    assert "final score  0.5500  (55.00 %)" in text
    assert text[-1].startswith("Done: 3 images, 2") and text[-1].endswith(
        "pixels: mean IoU 0.1000, pixel acc. 100.00 %"
    )
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["mean_iu"] == pytest.approx(0.1, rel=1e-15)
    assert found["pixel_accuracy"] == 1
    assert found["final_score"] == pytest.approx(0.55, rel=1e-15)
    assert found["classes"][0]["name"] == "wall" and found["classes"][0]["iu"] == 1
    assert found["classes"][149]["iu"] is None and found["classes"][149]["pixels"] == 0


def test_predictions_of_no_class_are_warned_of(tmp_path):
    write(tmp_path / "truth", "a", [[1, 1, 2, 0]])
    write(tmp_path / "pred", "a", [[1, 0, 0, 0]])
    write(tmp_path / "truth", "b", [[1, 1]])
    write(tmp_path / "pred", "b", [[1, 1]])
    done = score(tmp_path, "mit", "--json", "scores.json")
    assert lines(done)[-1] == "Done: 2 images, 5 pixels: mean IoU 0.0050, pixel acc. 60.00 %"
    assert done.stderr == (
        "warning: 2 labelled pixels in 1 of 2 images are predicted as 0, which is no class; they "
        "count as wrong\n"
    )
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["pixels_predicted_as_no_class"] == 2
    assert found["mean_iu"] == pytest.approx(3 / 4 / 150, rel=1e-15)


def test_one_job_and_three_give_the_same_file(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(60):
        truth, prediction = generator.integers(0, 21, (2, 9, 11))
        write(tmp_path / "truth", f"{i}", truth)
        write(tmp_path / "pred", f"{i}", prediction)
    said = [
        lines(score(tmp_path, "mit", "--jobs", jobs, "--json", f"{jobs}.json")) for jobs in (1, 3)
    ]
    assert said[0] == said[1]
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "3.json").read_bytes()


def test_a_list_and_void_of_ones_own(tmp_path):
    """CamVid: 11 classes, 11 is void; a label that is not on the list may be anything."""
    write(tmp_path / "truth", "a", [[0, 10, 11]])
    write(tmp_path / "pred", "a", [[0, 10, 3]])
    write(tmp_path / "truth", "unscored", [[99]])
    (tmp_path / "val.txt").write_text("a\n")
    options = ["--list", "val.txt", "--num-classes", 11, "--ignore", 11]
    last = lines(score(tmp_path, "voc", *options))[-1]
    assert last == "Done: 1 images, 2 pixels: mean IU 1.0000, pixel acc. 100.00 %"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", 2], "error: pred/b.png: label values 33 (1 px), but with --protocol voc and"),
        (["--list", "none.txt"], "error: none.txt: no such list; give --list a file with one id"),
        (["--list", "void.txt"], "error: truth: every pixel is 255, which is not scored; give the"),
    ],
)
def test_a_mistake_ends_in_one_line(tmp_path, options, message):
    for name, truth, prediction in (("a", 1, 1), ("b", 1, 33), ("void", 255, 1)):
        write(tmp_path / "truth", name, [[truth]])
        write(tmp_path / "pred", name, [[prediction]])
    (tmp_path / "void.txt").write_text("void\n")
    done = score(tmp_path, "voc", "--json", "scores.json", *options)
    assert done.returncode == 1
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "scores.json").exists()


# --- a long run ----------------------------------------------------------------------------------


def links(folder: Path, names: int, **images: np.ndarray) -> None:
    """FOLDER/truth and FOLDER/pred, all whose files are hard links to one."""
    for kind, labels in images.items():
        write(folder / kind, "0", labels)
        for i in range(1, names):
            os.link(folder / kind / "0.png", folder / kind / f"{i}.png")


def workers(pid: int) -> list[int]:
    """The process ids of its children that are deaf to Ctrl-C, which the tool itself answers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    status = [Path(f"/proc/{child}/status").read_text() for child in children]
    ignored = [int(re.search(r"SigIgn:\s*(\w+)", text)[1], 16) for text in status]
    deaf = [mask >> (signal.SIGINT - 1) & 1 for mask in ignored]
    return [int(child) for child, is_deaf in zip(children, deaf, strict=True) if is_deaf]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return result


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("how", ["terminal", "to the tool alone", "killed"])
def test_an_interrupted_run_ends_at_once_and_leaves_no_worker(tmp_path, how):
    """Half a minute's work."""
    plain = np.zeros((2000, 2000), np.uint8)
    links(tmp_path, 2000, truth=plain, pred=plain)
    options = (*FOLDERS, "voc", "--jobs", 2, "--json", "scores.json")
    with Fork("score.py", *options, folder=tmp_path) as run:
        begun = wait_for(lambda: len(found := workers(run.pid)) == 2 and found)
        time.sleep(0.3)
        before = time.monotonic()
        kill = os.killpg if how == "terminal" else os.kill
        kill(run.pid, signal.SIGKILL if how == "killed" else signal.SIGINT)
        done = run.finished()
        assert time.monotonic() - before < 10
    assert done.stdout == ""
    if how != "killed":
        assert (done.returncode, done.stderr) == (130, "interrupted\n")
    wait_for(lambda: not any(alive(pid) for pid in begun), 10)
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
    assert images * hits > 2**31
    assert last.startswith("Done: 33 images, 2,214,592,413 pixels: mean IU 0.4444")
    ius = [Fraction(hits, hits + 4 + 7 + 2), Fraction(3, 5 + 4), Fraction(0)]
    accuracies = [Fraction(hits, hits + 4 + 7), Fraction(3, 5)]
    right = Fraction(hits + 3, pixels - 3)
    share = Fraction(5, pixels - 3)
    assert found["pixel_accuracy"] == pytest.approx(float(right), abs=1e-12)
    assert found["mean_iu"] == pytest.approx(float(sum(ius) / 3), abs=1e-12)
    assert found["mean_accuracy"] == pytest.approx(float(sum(accuracies) / 2), abs=1e-12)
    weighted = float((1 - share) * ius[0] + share * ius[1])
    assert found["frequency_weighted_iu"] == pytest.approx(weighted, abs=1e-12)
    assert [row["iu"] for row in found["classes"]] == pytest.approx(
        [float(iu) for iu in ius], abs=1e-12
    )
    # In single precision the same sums come out otherwise.
    single = np.zeros(2, np.float32)
    for _ in range(images):
        single += np.array([hits + 3, pixels - 3], np.float32)
    assert abs(float(single[0]) / float(single[1]) - float(right)) > 1e-9
