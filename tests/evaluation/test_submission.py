"""Archives for the leaderboards: their layout, every fault found, whole however they end."""

import gzip
import io
import multiprocessing
import os
import random
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import dist
from mmengine.logging import MMLogger
from mmseg.datasets import ADE20KDataset, PascalVOCDataset
from mmseg.registry import METRICS
from PIL import Image

from fcn_plugin.data.camvid import CamVidDataset
from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.leaderboards import LEADERBOARDS, leaderboard_of
from fcn_plugin.evaluation.submission_archive import archive_faults, image_size, png_fault

VOC, MIT = (kind.METAINFO["classes"] for kind in (PascalVOCDataset, ADE20KDataset))
VOC_BOARD, MIT_BOARD = LEADERBOARDS
CLS = "results/VOC2012/Segmentation/comp6_test_cls"
SIZES = [(9, 5), (4, 8), (1, 1), (6, 6), (7, 3)]


def samples(folder: Path, classes: int, count: int = len(SIZES)) -> list[dict]:
    """Images of several sizes in ``folder`` and random predictions for them."""
    generator = torch.Generator().manual_seed(3)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i in range(count):
        width, height = SIZES[i % len(SIZES)]
        path = folder / f"im{i:04d}.jpg"
        Image.new("RGB", (width, height)).save(path)
        labels = torch.randint(0, classes, (1, height, width), generator=generator)
        made.append(dict(img_path=str(path), pred_sem_seg=dict(data=labels)))
    return made


def metric(file: Path, classes=VOC, **settings):
    made = METRICS.build(dict(type="SubmissionMetric", file=str(file), **settings))
    made.dataset_meta = dict(classes=classes)
    return made


def submit(file: Path, given: list[dict], classes=VOC, **settings) -> None:
    made = metric(file, classes, **settings)
    for sample in given:
        made.process({}, [sample])
    assert made.evaluate(len(given)) == {}


def tgz_members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        assert all(info.isfile() for info in archive)
        return {info.name: archive.extractfile(info).read() for info in archive}


def zip_members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


# --- the layout ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("year", "comp", "folder"),
    [("VOC2012", None, CLS), ("VOC2011", 5, CLS.replace("2012", "2011").replace("6", "5"))],
)
def test_voc(tmp_path, year, comp, folder):
    given = samples(tmp_path / "VOCdevkit" / year / "JPEGImages", 21)
    submit(tmp_path / "out.tgz", given, comp=comp)
    found = tgz_members(tmp_path / "out.tgz")
    assert list(found) == [f"{folder}/im{i:04d}.png" for i in range(5)]
    for sample, content in zip(given, found.values(), strict=True):
        image = Image.open(io.BytesIO(content))
        assert (image.format, image.mode) == ("PNG", "P")
        assert np.array_equal(np.asarray(image), sample["pred_sem_seg"]["data"][0])
        colours = np.array(image.getpalette()).reshape(256, 3)
        assert colours[:21].tolist() == PascalVOCDataset.METAINFO["palette"]
        assert colours[255].tolist() == [224, 224, 192]
    assert [entry.name for entry in tmp_path.iterdir() if "out.tgz" in entry.name] == ["out.tgz"]


def test_mit(tmp_path):
    given = samples(tmp_path / "testing", 150)
    submit(tmp_path / "deep" / "out.zip", given, MIT)
    found = zip_members(tmp_path / "deep" / "out.zip")
    assert list(found) == [f"im{i:04d}.png" for i in range(5)]
    for sample, content in zip(given, found.values(), strict=True):
        image = Image.open(io.BytesIO(content))
        assert (image.format, image.mode) == ("PNG", "L")
        assert np.array_equal(np.asarray(image), sample["pred_sem_seg"]["data"][0] + 1)


def test_any_other_data_set_in_its_own_numbers(tmp_path):
    """Two of three classes in another order; void in the truth has no part in it."""
    made = METRICS.build(dict(type="SubmissionMetric", file=str(tmp_path / "out.zip")))
    palette, label_map = [[200, 0, 0], [1, 2, 3]], {0: 1, 1: 255, 2: 0}
    meta = dict(classes=["hat", "apple"], palette=palette, label_map=label_map)
    made.dataset_meta = meta | dict(reduce_zero_label=True)
    given = samples(tmp_path / "mine", 2)
    made.process({}, given)
    made.evaluate(len(given))
    for sample, content in zip(given, zip_members(tmp_path / "out.zip").values(), strict=True):
        image = Image.open(io.BytesIO(content))
        expected = np.array([3, 1])[sample["pred_sem_seg"]["data"][0].numpy()]
        assert np.array_equal(np.asarray(image), expected)
        assert image.getpalette()[3:12] == [1, 2, 3, 0, 0, 0, 200, 0, 0]
    lacking = png_fault(content, replace(made.board, numbers=(1, 2)), image.size)
    assert lacking == "has the value 3, not only 1-2"


@pytest.mark.parametrize("classes", [["background", "cat", "dog"], ["background", "apple"]])
def test_any_other_data_set(tmp_path, caplog, classes):
    """Index PNGs with its own palette, also when VOC has all its classes; never a rehearsal."""
    palette = [[9, 9, 9], [1, 2, 3], [200, 0, 0]][: len(classes)]
    made = METRICS.build(dict(type="SubmissionMetric", file=str(tmp_path / "out.zip")))
    made.dataset_meta = dict(classes=classes, palette=palette, label_map=None)
    given = samples(tmp_path / "mine", len(classes))
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        made.process({}, given)
        made.evaluate(len(given))
    finally:
        logger.removeHandler(caplog.handler)
    assert "5 predictions, index PNGs, read back and valid" in caplog.text
    assert "rehearsal" not in caplog.text
    found = zip_members(tmp_path / "out.zip")
    assert list(found) == [f"im{i:04d}.png" for i in range(5)]
    for sample, content in zip(given, found.values(), strict=True):
        image = Image.open(io.BytesIO(content))
        assert np.array_equal(np.asarray(image), sample["pred_sem_seg"]["data"][0])
        assert np.reshape(image.getpalette(), (256, 3))[: len(classes)].tolist() == palette


def test_classes_in_another_order_get_the_servers_numbers(tmp_path):
    given = samples(tmp_path, 21)
    shuffled = random.Random(0).sample(VOC, 21)
    submit(tmp_path / "out.tar.gz", given, shuffled)
    for sample, content in zip(given, tgz_members(tmp_path / "out.tar.gz").values(), strict=True):
        names = np.array(VOC)[np.asarray(Image.open(io.BytesIO(content)))]
        assert np.array_equal(names, np.array(shuffled)[sample["pred_sem_seg"]["data"][0].numpy()])


def test_the_size_is_that_of_the_image_turned_upright(tmp_path):
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.jpg"
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (30, 20)).save(path, exif=exif)
        loaded = LoadCheckedImage().transform(dict(img_path=str(path)))
        assert image_size(str(path)) == loaded["ori_shape"][::-1]
    assert image_size(str(tmp_path / "6.jpg")) == (20, 30)


@pytest.mark.parametrize(("name", "classes"), [("out.tgz", VOC), ("out.zip", MIT)])
def test_the_bytes_are_the_same_on_another_day_and_in_another_order(tmp_path, name, classes):
    given = samples(tmp_path, 21)
    submit(tmp_path / name, given, classes)
    first = (tmp_path / name).read_bytes()
    os.utime(tmp_path / name, (0, 0))
    submit(tmp_path / name, given[::-1], classes)
    assert (tmp_path / name).read_bytes() == first
    assert (tmp_path / name).stat().st_mtime > 0


# --- several processes, here one after another ----------------------------------------------------


@pytest.mark.parametrize("world", [2, 3])
def test_what_a_sampler_repeats_is_there_once(tmp_path, monkeypatch, world):
    given = samples(tmp_path, 21)
    submit(tmp_path / "one.tgz", given)
    monkeypatch.setattr(dist, "get_world_size", lambda: world)
    monkeypatch.setattr(dist, "broadcast_object_list", lambda data: None)
    rounds = -(-len(given) // world)
    dealt = [given[i % len(given)] for i in range(rounds * world)]
    ranks = []
    for rank in range(world):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(dist, "is_main_process", lambda rank=rank: rank == 0)
        ranks.append(metric(tmp_path / "many.tgz"))
        ranks[-1].process({}, dealt[rank::world])
    parts = [list(made.results) for made in ranks]
    monkeypatch.setattr(dist, "all_gather_object", lambda part: parts)
    for rank, made in reversed(list(enumerate(ranks))):
        monkeypatch.setattr(dist, "is_main_process", lambda rank=rank: rank == 0)
        made.evaluate(len(given))
    assert (tmp_path / "many.tgz").read_bytes() == (tmp_path / "one.tgz").read_bytes()


def test_a_failure_of_the_first_process_is_one_of_all(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(dist, "broadcast_object_list", lambda data: told.append(data[0]))
    made = metric(tmp_path / "out.tgz")
    with pytest.raises(UserError, match="data set has 3"):
        made.evaluate(3)
    assert told[0] is None and "data set has 3" in told[1]

    def receive(data: list) -> None:
        data[0] = "what went wrong there"

    monkeypatch.setattr(dist, "is_main_process", lambda: False)
    monkeypatch.setattr(dist, "broadcast_object_list", receive)
    with pytest.raises(UserError, match="what went wrong there"):
        made.evaluate(3)


# --- what will not do is said before the first sample ---------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "settings", "message"),
    [
        ("out.zip", VOC, {}, r"out.zip: for VOC it is a .tgz or .tar.gz; name it out.tgz"),
        ("out.tgz", MIT, {}, r"out.tgz: for MIT it is a .zip; name it out.zip"),
        ("out", MIT, {}, r"name it out.zip"),
        ("../..", VOC, {}, r"name it results.tgz"),
        ("out.tgz", VOC, dict(comp=3), r"VOC has no competition 3; give 5 or 6"),
        ("out.zip", MIT, dict(comp=6), r"MIT has no competition 6; it has none"),
        ("out.tgz", VOC[:20], {}, r"has 20 of VOC's 21 classes .*leave metainfo.classes out"),
        ("out.zip", MIT[5:9], {}, r"has 4 of MIT's 150 classes"),
        (
            "out.tgz",
            CamVidDataset.METAINFO["classes"],
            {},
            r"out.tgz: for your data it is a .zip; name it out.zip",
        ),
        ("folder.tgz", VOC, {}, r"folder.tgz: a folder"),
        ("file/out.tgz", VOC, {}, r"file.*: (Not a directory|File exists); .*out.tgz was not"),
    ],
)
def test_refused_at_once(tmp_path, name, classes, settings, message):
    (tmp_path / "folder.tgz").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=message) as error:
        metric(tmp_path / name, classes, **settings)
    assert "\n" not in str(error.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.tgz"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        metric(tmp_path / "out.tgz")


# --- what only shows in the end leaves the file as it was -----------------------------------------


def wrong_size(given: list[dict]) -> None:
    given[1]["pred_sem_seg"]["data"] = torch.zeros(1, 4, 8, dtype=torch.int64)


def outside(given: list[dict]) -> None:
    given[1]["pred_sem_seg"]["data"] += 21


def one_name_twice(given: list[dict]) -> None:
    path = Path(given[0]["img_path"])
    (path.parent / "sub").mkdir()
    other = path.parent / "sub" / path.name
    other.write_bytes(path.read_bytes())
    given[1]["img_path"] = str(other)


def listed_twice(given: list[dict]) -> None:
    given[4] = given[0]


def two_years(given: list[dict]) -> None:
    folder = Path(given[0]["img_path"]).parent
    for year, sample in zip(("VOC2007", "VOC2012"), given, strict=False):
        (folder / year).mkdir()
        moved = Path(sample["img_path"]).rename(folder / year / f"{year}.jpg")
        sample["img_path"] = str(moved)


def image_gone(given: list[dict]) -> None:
    Path(given[3]["img_path"]).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_size, r"1 faults in it: .*im0001.png: it is 8x4 for an image of 4x8; put that"),
        (outside, r"im0001.jpg: predicted outside the 21 classes"),
        (one_name_twice, r"sub/im0000.jpg: .*im0000.jpg has the same name"),
        (listed_twice, r"4 images are predicted and the data set has 5; take repeated lines"),
        (two_years, r"images of VOC2007 and VOC2012"),
        (image_gone, r"im0003.jpg: No such file or directory"),
    ],
)
def test_the_file_stays_as_it_was(tmp_path, spoil, message):
    (tmp_path / "out.tgz").write_text("before")
    given = samples(tmp_path, 21)
    spoil(given)
    with pytest.raises(UserError, match=message):
        submit(tmp_path / "out.tgz", given)
    assert (tmp_path / "out.tgz").read_text() == "before"
    assert not (tmp_path / "out.tgz.part").exists()


def test_a_full_disk(tmp_path, monkeypatch):
    """/dev/full takes the place of the archive's; writing to it fails as on a full disk."""
    (tmp_path / "out.tgz").write_text("before")
    given = samples(tmp_path, 21)
    (tmp_path / "out.tgz.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"out.tgz: No space left on device; .*make room"):
        submit(tmp_path / "out.tgz", given)
    assert (tmp_path / "out.tgz").read_text() == "before"
    assert [e.name for e in tmp_path.iterdir() if "spool" in e.name or "part" in e.name] == []


# --- forged archives -----------------------------------------------------------------------------

VALUES = dict(a=1, b=7, c=20)  # of the PNGs in a sound archive
SIZE = (12, 10)
Members = list[tuple[str, bytes]]


def png(board, value: int = 7, size=SIZE, mode: str | None = None, palette=None) -> bytes:
    made = Image.new(mode or ("P" if board.palette else "L"), size, value)
    if made.mode == "P":
        made.putpalette([level for colour in palette or board.palette for level in colour])
    stream = io.BytesIO()
    made.save(stream, "PNG")
    return stream.getvalue()


def path_of(board, name: str) -> str:
    return f"{CLS}/{name}.png" if board is VOC_BOARD else f"{name}.png"


def pack(board, file: Path, members: Members) -> None:
    """By other code than the package's."""
    if board is VOC_BOARD:
        with tarfile.open(file, "w:gz") as archive:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    else:
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members:
                archive.writestr(name, content)


def replaced(content: Callable) -> Callable:
    """The second of the PNGs is another."""
    return lambda board, good: [good[0], (good[1][0], content(board)), good[2]]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


GREY = [[level] * 3 for level in range(256)]
BOTH, ONLY_VOC, ONLY_MIT = LEADERBOARDS, (VOC_BOARD,), (MIT_BOARD,)
# what is wrong: (with which archives, the members of the forged one, what the fault says)
FORGERIES: dict[str, tuple[tuple, Callable, str]] = {
    "missing": (BOTH, lambda b, good: good[:2], "c.png: missing"),
    "empty archive": (BOTH, lambda b, good: [], "a.png: missing"),
    "twice": (BOTH, lambda b, good: [*good, good[1]], "b.png: there 2 times"),
    "extra": (
        BOTH,
        lambda b, good: [*good, (path_of(b, "d"), good[0][1])],
        "d.png: not the prediction of an image",
    ),
    "in another folder": (
        BOTH,
        lambda b, good: [good[0], good[1], ("x/c.png", good[2][1])],
        "x/c.png: not the prediction of an image",
    ),
    "size": (
        BOTH,
        replaced(lambda b: png(b, size=SIZE[::-1])),
        "it is 10x12 for an image of 12x10",
    ),
    "RGB": (BOTH, replaced(lambda b: png(b, mode="RGB")), "its mode is RGB, not"),
    "16 bits": (BOTH, replaced(lambda b: png(b, mode="I;16")), "its mode is I;16B, not"),
    "4 bits": (ONLY_VOC, replaced(lambda b: png(b, palette=GREY[:16])), "its mode is P;4, not"),
    "grey": (ONLY_VOC, replaced(lambda b: png(b, mode="L")), "its mode is L, not indexed"),
    "indexed": (ONLY_MIT, replaced(lambda b: png(VOC_BOARD)), "its mode is P, not grey"),
    "value 0": (ONLY_MIT, replaced(lambda b: png(b, 0)), "has the value 0, not only 1-150"),
    "value 21": (ONLY_VOC, replaced(lambda b: png(b, 21)), "has the value 21, not only 0-20"),
    "value 151": (BOTH, replaced(lambda b: png(b, 151)), "has the value 151, not only"),
    "value 255": (BOTH, replaced(lambda b: png(b, 255)), "has the value 255, not only"),
    "palette": (ONLY_VOC, replaced(lambda b: png(b, palette=GREY)), "its palette is not VOC's"),
    "cut PNG": (BOTH, replaced(lambda b: png(b)[:-30]), "a damaged PNG"),
    "flipped bit": (BOTH, replaced(lambda b: flipped(png(b), -20)), "a damaged PNG"),
    "empty PNG": (BOTH, replaced(lambda b: b""), "a damaged PNG"),
    "GIF": (BOTH, replaced(lambda b: b"GIF89a" * 9), "a damaged PNG"),
}


def good_members(board) -> Members:
    return [(path_of(board, name), png(board, value)) for name, value in VALUES.items()]


def faults_of(file: Path, board) -> list[str]:
    return archive_faults(file, board, {path_of(board, name): SIZE for name in VALUES})


@pytest.mark.parametrize("board", LEADERBOARDS, ids=lambda board: board.name)
def test_a_sound_archive_whoever_made_it(tmp_path, board):
    pack(board, tmp_path / "sound", good_members(board)[::-1])
    assert faults_of(tmp_path / "sound", board) == []


@pytest.mark.parametrize(
    ("board", "name"),
    [pytest.param(b, n, id=f"{b.name}-{n}") for n, (of, _, _) in FORGERIES.items() for b in of],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_forgeries(tmp_path, board, name):
    _, forge, fault = FORGERIES[name]
    pack(board, tmp_path / "forged", forge(board, good_members(board)))
    assert any(fault in found for found in faults_of(tmp_path / "forged", board))


@pytest.mark.parametrize("board", LEADERBOARDS, ids=lambda board: board.name)
def test_an_archive_cut_anywhere(tmp_path, board):
    pack(board, tmp_path / "whole", good_members(board))
    content = (tmp_path / "whole").read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:length])
        assert faults_of(tmp_path / "cut", board), length


def test_a_flipped_bit_in_an_archive(tmp_path):
    """All but gzip's head, and a bit that its decoder does not look at, is under a checksum."""
    pack(VOC_BOARD, tmp_path / "whole", good_members(VOC_BOARD))
    content = (tmp_path / "whole").read_bytes()
    passed = []
    for place in range(20, len(content), 2):
        (tmp_path / "flipped").write_bytes(flipped(content, place))
        if not faults_of(tmp_path / "flipped", VOC_BOARD):
            passed.append(place)
    for place in passed:
        assert gzip.decompress(flipped(content, place)) == gzip.decompress(content)
    assert len(passed) < 5


def test_leaderboards_by_their_classes():
    assert leaderboard_of(VOC) is VOC_BOARD
    assert leaderboard_of(MIT[::-1]) is MIT_BOARD


# --- killed at any moment -------------------------------------------------------------------------

PHASES = ["begun", "spool", "packing", "reading back", "replaced", "ended"]


def phase(file: Path, old: bytes, new: bytes) -> str:
    """How far a run has come, by what is on the disk."""
    spool, part = file.with_name(f".{file.name}.spool"), file.with_name(f"{file.name}.part")
    try:
        size = part.stat().st_size
    except FileNotFoundError:
        size = None
    content = file.read_bytes()
    assert content in (old, new)
    if content == new:
        return "replaced" if spool.exists() else "ended"
    if size is None:
        return "spool" if spool.exists() else "begun"
    return "reading back" if size == len(new) else "packing"


@pytest.mark.parametrize(
    ("name", "classes"),
    [("out.tgz", VOC), pytest.param("out.zip", MIT, marks=pytest.mark.slow)],
)
def test_killed_at_any_moment(tmp_path, name, classes):
    """The file is the old one or the new one; the next run, whatever it finds, succeeds."""
    given = samples(tmp_path / "images", 21, count=100)
    file, chance = tmp_path / name, random.Random(5)
    submit(file, given, classes)
    new = file.read_bytes()
    submit(file, given[:3], classes)
    old = file.read_bytes()

    def started() -> multiprocessing.Process:
        file.write_bytes(old)
        child = multiprocessing.get_context("fork").Process(
            target=submit, args=(file, given, classes)
        )
        child.start()
        return child

    killed_in = Counter(dict.fromkeys(PHASES[1:-1], 0))
    while sum(killed_in[name] for name in PHASES[1:-1]) < 20:
        wanted = min(PHASES[1:-1], key=lambda name: killed_in[name])
        child = started()
        while child.is_alive() and PHASES.index(phase(file, old, new)) < PHASES.index(wanted):
            pass
        time.sleep(10 ** chance.uniform(-4.5, -1.5))  # 0.03 to 30 ms
        child.kill()
        child.join()
        killed_in[phase(file, old, new)] += 1
        submit(file, given, classes)
        assert file.read_bytes() == new
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["images", name]
        assert killed_in["ended"] < 60
    assert all(killed_in.values()), killed_in


def test_only_the_whole_test_list_is_no_rehearsal(tmp_path, caplog):
    """A list that was cut short would cost an upload."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        for images in (4, 5):
            made = metric(tmp_path / "a.tgz")
            made.board = replace(made.board, images=5)
            given = samples(tmp_path, 21, images)
            made.process({}, given)
            made.evaluate(images)
            assert ("rehearsal" in caplog.text) == (images == 4)
            caplog.clear()
    finally:
        logger.removeHandler(caplog.handler)
