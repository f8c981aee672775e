"""Archives for the leaderboards: their layout, every fault found, whole however they end.

Any archive is in property/test_any_submission.py.
"""

import io
import random
import shutil
import signal
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import killed
import numpy as np
import pytest
import torch
from data.pictures import exif
from evaluation.archives import FOLDER, MIT, VOC, unpacked
from mmengine import dist
from mmengine.logging import MMLogger
from mmseg.datasets import PascalVOCDataset
from mmseg.registry import METRICS
from PIL import Image

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.leaderboards import leaderboard_of
from fcn_plugin.evaluation.submission_archive import image_size

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


def labels_of(sample: dict) -> np.ndarray:
    return sample["pred_sem_seg"]["data"][0].numpy()


def metric(file: Path, classes=VOC.classes, comp: int | None = None, **meta):
    made = METRICS.build(dict(type="SubmissionMetric", file=str(file), comp=comp))
    made.dataset_meta = dict(classes=classes, **meta)
    return made


def submit(file: Path, given: list[dict], *args, **settings) -> list[Image.Image]:
    """The pictures in the archive that the metric makes."""
    made = metric(file, *args, **settings)
    for sample in given:
        made.process({}, [sample])
    assert made.evaluate(len(given)) == {}
    return [Image.open(io.BytesIO(content)) for content in unpacked(file.read_bytes()).values()]


@pytest.fixture
def log(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize(
    ("year", "comp", "folder"),
    [("VOC2012", None, FOLDER), ("VOC2011", 5, "results/VOC2011/Segmentation/comp5_test_cls/")],
)
def test_voc(tmp_path, year, comp, folder):
    given, file = samples(tmp_path / "VOCdevkit" / year / "JPEGImages", 21), tmp_path / "out.tgz"
    found = submit(file, given, comp=comp)
    content = file.read_bytes()
    assert [*unpacked(content)] == [f"{folder}im{i:04d}.png" for i in range(5)]
    for sample, image in zip(given, found, strict=True):
        assert (image.format, image.mode) == ("PNG", "P")
        assert np.array_equal(np.asarray(image), labels_of(sample))
        colours = np.array(image.getpalette()).reshape(256, 3)
        assert colours[:21].tolist() == PascalVOCDataset.METAINFO["palette"]
        assert colours[255].tolist() == [224, 224, 192]
    # The bytes are the same on another day and in another order.
    assert content[4:8] == bytes(4)  # gzip's time
    submit(file, given[::-1], comp=comp)
    assert file.read_bytes() == content


@pytest.mark.parametrize("wanted", [5, 1456])
def test_mit_and_whether_it_is_a_rehearsal(tmp_path, log, wanted):
    """A list that was cut short would cost an upload."""
    given, file = samples(tmp_path / "testing", 150), tmp_path / "deep/out.zip"
    made = metric(file, MIT.classes)
    made.board = replace(made.board, images=wanted)
    made.process({}, given)
    made.evaluate(5)
    assert ("rehearsal" in log.text) == (wanted != 5)
    with zipfile.ZipFile(file) as archive:
        entries = [(info.filename, info.external_attr >> 16) for info in archive.infolist()]
    assert entries == [(f"im{i:04d}.png", 0o644) for i in range(5)]
    for sample, content in zip(given, unpacked(file.read_bytes()).values(), strict=True):
        image = Image.open(io.BytesIO(content))
        assert (image.format, image.mode) == ("PNG", "L")
        assert np.array_equal(np.asarray(image), labels_of(sample) + 1)


# classes of one's own, how its files number them, the numbers in the PNGs
OTHERS = [
    (["background", "apple"], dict(label_map=None), [0, 1]),
    (["hat", "apple"], dict(reduce_zero_label=True, label_map={0: 1, 1: 255, 2: 0}), [3, 1]),
]


@pytest.mark.parametrize(("classes", "numbering", "numbers"), OTHERS)
def test_any_other_data_set_in_its_own_numbers(tmp_path, log, classes, numbering, numbers):
    """Its own palette, also when VOC has some of its classes; never a rehearsal."""
    palette = [[9, 9, 9], [1, 2, 3], [200, 0, 0]][: len(classes)]
    given = samples(tmp_path / "mine", len(classes))
    found = submit(tmp_path / "out.zip", given, classes, palette=palette, **numbering)
    assert "5 predictions, index PNGs, read back and valid" in log.text
    assert "rehearsal" not in log.text
    for sample, image in zip(given, found, strict=True):
        assert np.array_equal(np.asarray(image), np.array(numbers)[labels_of(sample)])
        assert np.reshape(image.getpalette(), (256, 3))[numbers].tolist() == palette


def test_classes_in_another_order_get_the_servers_numbers(tmp_path):
    given = samples(tmp_path, 21)
    shuffled = random.Random(0).sample(VOC.classes, 21)
    for sample, image in zip(given, submit(tmp_path / "out.tar.gz", given, shuffled), strict=True):
        names = np.array(VOC.classes)[np.asarray(image)]
        assert np.array_equal(names, np.array(shuffled)[labels_of(sample)])
    assert leaderboard_of(shuffled) is VOC and leaderboard_of(MIT.classes[::-1]) is MIT


def test_the_size_is_that_of_the_image_turned_upright(tmp_path):
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.jpg"
        Image.new("RGB", (30, 20)).save(path, exif=exif(orientation))
        assert image_size(str(path)) == ((30, 20) if orientation < 5 else (20, 30))


def test_what_a_sampler_repeats_is_there_once(tmp_path, monkeypatch):
    """Three processes, here one after another."""
    given = samples(tmp_path, 21)
    submit(tmp_path / "one.tgz", given)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(dist, "broadcast_object_list", lambda data: None)
    ranks = []

    def be(rank: int) -> None:
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr(dist, "is_main_process", lambda: rank == 0)

    for rank in range(3):
        be(rank)
        ranks.append(metric(tmp_path / "many.tgz"))
        ranks[-1].process({}, [*given, given[0]][rank::3])
    parts = [list(made.results) for made in ranks]
    monkeypatch.setattr(dist, "all_gather_object", lambda part: parts)
    for rank in reversed(range(3)):
        be(rank)
        ranks[rank].evaluate(len(given))
    assert (tmp_path / "many.tgz").read_bytes() == (tmp_path / "one.tgz").read_bytes()


# the archive, classes, competition, what is said before the first sample
REFUSED = [
    ("out.zip", VOC.classes, None, "out.zip: for VOC it is a .tgz or .tar.gz; name it out.tgz"),
    ("../..", VOC.classes, None, "name it results.tgz"),
    ("out.tgz", VOC.classes, 3, "VOC has no competition 3; give 5 or 6"),
    ("out.zip", MIT.classes, 6, "MIT has no competition 6; it has none"),
    ("out.tgz", VOC.classes[:20], None, "20 of VOC's 21 classes .*leave metainfo.classes out"),
    ("out", ("a", "b"), None, "for your data it is a .zip; name it out.zip"),
    ("folder.tgz", VOC.classes, None, "folder.tgz: a folder"),
    ("file/out.tgz", VOC.classes, None, "file.*: (Not a directory|File exists); .*out"),
]


@pytest.mark.parametrize(("name", "classes", "comp", "message"), REFUSED)
def test_refused_at_once(tmp_path, name, classes, comp, message):
    (tmp_path / "folder.tgz").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=message) as error:
        metric(tmp_path / name, classes, comp)
    assert "\n" not in str(error.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.tgz"]


def size_of_another(given: list[dict]) -> None:
    given[1]["pred_sem_seg"]["data"] = torch.zeros(1, 4, 8, dtype=torch.int64)


def outside(given: list[dict]) -> None:
    given[1]["pred_sem_seg"]["data"].fill_(21)


def one_name_twice(given: list[dict]) -> None:
    path = Path(given[0]["img_path"])
    (path.parent / "sub").mkdir()
    given[1]["img_path"] = str(shutil.copy(path, path.parent / "sub"))


def listed_twice(given: list[dict]) -> None:
    given[4] = given[0]


def two_years(given: list[dict]) -> None:
    for year, sample in zip(("VOC2007", "VOC2012"), given, strict=False):
        sample["img_path"] = f"{year}/{sample['img_path']}"  # refused before it is looked for


def full_disk(given: list[dict]) -> None:
    """/dev/full takes the place of the archive's; writing to it fails as on a full disk."""
    (Path(given[0]["img_path"]).parent / "out.tgz.part").symlink_to("/dev/full")


SPOILT = [
    (size_of_another, "1 faults in it: .*im0001.png: it is 8x4 for an image of 4x8; correct"),
    (outside, "im0001.jpg: predicted outside the 21 classes"),
    (one_name_twice, "sub/im0000.jpg: .*im0000.jpg has the same name"),
    (listed_twice, "4 images are predicted and the data set has 5; take repeated lines"),
    (two_years, "images of VOC2007 and VOC2012"),
    (full_disk, "out.tgz: No space left on device; .*make room"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_the_file_stays_as_it_was(tmp_path, spoil, message):
    (tmp_path / "out.tgz").write_text("before")
    given = samples(tmp_path, 21)
    spoil(given)
    with pytest.raises(UserError, match=message):
        submit(tmp_path / "out.tgz", given)
    assert (tmp_path / "out.tgz").read_text() == "before"
    assert not (tmp_path / "out.tgz.part").exists()
    assert spoil is outside or not list(tmp_path.glob(".*spool"))


@pytest.mark.parametrize(("name", "board"), [("out.tgz", VOC), ("out.zip", MIT)])
def test_killed_at_any_moment(tmp_path, name, board):
    """The file is the old one or the new one; the next run, whatever it finds, succeeds."""
    given, file = samples(tmp_path / "images", 21), tmp_path / name
    submit(file, given, board.classes)
    new = file.read_bytes()
    submit(file, given[:3], board.classes)
    old = file.read_bytes()
    write = partial(submit, file, given, board.classes)
    contents = set()
    for moment in range(1, 1 + killed.run(write, tmp_path)):
        file.write_bytes(old)
        assert killed.run(write, tmp_path, moment) == -signal.SIGKILL
        contents.add(file.read_bytes())
        write()
        assert file.read_bytes() == new
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["images", name]
    assert contents == {old, new}
