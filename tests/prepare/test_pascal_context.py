"""PASCAL-Context: 59 of its 459 published classes, as mmseg's converter numbers them."""

import random
import shutil
import signal
from pathlib import Path

import killed
import numpy as np
import pytest
from mmseg.datasets import PascalContextDataset59
from PIL import Image
from prepare.archives_of_sets import CONTEXT, context, listed, tgz, voc2010
from prepare.test_prepare import get, tree
from scipy.io import savemat

from fcn_plugin.data.lists import read_ids
from fcn_plugin.data.pascal_context import LISTED, PUBLISHED_CLASSES
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.mat_labels import read_context, read_listed
from fcn_plugin.prepare.tree_check import check

NAME, FOLDER = "pascal-context", "VOCdevkit/VOC2010"
LISTS, LABELS = "ImageSets/SegmentationContext", "SegmentationClassContext"
# The numbers that mmseg's converter takes from Detail's labels, in its order.
MMSEGS = """
0 2 259 260 415 324 9 258 144 18 19 22 23 397 25 284 158 159 416 33 162 420 454 295 296 427 44 45
46 308 59 440 445 31 232 65 354 424 68 326 72 458 34 207 80 355 85 347 220 349 360 98 187 104 105
366 189 368 113 115
"""


def test_the_classes_and_their_numbers():
    assert tuple(LISTED) == PascalContextDataset59.METAINFO["classes"]
    assert sorted(LISTED) == sorted(PUBLISHED_CLASSES[1:])
    assert [0, *LISTED.values()] == sorted(map(int, MMSEGS.split()))


def test_lists_and_labels(make, tmp_path):
    last, *_ = make(tmp_path, NAME)
    folder = tmp_path / FOLDER
    assert last == f"{folder}: train 3, val 2 images"
    numbers = [0, *LISTED.values()]
    for split, names in CONTEXT.items():
        assert read_ids(folder / LISTS / f"{split}.txt") == names
        for name in names:
            stored = np.asarray(Image.open(folder / LABELS / f"{name}.png"))
            # As mmseg's converter does it, where no other number occurs.
            published = np.where(np.isin(listed(name), numbers), listed(name), 0)
            expected = np.digitize(published, sorted(numbers), right=True)
            assert stored.dtype == np.uint8 and np.array_equal(stored, expected)
            assert len(np.unique(stored)) > 50
            raw = read_listed(folder / f"trainval/{name}.mat")
            assert raw.dtype == np.uint16 and np.array_equal(raw, listed(name))
    assert (folder / "labels.txt").read_text().splitlines()[430] == "431: unknown"
    assert check(tmp_path, NAME, subset=True) == ({"train": 3, "val": 2}, [])
    assert make(tmp_path, NAME, [])[:1] == [last] and get(tmp_path, NAME) == []
    # The published labels may be deleted, with whatever is wrong in them.
    raw = folder / "trainval/c1.mat"
    raw.write_bytes(raw.read_bytes()[:-100])
    (fault,) = check(tmp_path, NAME, subset=True)[1]
    assert fault.startswith(f"{raw}: no label of PASCAL-Context")
    shutil.rmtree(folder / "trainval")
    assert check(tmp_path, NAME, subset=True)[1] == []
    assert make(tmp_path, NAME, [])[:1] == [last] and get(tmp_path, NAME) == []


def test_what_mmsegs_converter_made_is_not_written_over(make, tmp_path):
    """Its lists lack three images."""
    make(tmp_path, NAME)
    path = tmp_path / FOLDER / LISTS / "train.txt"
    path.write_text("c0\nc1\n")
    assert "train.txt: 2 images, published are 4,998" in check(tmp_path, NAME)[1][-2]
    shutil.rmtree(tmp_path / FOLDER / LABELS)
    with pytest.raises(UserError, match=r"train.txt: has 2 names, not the 3 .*move it away"):
        make(tmp_path, NAME, [])
    assert path.read_text() == "c0\nc1\n"


def test_archives_that_are_others_or_lack_something(make, archives, tmp_path):
    images, labels = archives[NAME]
    lacking = {name: mat for name, mat in context().items() if "c1" not in name}
    # PASCAL-Part's archive has the same name.
    part = {name.replace("trainval/", "Annotations_Part/"): m for name, m in context().items()}
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(labels.read_bytes()[:-2000])
    for files, message in (
        ([images], r"\.mat labels is still missing .*--archive trainval.tar.gz"),
        ([tgz(tmp_path / "part.tar.gz", part)], "nothing of PASCAL-Context in it .*trainval/"),
        ([cut], "damaged archive"),
        ([tgz(tmp_path / "few.tar.gz", lacking)], "faults in it: 1, such as .*c1.png: no such"),
    ):
        with pytest.raises(UserError, match=message):
            make(tmp_path / "data", NAME, files)
    # Of the published number of files.
    with pytest.raises(UserError, match=r"trainval: 5 images, published are 10,103"):
        make(tmp_path / "all", NAME, [labels], subset=False)
    wrong = voc2010() | {"VOCdevkit/VOC2010/ImageSets/Main/val.txt": b"t1\nc2\n"}
    with pytest.raises(UserError, match=r"val.txt: 1 of its images are trained on by .*t1"):
        make(tmp_path / "other", NAME, [tgz(tmp_path / images.name, wrong), labels])


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_labels_that_are_none_name_the_file(tmp_path):
    path = tmp_path / "a.mat"
    for content, message in (
        (dict(LabelMap=np.full((3, 3), 460, np.uint16)), "labels outside 0-459"),
        (dict(LabelMap=np.full((3, 3), 1.5)), "labels outside 0-459"),
        (dict(LabelMap=np.array([[np.nan, 1]])), "labels outside 0-459"),
        (dict(LabelMap=np.zeros((3, 3, 3), np.uint8)), r"labels are uint8 of \(3, 3, 3\)"),
        (dict(anno=np.zeros((3, 3), np.uint8)), "LabelMap"),
    ):
        savemat(path, content)
        with pytest.raises(UserError, match=f"{path}: .*{message}.*PASCAL-Context's archive again"):
            read_context(path)
    savemat(path, dict(LabelMap=np.array([[0, 2, 458, 459]], float)))  # double, MATLAB's default
    assert read_context(path).tolist() == [[0, 1, 59, 0]]
    with pytest.raises(FileNotFoundError, match=r"b\.mat"):
        read_context(tmp_path / "b.mat")


def test_killed_at_any_moment_it_ends_in_the_same_tree(make, tmp_path):
    make(tmp_path / "whole", NAME)
    expected = tree(tmp_path / "whole")

    def prepare(root: Path) -> None:
        make(root, NAME)

    operations = killed.run(lambda: prepare(tmp_path / "count"), tmp_path / "count")
    for moment in random.Random(0).sample(range(1, operations), 8):
        root = tmp_path / str(moment)
        assert killed.run(lambda: prepare(root), root, moment) == -signal.SIGKILL  # noqa: B023
        prepare(root)
        assert tree(root) == expected, moment
