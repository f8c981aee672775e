"""The page as HTML: whole, by itself, and with the metric's numbers."""

import re
from base64 import b64decode
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from report_samples import Images, Page, keep, made_up_run, samples

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.error_kinds import KINDS
from fcn_plugin.evaluation.intervals import FEW
from fcn_plugin.evaluation.measures import MEASURES, TRIMAPS
from fcn_plugin.evaluation.tables import in_brackets
from fcn_plugin.report import evaluation
from fcn_plugin.report.examples import groups
from fcn_plugin.report.hook import EvaluationHook
from fcn_plugin.report.page import page
from fcn_plugin.report.panels import load_labels
from fcn_plugin.report.rendering import MINUS, Number
from fcn_plugin.report.run import Run

SCORES = ("mIoU", "aAcc", "mAcc", "fwIoU", "mDice", "mPrecision")  # in the order of the page
MEASURED = ("boundary_iu", "calibration_error")  # after these
SECTIONS = dict(errors="errors", boundary="borders", confidence="confidence")  # by measure
HOSTILE = ["<script>alert(1)</script>", "\"quoted' & co", "</style>", "{{ 7 * 7 }}"]


def kept(folder: Path, items, names, absent="skip", seed=0, measures=None) -> tuple[Run, dict]:
    """A run with an evaluation of samples, without intervals, and the scores of the metric."""
    hook = EvaluationHook(folder / f"kept{seed}", measures=measures)
    scores = keep(hook, Images(items, names), items, absent)
    run = made_up_run(f"run {seed}", randomness=dict(seed=seed))
    run.add(evaluation.load(hook.folder), None)
    return run, scores


def scored(folder: Path, names, images=9, seed=0, unseen=0, **options) -> tuple[Run, dict]:
    """The same of so many samples; the last classes do not occur."""
    items = samples(folder / "data", images, len(names) - unseen, seed)
    return kept(folder, items, names, seed=seed, **options)


def whole(runs: list[Run]) -> Page:
    found = Page(page(runs))
    assert found.faults == []
    return found


def sections(runs: list[Run]) -> dict[str, Page]:
    """The sections of a page by their ids."""
    html = page(runs)
    assert Page(html).faults == []
    pattern = r'<section aria-labelledby="(\w+)">.*?</section>'
    return {found[1]: Page(found[0]) for found in re.finditer(pattern, html, re.DOTALL)}


def test_faults_would_be_found():
    html = """<p id="a" onclick="x()"><b id="a"></p><th>x</th><img src="http://x/y.png">
        <style>a { background: url(x.png) }</style><input><h2>a</h2><h4>b</h4>
        <div tabindex="0" role="region" aria-label="a"></div><pre tabindex="0"></pre>"""
    assert len(Page(html).faults) == 8 + 5


def test_texts_have_contrast_in_both_modes():
    """WCAG 2 AA: 4.5 to 1, in cells of the confusion matrix, too."""

    def luminance(rgb: np.ndarray) -> float:
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722)) + 0.05

    css = (files("fcn_plugin.report") / "style.css").read_text()
    modes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    (cell,) = re.findall(r"rgb\((\d+) (\d+) (\d+) / calc\(var\(--share\) \* (\d+)%\)\)", css)
    blue, cover = np.array(cell[:3], float) / 255, float(cell[3]) / 100
    assert len(modes) == 2
    for mode in modes:
        colours = {}
        for name, code in re.findall(r"--(\w+): #(\w+)", mode):
            code = code if len(code) == 6 else "".join(digit * 2 for digit in code)
            colours[name] = np.array(list(bytes.fromhex(code))) / 255
        paper, ink = colours["paper"], colours["ink"]
        pairs = [(colours[name], paper) for name in ("ink", "soft", "first", "second")]
        for text, ground in (*pairs, (ink, cover * blue + (1 - cover) * paper)):
            dark, light = sorted(map(luminance, (text, ground)))
            assert light / dark >= 4.5


def test_scores_are_the_metrics_to_the_last_digit(tmp_path):
    """By MIT's rule; by VOC's they are in tools/test_report.py."""
    run, scores = scored(tmp_path, ["a", "b", "c", "never seen"], unseen=1, absent="zero")
    found = whole([run])
    expected = [scores[key] for key in (*SCORES[:4], "score", *SCORES[4:])]
    expected += [100 * run.evaluation.scores[name] for name in MEASURED]
    assert found.numbers[:9] == expected
    assert "MIT's rule" in found.text and "final score" in found.text


def test_intervals_are_beside_the_scores_and_by_class(tmp_path):
    """Of two runs, of which one has none; a class that never occurs has none; nor one image."""
    runs = [scored(tmp_path, ["a", "b", "never seen"], unseen=1, seed=seed)[0] for seed in (0, 1)]
    runs[0].add(runs[0].evaluation, "image")
    found = runs[0].intervals
    scores = [found.scores[name] for name in ("mean_iu", "pixel_accuracy", *MEASURED)]
    ius = [in_brackets(bounds) for bounds in found.arrays["class_iu"][:2]]
    for page_of in (runs[:1], runs):
        text = {name: part.text for name, part in sections(page_of).items()}
        brackets = re.findall(r"\[[\d.]+, [\d.]+\]", text["scores"])
        assert set(map(in_brackets, scores)) < set(brackets)
        assert len(brackets) == len(SCORES) + len(MEASURED)
        assert re.findall(r"\[[\d.]+, [\d.]+\]", text["classes"])[:2] == ius
        assert "95 % intervals from 2,000 resamples of 9 images; fewer" in text["scores"]
    runs[1].add(replace(runs[1].evaluation, images=runs[1].evaluation.images[:1]), "image")
    assert runs[1].intervals is None  # of one image
    assert "[" not in sections(runs[1:])["classes"].text


def test_errors_are_those_of_the_stored_pictures(tmp_path):
    """These are of full size; the images with most errors of a kind are shown first."""
    run, _ = scored(tmp_path, ["background", "b", "c"])
    maps = [load_labels(run.evaluation.panels, i) for i in range(9)]
    counts = np.array([[(kinds == kind).sum() for kind in KINDS] for _, _, kinds in maps])
    pixels = np.array([(truth < 3).sum() for truth, _, _ in maps])
    found = sections([run])["errors"]
    of_wrong, of_all = counts.sum(0) / counts.sum(), counts.sum(0) / pixels.sum()
    assert of_wrong.max() < 1
    np.testing.assert_allclose(found.numbers[:8], 100 * np.stack([of_wrong, of_all], 1).ravel())
    assert all(f"{count:,}" in found.text for count in counts.sum(0))
    assert "count together, scraps of background between" in found.text
    shown = groups([run.evaluation])[2:]
    kinds = [i for i in range(len(KINDS)) if counts[:, i].any()]
    assert len(shown) == len(kinds) > 1
    for kind, group in zip(kinds, shown, strict=True):
        first = int(Path(group["images"][0]["name"]).stem)
        shares = counts[:, kind] / np.maximum(pixels, 1)
        assert len(group["images"]) <= 2 and shares[first] == shares.max() > 0


def test_border_and_confidence_are_the_samples_own(tmp_path):
    """Confidence by plain softmax in double precision."""
    items = samples(tmp_path / "data", 9, 3)
    run, _ = kept(tmp_path, items, ["a", "b", "c"])
    scores = run.evaluation.scores
    names = ("boundary_iu", "mean_iu", "trimap_1", "pixel_accuracy")
    expected = [scores[name] for name in (*names, *(f"trimap_{width}" for width in TRIMAPS))]
    parts = sections([run])
    assert parts["borders"].numbers == [100 * value for value in expected]
    found = parts["confidence"].numbers
    assert found[0] == 100 * scores["calibration_error"] and len(found) == 1 + 3 * 3
    sure, right = [[], [], []], [[], [], []]
    for item in items:
        odds = np.exp(item.seg_logits.data.double().numpy())
        for y, x in np.argwhere(item.gt_sem_seg.data[0].numpy() < 3):
            label = int(item.pred_sem_seg.data[0, y, x])
            sure[label].append(odds[label, y, x] / odds[:, y, x].sum())
            right[label].append(label == int(item.gt_sem_seg.data[0, y, x]))
    for label in range(3):
        confidence, accuracy, _ = found[1 + 3 * label : 4 + 3 * label]
        assert confidence == pytest.approx(100 * np.mean(sure[label]), abs=1e-4)
        assert accuracy == pytest.approx(100 * np.mean(right[label]))


@pytest.mark.parametrize("measure", [*MEASURES, None])
def test_what_was_not_measured_has_no_section(tmp_path, measure):
    """As with test-time augmentation, which keeps no scores; of two runs one may have it."""
    measures = [measure] if measure else []
    run, _ = scored(tmp_path, ["a", "b"], images=3, measures=measures)
    other, _ = scored(tmp_path, ["a", "b"], images=3, seed=1, measures=[])
    for runs in ([run], [other, run]):
        found = sections(runs)
        assert [name for name, id in SECTIONS.items() if id in found] == measures
        assert "background" not in "".join(section.text for section in found.values())
    errors = [group["title"] for group in groups([run.evaluation])[2:]]
    assert bool(errors) == (measure == "errors")


def test_images_are_the_worst_and_the_best(tmp_path):
    """Later ones are predicted better, and the last is all void."""
    run, _ = scored(tmp_path, ["a", "b", "c"])
    found = whole([run])
    assert len(found.charts) == 3 + 2
    shown = groups([run.evaluation])
    assert [len(group["images"]) for group in shown[:2]] == [4, 4]
    assert run.evaluation.images[8].mean_iu is None
    assert "8.png" not in found.text
    worst, best = found.text.index("Worst images"), found.text.index("Best images")
    assert worst < found.text.index("0.png") < best < found.text.index("7.png")


def test_the_first_sentences_say_how_good_and_why(tmp_path):
    """And what the pixel accuracy of a network that knows one class would be."""
    items = samples(tmp_path / "data", 9, 3)
    for item in items:
        item.gt_sem_seg.data[item.gt_sem_seg.data == 1] = 0
    text = whole([kept(tmp_path, items, ["rest", "never", "b"])[0]]).text
    assert re.search(r"The mean IU is \d+\.\d %\. \d+\.\d % of the pixels are right;", text)
    assert re.search(
        r"; 6\d\.\d % would be if all were called rest\. Lowest in IU: never \(0\.0 %\)", text
    )
    assert (Number(0.004).text, Number(0.0).text) == ("<\u00a00.01", "0.00")


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
    assert found.tags.count("td") < 150 * 20  # the matrix is a picture


def test_two_runs(tmp_path):
    first, before = scored(tmp_path, ["a", "b", "c"])
    second, after = scored(tmp_path, ["a", "b", "c"], seed=1)
    found = whole([first, second])
    pairs = [(before[key], after[key]) for key in SCORES]
    assert found.numbers[: 3 * len(pairs)] == [v for a, b in pairs for v in (a, b, b - a)]
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
    assert found.numbers[:2] == [40.25, 100 * first.evaluation.scores["mean_iu"]]


def better(items: list, share: float) -> list:
    """The same samples with some more of the pixels right."""
    mended = []
    for i, item in enumerate(items):
        truth, guess = item.gt_sem_seg.data, item.pred_sem_seg.data
        some = np.random.default_rng(i).random(tuple(truth.shape)) < share
        mended.append(item.clone())
        mended[-1].pred_sem_seg = PixelData(data=guess.where(torch.from_numpy(~some), truth % 3))
    return mended


def compared(*runs: Run, section: str = "scores") -> tuple[np.ndarray, str]:
    """A, B, change and wins of each score on a page, [rows, 4], and all of the section's text."""
    for run in runs:
        run.add(run.evaluation, "image")
    part = sections(list(runs))[section]
    rows = len(SCORES) + len(MEASURED)
    return np.reshape(part.numbers[: 4 * rows], (rows, 4)), part.text


def test_better_is_better_whichever_way_round(tmp_path):
    """And no run is better than itself; of the calibration error less is better."""
    items, names = samples(tmp_path / "data", FEW + 1, 3), ["a", "b", "c"]
    poor, _ = kept(tmp_path, items, names)
    good, _ = kept(tmp_path, better(items, 0.3), names, seed=1)
    up, text = compared(poor, good)
    np.testing.assert_allclose(up[:, 2], up[:, 1] - up[:, 0], rtol=0, atol=1e-12)
    assert (up[:7, 2] > 0).all() and (up[:7, 3] == 100).all()
    assert (up[7, 2] < 0) == (up[7, 3] > 50) and "B is better" in text
    down, text = compared(good, poor)
    np.testing.assert_array_equal(down[:, [1, 0]], up[:, :2])
    np.testing.assert_allclose(down[:, 2:], [0, 100] - up[:, 2:] * [1, 1], rtol=0, atol=1e-12)
    assert "A is better" in text
    same, text = compared(good, good)
    assert (same[:, 2] == 0).all() and (same[:, 3] == 50).all() and "is better than" not in text


def test_only_images_that_both_have_scored_are_compared(tmp_path):
    """Wherever they lie, in whatever order."""
    items, names = samples(tmp_path / "data", 9, 3), ["a", "b", "c"]
    first, _ = kept(tmp_path, items[:7], names)
    others = better(items, 0.3)
    second, _ = kept(tmp_path, [*others[3:], others[2]], names, seed=1)
    part, text = compared(first, second, section="against")
    assert "5 images that both" in text and "A has 2 others, B 2." in text
    alone, _ = kept(tmp_path, items[2:7], names, seed=2)
    other, _ = kept(tmp_path, others[2:7], names, seed=3)
    np.testing.assert_allclose(part, compared(alone, other)[0], rtol=0, atol=1e-12)


def test_charts_have_both_runs_at_the_height_of_their_scores(tmp_path):
    """Of the curves in trimaps, whose scale is found from their ends, and of the diagrams."""
    items, names = samples(tmp_path / "data", 9, 3), ["a", "b", "c"]
    for item in items:  # random labels have borders everywhere
        item.gt_sem_seg.data = item.gt_sem_seg.data.sort(-1).values
    runs = [
        kept(tmp_path, part, names, seed=i)[0] for i, part in enumerate((items, better(items, 0.3)))
    ]
    charts = [
        b64decode(chart.partition(",")[2]).decode()
        for part in map(sections(runs).get, ("borders", "confidence"))
        for chart in part.charts
    ]
    heights, values = [], []
    for place, run in enumerate(runs):
        path = re.search(rf'<g id="trimap-{place}">\s*<path d="([^"]+)"', charts[0])[1]
        heights.append(np.array(re.findall(r"[\d.]+", path), float)[1::2])
        values.append(run.evaluation.scores["trimap"])
        assert f'id="reliability-{place}"' in charts[1]
    heights, values = np.concatenate(heights), np.concatenate(values)
    slope, _ = np.polyfit(values, heights, 1)
    assert slope < 0 and values.std() > 0.01 and abs(np.corrcoef(values, heights)[0, 1]) > 1 - 1e-9
