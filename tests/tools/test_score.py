"""tools/score.py on folders of small PNGs, and once on more than 2^31 pixels."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools.running import Fork, ran, tool

from fcn_plugin.evaluation.folders import pair_counts
from fcn_plugin.evaluation.intervals import intervals
from fcn_plugin.evaluation.scores import class_counts
from fcn_plugin.evaluation.tables import in_brackets

FOLDERS = "--pred pred --truth truth --protocol"
WORKED_TRUTH = [[0] * 4, [1] * 4, [2] * 4, [3] * 4]
WORKED_PREDICTION = [[1, 0, 0, 0], [1, 3, 0, 1], [2, 2, 2, 3], [3, 1, 0, 0]]


def write(folder: Path, name: str, truth, prediction) -> None:
    for kind, labels in (("truth", truth), ("pred", prediction)):
        (folder / kind).mkdir(exist_ok=True)
        image = Image.fromarray(np.asarray(labels, dtype=np.uint8))
        image.putpalette([9, 9, 9] * 256)  # indices count, colours do not
        image.save(folder / kind / f"{name}.png")


def test_the_worked_example(tmp_path):
    """A label that is not on the list may be anything, and 4 is void."""
    write(tmp_path, "a", [*WORKED_TRUTH, [4] * 4], [*WORKED_PREDICTION, [3] * 4])
    write(tmp_path, "unscored", [[99]], [[0]])
    (tmp_path / "val.txt").write_text("a\n")
    options = "voc --num-classes 4 --ignore 4 --list val.txt --json out/scores.json"
    done = ran(f"score.py {FOLDERS} {options}", folder=tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-5:] == [
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


def test_intervals_over_images_and_scenes(tmp_path):
    """Of two processes; MIT's final score has one too, and a class without pixels none."""
    for number in range(6):
        truth = np.random.default_rng(number).integers(0, 3, (8, 9))  # 0 is not scored
        shift = (np.arange(9) < number + 2) & (truth > 0)
        write(tmp_path, f"s{number // 2}_{number}", truth, np.where(shift, 3 - truth, truth))
    counts = []
    for number in range(6):
        name = f"s{number // 2}_{number}.png"
        pair = (np.asarray(Image.open(tmp_path / kind / name)) for kind in ("truth", "pred"))
        counts.append(class_counts(pair_counts(*pair)[1:4, [1, 2, 3, 0]]))
    paths = sorted(file.name for file in (tmp_path / "pred").iterdir())
    for option, by in (("--interval", "image"), ("--interval-by scene", "scene")):
        options = f"mit --num-classes 3 --jobs 2 --json {by}.json {option}"
        done = ran(f"score.py {FOLDERS} {options}", folder=tmp_path)
        found = json.loads((tmp_path / f"{by}.json").read_text())
        expected = intervals(np.stack(counts), paths, by, "zero")
        names = {**{name: name for name in expected.scores}, "final": "final_score"}
        for attribute, name in names.items():
            bounds = found[f"{name}_low"], found[f"{name}_high"]
            assert bounds == expected.scores[attribute] and bounds[0] < found[name] < bounds[1]
            assert f"({100 * found[name]:.2f} % {in_brackets(bounds)})" in done.stdout
        rows = [(row["iu_low"], row["iu_high"]) for row in found["classes"]]
        assert rows == [*expected.class_iu[:2], (None, None)]
        assert found["interval"] == dict(
            percent=95, by=by, drawn=expected.drawn, resamples=2000, seed=0
        )
        assert expected.text in done.stdout
    (tmp_path / "one.txt").write_text("s0_0\ns0_1\n")
    done = tool(f"score.py {FOLDERS} {options} --list one.txt", folder=tmp_path)
    assert done.returncode == 1 and "all other images are of the scene s0" in done.stderr


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


@pytest.mark.parametrize("kill", [os.killpg, os.kill], ids=["terminal", "to the tool alone"])
def test_an_interrupted_run_ends_at_once_with_its_workers(tmp_path, kill):
    """Half a minute's work."""
    write(tmp_path, "0", *np.zeros((2, 2000, 2000)))
    for kind in ("truth", "pred"):
        for i in range(1, 2000):
            os.link(tmp_path / kind / "0.png", tmp_path / kind / f"{i}.png")
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
