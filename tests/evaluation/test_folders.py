"""Label files in pairs: what is counted in them, how it is scored, and what is refused.

Any folders and files are in property/test_any_folders.py.
"""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation import folders
from fcn_plugin.evaluation.folders import Pair, Tally, counted, matched, pair_counts
from fcn_plugin.evaluation.protocols import PROTOCOLS, Protocol, protocol
from fcn_plugin.evaluation.scores import scores

VOC, MIT = PROTOCOLS["voc"], PROTOCOLS["mit"]


def pair(folder: Path, truth, prediction, name: str = "a") -> Pair:
    files = Pair(folder / f"truth/{name}.png", folder / f"pred/{name}.png")
    for path, labels in zip(files, (truth, prediction), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        dtype = np.uint8 if np.max(labels) < 256 else np.uint16
        Image.fromarray(np.asarray(labels, dtype)).save(path)
    return files


def total(pairs: list[Pair], rule: Protocol, jobs: int = 1) -> Tally:
    tally = Tally()
    for part in counted(pairs, rule, jobs):
        tally += part
    return tally


@pytest.mark.parametrize("block", [7, 500, 10**6])
def test_counts_are_those_of_a_plain_count(monkeypatch, block):
    monkeypatch.setattr(folders, "BLOCK", block)
    labels = np.random.default_rng(0).integers(0, 256, (2, 20, 25), dtype=np.uint8)
    for truth, prediction in (labels, (labels[0].T[::2], labels[1].T[::2])):
        plain = np.zeros((256, 256), np.int64)
        np.add.at(plain, (truth, prediction), 1)
        counts = pair_counts(truth, prediction)
        assert counts.dtype == np.int64
        np.testing.assert_array_equal(counts, plain)


def test_several_jobs_count_all_and_leave_nobody_behind(tmp_path):
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 21, (2, 6, 7), dtype=np.uint8) for _ in range(40)]
    pairs = [pair(tmp_path, *image, name=str(i)) for i, image in enumerate(images)]
    tally = total(pairs, VOC, jobs=3)
    np.testing.assert_array_equal(tally.counts, sum(pair_counts(*image) for image in images))
    assert tally.images == 40
    pairs[23].prediction.write_bytes(b"")
    with pytest.raises(UserError, match=r"pred/23.png: damaged label, the file is empty; copy"):
        total(pairs, VOC, jobs=3)
    assert multiprocessing.active_children() == []


def by_mits_rule(truths, predictions) -> tuple[float, float, float]:
    """(mean IoU, pixel accuracy, final score) by the rule of demoEvaluation.m, over 150 classes.

    Predictions are blanked where nothing is labelled; areas are added up over the images, and
    divided with a guard against 0, which makes an absent class 0.
    """
    overlap, union = np.zeros((2, 150))
    right = labelled = 0.0
    for truth, prediction in zip(truths, predictions, strict=True):
        truth, prediction = truth.astype(np.float64), prediction.astype(np.float64)
        seen = prediction * (truth > 0)
        for number in range(1, 151):
            same = np.sum((seen == number) & (truth == number))
            overlap[number - 1] += same
            union[number - 1] += np.sum(seen == number) + np.sum(truth == number) - same
        right += np.sum((prediction == truth) & (truth > 0))
        labelled += np.sum(truth > 0)
    mean = np.mean(overlap / (np.finfo(np.float64).eps + union))
    return mean, right / labelled, (mean + right / labelled) / 2


def test_mit_against_the_published_rule(tmp_path):
    """Unlabelled pixels, predictions of 0, classes from 121 on nowhere."""
    generator = np.random.default_rng(0)
    truth, prediction = generator.integers(0, 121, (2, 9, 40, 50), dtype=np.uint8)
    prediction[:3] = np.where(generator.random((3, 40, 50)) < 0.7, truth[:3], prediction[:3])
    pairs = [pair(tmp_path, truth[i], prediction[i], str(i)) for i in range(9)]
    tally = total(pairs, MIT)
    matrix = MIT.matrix(tally.counts)
    found = scores(matrix, MIT.absent)
    three = found.mean_iu, found.pixel_accuracy, found.final
    assert three == pytest.approx(by_mits_rule(truth, prediction), abs=1e-12)
    as_none = (truth > 0) & (prediction == 0)
    assert matrix[:, 150].sum() == as_none.sum() > 0
    assert tally.unclassed == as_none.any(axis=(1, 2)).sum()
    # What is predicted where nothing is labelled does not matter, whatever it is.
    other = np.where(truth[0] == 0, generator.integers(0, 256, truth[0].shape), prediction[0])
    one, changed = (total([pair(tmp_path, truth[0], p)], MIT) for p in (prediction[0], other))
    np.testing.assert_array_equal(MIT.matrix(one.counts), MIT.matrix(changed.counts))


def test_other_numbers_of_classes():
    camvid = protocol("voc", 11, 11)
    assert camvid.classes == tuple(map(str, range(11))) and camvid.labels == range(11)
    assert camvid.ignored == (11,)
    assert protocol("mit", 33).labels == range(1, 34)
    assert protocol("mit", 3, 255, 0).unclassed == ()
    for options, message in (
        (("mit", 256), "--num-classes 256: give 1 to 255"),
        (("voc", None, 20), "--ignore 20: is one of the classes 0 to 20; give another"),
        (("voc", None, 256), "--ignore 256: give 0 to 255"),
        (("voc", 1, 0, 256), "--first 256: give 0 to 255"),
    ):
        with pytest.raises(UserError, match=message):
            protocol(*options)


# protocol, truth, prediction, what is said
ILLEGAL = [
    (VOC, [0, 0, 0], [21, 59, 59], r"pred/a.png: label values 21 \(1 px\), 59 \(2 px\), but with "
     "--protocol voc and 21 classes only 0-20 are legal predicted labels; give "
     "--num-classes 60 if they are classes, or a class for every pixel"),
    # VOC's devkit refuses it wherever it stands.
    (VOC, [0, 255], [0, 255], r"pred/a.png: .* 255 \(1 px\), .* predicted labels; give a class"),
    (VOC, [0, 99], [0, 0], "truth/a.png: .* 99 .* only 0-20, 255 are legal true .* 100 if they"),
    (MIT, [1, 255], [1, 1], "truth/a.png: .* 255 .* only 0-150 are legal true .*--ignore INDEX"),
    (VOC, [0, 0], [0], "pred/a.png: prediction of 1x1 for a truth of 2x1; predict every"),
    (VOC, [300, 0], [0, 0], "truth/a.png: label of more than 8 bits; save the class indices"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "truth", "prediction", "message"), ILLEGAL)
def test_labels_that_cannot_be(tmp_path, rule, truth, prediction, message):
    with pytest.raises(UserError, match=message):
        total([pair(tmp_path, [truth], [prediction])], rule)


# names of labels, of predictions, the list, what is said
UNMATCHED = [
    ("abcdef", "b", None, r"5 of 6 labels .* prediction in .*p \(a, c, d and 2 more\): .*val"),
    ("ab", "ab", "a\nx\ny", r"2 of 3 ids of .*val.txt have no prediction in .*p \(x, y\): add"),
    ("ab", "ab", "a\nb\na", "val.txt: a is listed 2 times; leave it there once"),
    ("ab", "", None, r"p: no \*.png directly in it; give --pred the folder"),
]


@pytest.mark.parametrize(("truths", "predictions", "listed", "message"), UNMATCHED)
def test_files_that_do_not_match(tmp_path, truths, predictions, listed, message):
    for folder, names in (("t", truths), ("p", predictions)):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.png").touch()
    ids = tmp_path / "val.txt" if listed else None
    if ids:
        ids.write_text(listed)
    with pytest.raises(UserError, match=message):
        matched(tmp_path / "t", tmp_path / "p", ids)
