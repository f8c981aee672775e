"""The page as HTML: whole, by itself, and with the metric's numbers."""

import re
from itertools import islice
from pathlib import Path

import pytest
from report_samples import Images, Page, keep, made_up_run, samples

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.tables import in_brackets
from fcn_plugin.report import evaluation
from fcn_plugin.report.hook import EvaluationHook
from fcn_plugin.report.page import page
from fcn_plugin.report.rendering import MINUS
from fcn_plugin.report.run import Run

SCORES = ("mIoU", "aAcc", "mAcc", "fwIoU")  # in the order of the page
HOSTILE = ["<script>alert(1)</script>", "\"quoted' & co", "</style>", "{{ 7 * 7 }}"]


def scored(folder: Path, names, images=9, seed=0, unseen=0, absent="skip") -> tuple[Run, dict]:
    """A run with an evaluation, and the scores of the metric; the last classes do not occur."""
    items = samples(folder / "data", images, len(names) - unseen, seed)
    kept = folder / f"kept{seed}"
    scores = keep(EvaluationHook(kept), Images(items, names), items, absent)
    run = made_up_run(f"run {seed}", randomness=dict(seed=seed))
    run.evaluation = evaluation.load(kept)
    return run, scores


def whole(runs: list[Run]) -> Page:
    found = Page(page(runs))
    assert found.faults == []
    return found


def test_faults_would_be_found():
    html = """<p id="a" onclick="x()"><b id="a"></p><th>x</th><img src="http://x/y.png">
        <style>a { background: url(x.png) }</style>"""
    assert len(Page(html).faults) == 8


def test_scores_are_the_metrics_to_the_last_digit(tmp_path):
    """By MIT's rule; by VOC's they are in tools/test_report.py."""
    run, scores = scored(tmp_path, ["a", "b", "c", "never seen"], unseen=1, absent="zero")
    found = whole([run])
    assert found.numbers[:5] == [scores[key] for key in (*SCORES, "score")]
    assert "MIT's rule" in found.text and "final score" in found.text


def test_intervals_are_beside_the_scores_and_by_class(tmp_path):
    """Of two runs, of which one has none; a class that never occurs has none."""
    runs = [scored(tmp_path, ["a", "b", "never seen"], unseen=1, seed=seed)[0] for seed in (0, 1)]
    runs[0].intervals = found = runs[0].evaluation.intervals("image")
    shown = [
        in_brackets(bounds)
        for bounds in (*islice(found.scores.values(), len(SCORES)), *found.arrays["class_iu"][:2])
    ]
    for page_of in (runs[:1], runs):
        text = whole(page_of).text
        assert sorted(re.findall(r"\[[\d.]+, [\d.]+\]", text)) == sorted(shown)
        assert "In brackets: 95 % intervals from 2,000 resamples of 9 images; fewer" in text
    runs[0].intervals = None
    assert "[" not in whole(runs[:1]).text.partition("Config and")[0].partition("Classes")[2]


def test_images_are_the_worst_and_the_best(tmp_path):
    """Later ones are predicted better, and the last is all void."""
    run, _ = scored(tmp_path, ["a", "b", "c"])
    found = whole([run])
    assert len(found.charts) == 3 and len(found.sources) == 3 + 4 * 8
    assert run.evaluation.images[8].mean_iu is None
    assert "8.png" not in found.text
    worst, best = found.text.index("Worst images"), found.text.index("Best images")
    assert worst < found.text.index("0.png") < best < found.text.index("7.png")


def test_hostile_names_are_text(tmp_path):
    run, _ = scored(tmp_path / "a 'b' \"c\" <i>", HOSTILE)
    run.name = "<script>x</script>"
    run.cfg.load_from = "hf://h/n/a.pth?X-Amz-Signature=1f2e"
    found = whole([run])
    assert "hf://h/n/a.pth" in found.text and "1f2e" not in page([run])
    assert found.tags.count("script") == 1
    for name in (*HOSTILE, run.name):
        assert name in found.text


def test_150_classes_stay_light(tmp_path):
    run, _ = scored(tmp_path, [f"class number {i}" for i in range(150)], images=12)
    assert len(page([run])) < 1_000_000
    found = whole([run])
    assert "149 class number 149" in found.text and "Most confused" in found.text
    assert found.tags.count("td") < 150 * 10  # the matrix is a picture


def test_two_runs(tmp_path):
    first, before = scored(tmp_path, ["a", "b", "c"])
    second, after = scored(tmp_path, ["a", "b", "c"], seed=1)
    found = whole([first, second])
    pairs = [(before[key], after[key]) for key in SCORES]
    assert found.numbers[:12] == [v for a, b in pairs for v in (a, b, b - a)]
    for value, other in pairs:
        assert f"{other - value:+.2f}".replace("-", MINUS) in found.text
    assert "randomness.seed" in found.text and "train_cfg.max_iters" not in found.text
    assert "Largest gains" in found.text and "Largest losses" in found.text
    assert "dashed, squares" in found.text and "MIT's rule" not in found.text
    assert "different images" not in found.text


def test_two_runs_of_which_one_is_other(tmp_path):
    """On other images, of other classes, without an evaluation."""
    first, _ = scored(tmp_path / "here", ["a", "b"], images=3)
    second, _ = scored(tmp_path / "there", ["a", "b"], images=4, seed=1)
    assert "scored on different images" in whole([first, second]).text
    second, _ = scored(tmp_path, ["a", "c"], images=3, seed=1)
    with pytest.raises(UserError, match="different classes; make a page of each"):
        page([first, second])
    found = whole([made_up_run("unscored"), first])
    assert found.numbers[:2] == [40.25, first.evaluation.scores["mean_iu"] * 100]
