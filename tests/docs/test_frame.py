"""docs/figures/frame.py: the picture in README, of made-up evaluations."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_samples import COUNT, NAMES, Images, keep, samples
from tools.running import REPOSITORY

from fcn_plugin.errors import UserError
from fcn_plugin.report.evaluation import load
from fcn_plugin.report.hook import EvaluationHook


def scored(work_dir: Path, photos: Path) -> Path:
    images = Images(samples(photos, COUNT, len(NAMES)), NAMES)
    keep(EvaluationHook(work_dir / "evaluation"), images, list(images))
    return work_dir


@pytest.fixture
def frame(monkeypatch):
    def run(*words: object) -> None:
        monkeypatch.setattr("sys.argv", ["frame.py", *map(str, words)])
        runpy.run_path(str(REPOSITORY / "docs/figures/frame.py"))["main"]()

    return run


def test_the_median_image_in_the_colours_of_its_classes(tmp_path, frame, capsys):
    runs = [scored(tmp_path / name, tmp_path / "photos") for name in ("one", "two")]
    kept = load(runs[0] / "evaluation")
    ranked = sorted((i for i in kept.images if i.mean_iu is not None), key=lambda i: i.mean_iu)
    capsys.readouterr()
    titled = [f"{run.name}={run}" for run in runs]
    frame(*titled, "--out", tmp_path / "new/frame.png")
    assert capsys.readouterr().out.startswith(f"{ranked[len(ranked) // 2].path} of ")
    with Image.open(tmp_path / "new/frame.png") as picture:
        wide, high = picture.size
        drawn = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert wide >= 4 * high  # input, truth and two networks beside each other
    for colour in kept.palette:
        # More than its box in the legend.
        assert (drawn == colour).all(1).mean() > 0.02


def test_what_cannot_be_drawn_is_named(tmp_path, frame):
    run, other = scored(tmp_path / "a", tmp_path / "x"), scored(tmp_path / "b", tmp_path / "y")
    out = ("--out", tmp_path / "frame.webp")
    for words, named in {
        (f"A={tmp_path}", *out): "not scored yet; run fcn-plugin report",
        (f"B={other}", f"A={run}", *out): "b: scored on other images",
        (f"A={run}", *out, "--image", "1.jpg"): "no such image; did you mean '1.png'",
    }.items():
        with pytest.raises(UserError, match=named):
            frame(*words)
    assert not (tmp_path / "frame.webp").exists()
