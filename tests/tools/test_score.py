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

from fcn_plugin.evaluation.boundaries import trimap_accuracy
from fcn_plugin.evaluation.folders import pair_counts
from fcn_plugin.evaluation.intervals import FEW, intervals
from fcn_plugin.evaluation.measures import ERRORS, MEASURES, Measures, summed
from fcn_plugin.evaluation.scores import class_counts, scores_of
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
    *lines, following = done.stdout.splitlines()
    assert following.startswith("Next: a second --pred DIR")
    assert lines[-7:] == [
        "pixel acc.      0.5625  (56.25 %)",
        "mean acc.       0.5625  (56.25 %)",
        "mean IU         0.4196  (41.96 %)",
        "f.w. IU         0.4196  (41.96 %)",
        "mean prec.      0.5833  (58.33 %)",
        "mean Dice       0.5607  (56.07 %)",
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
        expected = intervals({"regions": np.stack(counts)}, paths, by, "zero")
        names = {**{name: name for name in expected.scores}, "final": "final_score"}
        del names["mean_fscore"]  # equal to the Dice
        for attribute, name in names.items():
            bounds = found[f"{name}_low"], found[f"{name}_high"]
            assert bounds == expected.scores[attribute] and bounds[0] < found[name] < bounds[1]
            assert f"({100 * found[name]:.2f} % {in_brackets(bounds)})" in done.stdout
        rows = [(row["iu_low"], row["iu_high"]) for row in found["classes"]]
        assert rows == [*expected.arrays["class_iu"][:2], (None, None)]
        assert found["interval"] == dict(
            percent=95, by=by, drawn=expected.drawn, resamples=2000, seed=0
        )
        assert expected.text in done.stdout
    (tmp_path / "one.txt").write_text("s0_0\ns0_1\n")
    done = tool(f"score.py {FOLDERS} {options} --list one.txt", folder=tmp_path)
    assert done.returncode == 1 and "all other images are of the scene s0" in done.stderr


def test_measures_of_files_are_those_of_the_arrays(tmp_path):
    """In the data set's numbers, of which some mean the same or nothing; of two processes."""
    counts: dict = {}
    for number in range(5):
        chance = np.random.default_rng(number)
        truth = chance.integers(0, 4, (9, 11)).repeat(3, 0).repeat(3, 1)  # 0 is not scored
        prediction = np.where(chance.random(truth.shape) < 0.8, truth, chance.integers(0, 4))
        write(tmp_path, f"s_{number}", truth, prediction)
        indices = np.where(truth == 0, 255, truth - 1), np.where(prediction == 0, 9, prediction - 1)
        counts = summed(counts, Measures((*MEASURES,)).of_maps(*indices, 3)[0])
    options = "mit --num-classes 3 --jobs 2 --json s.json --measures boundary errors --interval"
    ran(f"score.py {FOLDERS} {options}", folder=tmp_path)
    found = json.loads((tmp_path / "s.json").read_text())
    boundary = scores_of(counts["boundary"], "zero")
    assert found["boundary_iu"] == boundary.mean_iu
    assert found["boundary_iu_low"] < found["boundary_iu"] < found["boundary_iu_high"]
    assert [row["boundary_iu"] for row in found["classes"]] == boundary.class_iu.tolist()
    widths = [row["accuracy"] for row in found["trimap_accuracy"]]
    assert found["trimap_4"] == widths[3] and widths == trimap_accuracy(counts["trimap"]).tolist()
    assert all(row["accuracy_low"] <= row["accuracy_high"] for row in found["trimap_accuracy"])
    shares = [found[f"errors_{name}"] for name in ERRORS]
    np.testing.assert_allclose(np.multiply(shares, found["pixels"]), counts["kinds"], rtol=1e-12)
    assert sum(shares) == pytest.approx(1 - found["pixel_accuracy"])
    rows = [(row["number"], row["found"], row["pixels"]) for row in found["components"]]
    assert rows == [*zip(*counts["components"][:3].tolist(), strict=True)]


def test_the_second_folder_against_the_first(tmp_path):
    """B has A's errors but for some, and one of its own: far from two independent networks."""
    for number in range(FEW):
        chance = np.random.default_rng(number)
        truth = chance.integers(0, 3, (12, 14))
        first = np.where(chance.random(truth.shape) < 0.7, truth, chance.integers(0, 3, (12, 14)))
        second = np.where(chance.random(truth.shape) < 0.2, truth, first)
        write(tmp_path, str(number), truth, first if number else second)
        (tmp_path / "b").mkdir(exist_ok=True)
        second = Image.fromarray((second if number else first).astype(np.uint8))
        second.save(tmp_path / f"b/{number}.png")
    options = "voc --num-classes 3 --json ab.json"
    done = ran(f"score.py {FOLDERS} {options} --pred b", folder=tmp_path)
    assert "Done: B is better than A: mean IU +" in done.stdout
    (tmp_path / "fewer.txt").write_text("".join(f"{n}\n" for n in range(1, FEW)))
    done = ran(f"score.py {FOLDERS} {options} --pred b --list fewer.txt", folder=tmp_path)
    assert "Done: no difference between A and B" in done.stdout  # of so few images
    ran(f"score.py {FOLDERS} {options} --pred b", folder=tmp_path)
    found = json.loads((tmp_path / "ab.json").read_text())
    assert (found["a"]["folder"], found["b"]["folder"]) == ("pred", "b")
    for name, change in found["changes"].items():
        assert change["change"] == pytest.approx(found["b"][name] - found["a"][name], abs=1e-15)
        assert change["change_low"] < change["change"] < change["change_high"]
    change = found["changes"]["mean_iu"]
    assert change["change_low"] > 0 and change["b_better"] > 0.99
    assert [image["name"] for image in found["images"]["worse"]] == ["0"]
    alone = json.loads(
        ran(f"score.py {FOLDERS} {options} --interval --pred b", folder=tmp_path)
        and (tmp_path / "ab.json").read_text()
    )["b"]
    width = change["change_high"] - change["change_low"]
    assert width < 0.7 * (alone["mean_iu_high"] - alone["mean_iu_low"])
    back = "--pred b --pred pred --truth truth --protocol"
    ran(f"score.py {back} {options}", folder=tmp_path)
    other = json.loads((tmp_path / "ab.json").read_text())["changes"]["mean_iu"]
    assert other["change"] == -change["change"]
    assert other["b_better"] == pytest.approx(1 - change["b_better"])
    done = ran(
        "score.py --pred b --pred b --truth truth --protocol voc --num-classes 3", folder=tmp_path
    )
    assert "Done: no difference between A and B" in done.stdout


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


@pytest.mark.parametrize("options", ["--measures none errors", "--boundary-ratio 0.1"])
def test_options_that_say_nothing_together(tmp_path, options):
    done = tool(f"score.py {FOLDERS} voc {options}", folder=tmp_path)
    assert done.returncode == 2 and options.split()[0] in done.stderr.splitlines()[-1]


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
