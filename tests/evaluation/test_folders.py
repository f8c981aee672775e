"""Label files in pairs: which belong together, what is counted in them, and how it is scored."""

import doctest
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools.running import REPOSITORY

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation import folders
from fcn_plugin.evaluation.folders import Pair, Tally, counted, matched, pair_counts
from fcn_plugin.evaluation.protocols import PROTOCOLS, protocol
from fcn_plugin.evaluation.scores import scores

VOC, MIT = PROTOCOLS["voc"], PROTOCOLS["mit"]


def write(path: Path, labels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels, dtype=np.uint8)).save(path)
    return path


def pair(folder: Path, truth, prediction, name: str = "a") -> Pair:
    return Pair(
        write(folder / f"truth/{name}.png", truth),
        write(folder / f"pred/{name}.png", prediction),
    )


def total(pairs, rule, jobs=1) -> Tally:
    tally = Tally()
    for part in counted(pairs, rule, jobs):
        tally += part
    return tally


# --- counts --------------------------------------------------------------------------------------


def test_docstring_examples_hold():
    found = doctest.testmod(folders)
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("block", [1, 7, 500, 10**6])
def test_counts_are_those_of_a_plain_count(monkeypatch, block):
    monkeypatch.setattr(folders, "BLOCK", block)
    truth, prediction = np.random.default_rng(0).integers(0, 256, (2, 20, 25), dtype=np.uint8)
    plain = np.zeros((256, 256), np.int64)
    np.add.at(plain, (truth, prediction), 1)
    counts = pair_counts(truth, prediction)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, plain)


def test_an_array_that_is_not_contiguous():
    truth, prediction = np.random.default_rng(0).integers(0, 256, (2, 20, 25), dtype=np.uint8)
    np.testing.assert_array_equal(
        pair_counts(truth.T[::2], prediction.T[::2]),
        pair_counts(truth.T[::2].copy(), prediction.T[::2].copy()),
    )


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_any_number_of_jobs_counts_the_same(tmp_path, jobs):
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 21, (2, 6, 7), dtype=np.uint8) for _ in range(40)]
    pairs = [pair(tmp_path, *image, name=str(i)) for i, image in enumerate(images)]
    tally = total(pairs, VOC, jobs)
    np.testing.assert_array_equal(tally.counts, sum(pair_counts(*image) for image in images))
    assert tally.images == 40
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_in_a_file_comes_through_and_the_workers_end(tmp_path, jobs):
    pairs = [pair(tmp_path, [[1]], [[1]], name=str(i)) for i in range(40)]
    pairs[23].prediction.write_bytes(b"")
    with pytest.raises(UserError, match=r"pred/23.png: damaged label, the file is empty; copy"):
        total(pairs, VOC, jobs)
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_killed(tmp_path):
    pairs = [pair(tmp_path, [[1]], [[1]], name=str(i)) for i in range(400)]
    tallies = counted(pairs, VOC, 2)
    for worker in multiprocessing.active_children():
        worker.kill()
    with pytest.raises(UserError, match=r"a worker was killed .*; make room and run it again"):
        list(tallies)


MEASURE = """
import resource, sys
from pathlib import Path
import fcn_plugin
from fcn_plugin.evaluation.folders import counted, matched
from fcn_plugin.evaluation.protocols import PROTOCOLS
who, jobs = getattr(resource, sys.argv[1]), int(sys.argv[2])
pairs = matched(Path("truth"), Path("pred"))
for some in (pairs[:20], pairs):
    assert sum(tally.images for tally in counted(some, PROTOCOLS["voc"], jobs)) == len(some)
    print(resource.getrusage(who).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the unit of ru_maxrss is another")
@pytest.mark.parametrize(("who", "jobs"), [("RUSAGE_SELF", 1), ("RUSAGE_CHILDREN", 2)])
def test_memory_does_not_grow_with_the_number_of_files(tmp_path, who, jobs):
    """180 more pairs of 0.36 million pixels would be 130 MB if they were kept."""
    files = pair(tmp_path, *np.zeros((2, 600, 600)))
    for i in range(199):
        for file in files:
            os.link(file, file.with_name(f"{i}.png"))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, who, str(jobs)],
        cwd=tmp_path,
        env=os.environ | dict(PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    few, many = (1024 * int(line) for line in done.stdout.split())
    assert 50_000_000 < few <= many < few + 10_000_000


# --- scores --------------------------------------------------------------------------------------


def by_masks(truth, prediction, labels, ignored):
    """(pixel acc., IU by class, accuracy by class, pixels by class) in float64; NaN without pixels.

    No matrix: each class by itself, as areas of masks.
    """
    counted = truth != ignored
    areas = []
    for label in labels:
        true, said = (truth == label) & counted, (prediction == label) & counted
        areas.append([np.sum(true & said), np.sum(true | said), np.sum(true)])
    hit, union, area = np.array(areas, dtype=np.float64).T
    right = np.sum((truth == prediction) & counted) / np.sum(counted)
    with np.errstate(invalid="ignore"):
        return right, hit / union, hit / area, area


def mits_rule(truths, predictions):
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


def assert_equal(found, expected, rule):
    right, iu, accuracy, area = expected
    np.testing.assert_allclose(found.class_iu, iu, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.class_accuracy, accuracy, rtol=0, atol=1e-12)
    mean = np.nanmean if rule.absent == "skip" else lambda values: np.mean(np.nan_to_num(values))
    assert found.pixel_accuracy == pytest.approx(right, abs=1e-12)
    assert found.mean_iu == pytest.approx(mean(iu), abs=1e-12)
    assert found.mean_accuracy == pytest.approx(mean(accuracy), abs=1e-12)
    weighted = np.nansum(area * iu) / np.sum(area)
    assert found.frequency_weighted_iu == pytest.approx(weighted, abs=1e-12)


def test_voc_against_masks(tmp_path):
    """Void, class 5 nowhere, class 6 predicted only, class 7 true only."""
    generator = np.random.default_rng(0)
    truth, prediction = generator.integers(0, 21, (2, 30, 40, 50), dtype=np.uint8)
    truth[np.isin(truth, (5, 6))] = 255
    prediction[np.isin(prediction, (5, 7))] = 0
    pairs = [
        pair(tmp_path, *two, str(i)) for i, two in enumerate(zip(truth, prediction, strict=True))
    ]
    tally = total(pairs, VOC)
    found = scores(VOC.matrix(tally.counts), VOC.absent)
    assert_equal(found, by_masks(truth, prediction, range(21), 255), VOC)
    assert np.isnan(found.class_iu[5])
    assert found.class_iu[6] == 0 and np.isnan(found.class_accuracy[6])
    assert found.class_iu[7] == 0 and found.class_accuracy[7] == 0


def test_mit_against_masks_and_against_the_published_rule(tmp_path):
    """Unlabelled pixels, predictions of 0, classes from 121 on nowhere."""
    generator = np.random.default_rng(0)
    truth, prediction = generator.integers(0, 121, (2, 30, 40, 50), dtype=np.uint8)
    prediction[:10] = np.where(generator.random((10, 40, 50)) < 0.7, truth[:10], prediction[:10])
    pairs = [
        pair(tmp_path, *two, str(i)) for i, two in enumerate(zip(truth, prediction, strict=True))
    ]
    tally = total(pairs, MIT)
    matrix = MIT.matrix(tally.counts)
    found = scores(matrix, MIT.absent)
    assert_equal(found, by_masks(truth, prediction, range(1, 151), 0), MIT)
    mean, right, final = mits_rule(truth, prediction)
    assert found.mean_iu == pytest.approx(mean, abs=1e-12)
    assert found.pixel_accuracy == pytest.approx(right, abs=1e-12)
    assert found.final == pytest.approx(final, abs=1e-12)
    as_none = (truth > 0) & (prediction == 0)
    assert matrix[:, 150].sum() == as_none.sum() > 0
    assert tally.unclassed == as_none.any(axis=(1, 2)).sum()


def test_what_is_predicted_where_nothing_is_labelled_does_not_matter(tmp_path):
    generator = np.random.default_rng(0)
    truth, prediction = generator.integers(1, 151, (2, 40, 50), dtype=np.uint8)
    blank = generator.random(truth.shape) < 0.3
    found = []
    for i, there in enumerate((0, prediction, generator.integers(0, 256, truth.shape))):
        changed = np.where(blank, there, prediction)
        tally = total([pair(tmp_path, np.where(blank, 0, truth), changed, str(i))], MIT)
        found.append(MIT.matrix(tally.counts))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_other_numbers_of_classes():
    camvid = protocol("voc", 11, 11)
    assert camvid.classes == tuple(map(str, range(11)))
    assert camvid.labels == range(11)
    assert protocol("mit", 33).labels == range(1, 34)
    assert protocol("voc", 21) == VOC
    assert protocol("mit", 150) == MIT
    assert VOC.classes[:2] == ("background", "aeroplane")
    assert MIT.classes[0] == "wall" and len(MIT.classes) == 150


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("voc", 0, None), "--num-classes 0: give 1 to 256"),
        (("mit", 256, None), "--num-classes 256: give 1 to 255"),
        (("voc", 256, None), "--ignore 255: is one of the classes 0 to 255; give another"),
        (("voc", None, 20), "--ignore 20: is one of the classes 0 to 20; give another"),
        (("voc", None, -1), "--ignore -1: give 0 to 255"),
        (("voc", None, 256), "--ignore 256: give 0 to 255"),
    ],
)
def test_classes_that_labels_cannot_hold(options, message):
    with pytest.raises(UserError, match=message):
        protocol(*options)


# --- files that cannot be scored -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "truth", "prediction", "message"),
    [
        (
            VOC,
            [0, 0, 0],
            [21, 59, 59],
            r"pred/a.png: label values 21 \(1 px\), 59 \(2 px\), but with --protocol voc and 21 "
            "classes only 0-20 can be predicted; give --num-classes 60 if they are classes, or a "
            "class for every pixel",
        ),
        # VOC's devkit refuses it wherever it stands.
        (VOC, [0, 255], [0, 255], r"pred/a.png: .* 255 \(1 px\), .* predicted; give a class for"),
        (
            VOC,
            [0, 99],
            [0, 0],
            r"truth/a.png: .* 99 .* only 0-20, 255 can be true; .* 100 if they are classes, or ",
        ),
        (MIT, [1, 1], [1, 151], r"pred/a.png: .* 151 \(1 px\), .* only 0-150 can be predicted"),
        (MIT, [1, 255], [1, 1], r"truth/a.png: .* 255 .* only 0-150 can be true; .*--ignore INDEX"),
        (
            protocol("voc", 11, 11),
            [0, 11],
            [11, 0],
            r"pred/a.png: .* 11 \(1 px\), .* only 0-10 can be predicted; give a class for every",
        ),
        (protocol("voc", 11), [0, 11], [0, 0], r"truth/a.png: .* 11 .* only 0-10, 255 can be true"),
    ],
)
def test_labels_that_cannot_be(tmp_path, rule, truth, prediction, message):
    with pytest.raises(UserError, match=message):
        total([pair(tmp_path, [truth], [prediction])], rule)


@pytest.mark.parametrize("role", ["truth", "prediction"])
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGB", (3, 2)), r"a.png: label in colour \(mode RGB\); save the class indices"),
        (
            Image.fromarray(np.zeros((2, 3), np.uint16)),
            "a.png: label of more than 8 bits; save the class indices with 8",
        ),
    ],
)
def test_files_that_hold_no_labels(tmp_path, role, image, message):
    files = pair(tmp_path, [[0, 0, 0]] * 2, [[0, 0, 0]] * 2)
    image.save(getattr(files, role))
    with pytest.raises(UserError, match=message):
        total([files], VOC)


def test_a_prediction_of_another_size(tmp_path):
    files = pair(tmp_path, [[0, 0, 0]] * 2, [[0, 0]] * 3)
    with pytest.raises(UserError, match=r"pred/a.png: prediction of 2x3 for a truth of 3x2; pred"):
        total([files], VOC)


# --- which files belong together -----------------------------------------------------------------


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.png").touch()
    return folder


def test_files_of_the_same_name_are_pairs(tmp_path):
    truth, prediction = touch(tmp_path / "t", "b", "a"), touch(tmp_path / "p", "a", "b")
    (truth / "readme.txt").touch()
    touch(truth / "inner", "c")
    assert matched(truth, prediction) == [
        Pair(truth / "a.png", prediction / "a.png"),
        Pair(truth / "b.png", prediction / "b.png"),
    ]


def test_a_list_chooses(tmp_path):
    truth, prediction = touch(tmp_path / "t", *"abcd"), touch(tmp_path / "p", *"bcde")
    ids = tmp_path / "val.txt"
    ids.write_text("d\r\n\n b \n")
    assert [files.truth.stem for files in matched(truth, prediction, ids)] == ["d", "b"]


@pytest.mark.parametrize(
    ("truths", "predictions", "listed", "message"),
    [
        (
            "abcdef",
            "b",
            None,
            r"5 of 6 labels have no prediction in .*p \(a, c, d and 2 more\): .*val",
        ),
        ("ab", "abc", None, r"1 of 3 predictions have no label in .*t \(c\): .* give --list"),
        ("ab", "ab", "a\nx\ny", r"2 of 3 ids of .*val.txt have no prediction in .*p \(x, y\): add"),
        ("ab", "abx", "a\nx", r"1 of 2 ids of .*val.txt have no label in .*t \(x\): .* off the l"),
        ("ab", "ab", "a\nb\na", r"val.txt: a is listed 2 times; leave it there once"),
        ("ab", "ab", "\n \n", r"val.txt: the list is empty; write one id a line"),
        ("", "ab", None, r"t: no \*.png right in it; give --truth the folder"),
        ("ab", "", None, r"p: no \*.png right in it; give --pred the folder"),
    ],
)
def test_files_that_do_not_match(tmp_path, truths, predictions, listed, message):
    ids = tmp_path / "val.txt"
    if listed is not None:
        ids.write_text(listed)
    with pytest.raises(UserError, match=message):
        matched(
            touch(tmp_path / "t", *truths),
            touch(tmp_path / "p", *predictions),
            None if listed is None else ids,
        )


def test_folders_and_lists_that_are_not_there(tmp_path):
    there, gone = touch(tmp_path / "t", "a"), tmp_path / "gone"
    with pytest.raises(UserError, match="gone: no such folder; give --truth the folder"):
        matched(gone, there)
    with pytest.raises(UserError, match="gone: no such folder; give --pred the folder"):
        matched(there, gone)
    with pytest.raises(UserError, match="gone: no such list; give --list a file with one id a"):
        matched(there, there, gone)
    # Not a list at all, which ends in a name that no file has.
    (tmp_path / "list.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match=r"1 of 1 ids of .*list.png have no prediction"):
        matched(there, there, tmp_path / "list.png")
