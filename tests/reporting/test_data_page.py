"""The page about a data set: its numbers, its pictures, and what it warns of."""

import io
import random
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmseg.registry import TRANSFORMS
from PIL import Image
from report_samples import Page

from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.errors import UserError
from fcn_plugin.report.data_facts import Picture, Split, splits_of
from fcn_plugin.report.data_findings import findings, pairs_of
from fcn_plugin.report.data_page import write_data_page_of
from fcn_plugin.report.data_pictures import augmented, gallery, thumbnails

NAMES = ["ground", "<b>tree</b>", "dot"]
PALETTE = [[0, 0, 0], [10, 200, 30], [250, 20, 40]]
LOAD = [dict(type="LoadCheckedImage"), dict(type="LoadCheckedLabel", num_classes=3)]
PACK = [dict(type="PackSegInputs")]


def photograph(seed: int, size=(60, 90)) -> np.ndarray:
    cells = np.random.default_rng(seed).integers(0, 256, (12, 18, 3), np.uint8)
    return np.asarray(Image.fromarray(cells).resize(size[::-1]))


def label_of(seed: int, size=(60, 90)) -> np.ndarray:
    """Ground and trees; void on the left; one dot of one pixel in the first."""
    label = np.zeros(size, np.uint8)
    label[: 5 + seed] = 1
    label[:, :4] = IGNORED
    if seed == 0:
        label[-2, -2] = 2
    return label


def write(root: Path, split: str, seeds, size=(60, 90), written=label_of) -> None:
    for seed in seeds:
        for folder, pixels in (
            ("images", photograph(seed, size)),
            ("labels", written(seed, size)),
        ):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / split / f"{seed:03d}.png")


def config(root: Path, train=(), val=(), meta: dict | None = None) -> Config:
    """With these steps between the loading of images and labels, or after it, and packing."""

    def dataset(split: str, pipeline: list) -> dict:
        return dict(
            type="BaseSegDataset",
            data_root=str(root),
            data_prefix=dict(img_path=f"images/{split}", seg_map_path=f"labels/{split}"),
            img_suffix=".png",
            metainfo=dict(classes=NAMES, palette=PALETTE, **(meta or {})),
            pipeline=pipeline,
        )

    loaders = dict(
        train_dataloader=dict(dataset=dataset("train", [*LOAD, *train, *PACK])),
        val_dataloader=dict(dataset=dataset("val", [LOAD[0], *val, LOAD[1], *PACK])),
    )
    return Config(dict(loaders, test_dataloader=loaders["val_dataloader"]))


def decoded(uri: str) -> np.ndarray:
    content = b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """11 training pictures and 5 to validate, of which one is a copy and one lacks its end."""
    root = tmp_path_factory.mktemp("seen") / "mine & yours"
    write(root, "train", range(11))
    write(root, "val", range(100, 105))
    Image.fromarray(photograph(7)).resize((120, 80)).save(root / "images/val/100.png")
    Image.fromarray(label_of(7, (80, 120))).save(root / "labels/val/100.png")
    damaged = root / "images/val/104.png"
    damaged.write_bytes(damaged.read_bytes()[:-300])
    return root


def test_the_page_has_the_counts_of_the_files(folder, tmp_path):
    half = [dict(type="Resize", scale_factor=0.5)]  # labels count at the pictures' own size
    steps = [dict(type="RandomFlip", prob=1.0)]
    facts = write_data_page_of(config(folder, steps, half), tmp_path / "page.html", True)
    html = (tmp_path / "page.html").read_text()
    page = Page(html)
    assert page.faults == [] and len(html) < 500_000
    labels = [
        [np.asarray(Image.open(file)) for file in sorted((folder / "labels" / split).iterdir())]
        for split in ("train", "val")
    ]
    del labels[1][-1]
    shares = [
        100 * sum((label == value).sum() for label in part) / sum(label.size for label in part)
        for value in (0, 1, 2, IGNORED)
        for part in labels
    ]
    assert page.numbers == pytest.approx(shares)
    assert facts.summary == "11 train and 4 val pictures of 3 classes"
    for text in (
        "mine & yours: the data",
        "<b>tree</b>",
        "104.png: damaged image",
        "shown below): 1 picture of val, 100.png",
        "000.png: 90x60 to 90x60, flipped",
        "val has no pixel of dot",
        "Under 0.1 % of the training pixels are of dot",
    ):
        assert text in page.text
    assert page.text.index("104.png: damaged") < page.text.index("Under 0.1 %")


@pytest.mark.parametrize("wrapper", [None, "RepeatDataset", "MultiImageMixDataset"])
def test_what_cannot_be_read_is_on_the_page_and_not_augmented(wrapper, tmp_path):
    """The first picture is damaged, and the last one's label is another's."""
    write(tmp_path, "train", range(4))
    write(tmp_path, "val", [100])
    damaged = tmp_path / "images/train/000.png"
    damaged.write_bytes(damaged.read_bytes()[:-300])
    Image.fromarray(label_of(3, (20, 90))).save(tmp_path / "labels/train/003.png")
    cfg = config(tmp_path, [dict(type="RandomCrop", crop_size=(40, 50))])
    train = cfg.train_dataloader.dataset
    if wrapper == "RepeatDataset":
        cfg.train_dataloader.dataset = dict(type=wrapper, times=2, dataset=train)
    elif wrapper:
        train = dict(type="ConcatDataset", datasets=[train])
        cfg.train_dataloader.dataset = dict(type=wrapper, dataset=train, pipeline=[])
    facts = write_data_page_of(cfg, tmp_path / "page.html", True)
    text = Page((tmp_path / "page.html").read_text()).text
    assert "000.png: damaged image" in text and "003.png: label of 90x20" in text
    assert {figure["title"][:7] for figure in facts.augmented} == {"001.png", "002.png"}


def test_one_pixel_of_a_large_picture_is_shown_and_marked(tmp_path):
    write(tmp_path, "train", range(2), (700, 1000))
    write(tmp_path, "val", [100])
    chosen = gallery(splits_of(config(tmp_path)))
    figures = list(thumbnails(chosen))
    assert chosen[0].classes == (2,) and chosen[0].picture.path.endswith("000.png")
    labels, (box,) = decoded(figures[0]["labels"]), figures[0]["boxes"]
    rows, columns = np.nonzero((labels == PALETTE[2]).all(-1))
    assert len(rows) and labels.shape[1] <= 320
    assert box["left"] < 100 * columns.min() / labels.shape[1] < box["left"] + box["width"]
    assert box["top"] < 100 * rows.min() / labels.shape[0] < box["top"] + box["height"]
    assert box["width"] < 6 and box["height"] < 6
    shown = {index for figure in figures for index, *_ in figure["legend"]}
    assert shown == {0, 1, 2, 3}


def test_pictures_as_the_network_sees_them(folder):
    """Cropped and flipped as the pipeline does; the global random numbers stay as they are."""
    steps = [
        dict(type="RandomCrop", crop_size=(40, 50)),
        dict(type="RandomFlip", prob=1.0, direction="vertical"),
    ]
    (train, _) = splits_of(config(folder, steps))
    random.seed(3)
    figures = list(augmented(train, 1))
    assert random.random() == random.Random(3).random()
    assert figures == list(augmented(train, 1)) != list(augmented(train, 2))
    assert len(figures) == 12 and len({figure["picture"] for figure in figures}) > 9
    whole = photograph(0)[::-1].astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(whole, (40, 50, 3))[:, :, 0]
    for figure in figures[:3]:
        picture = decoded(figure["picture"]).astype(int)
        distance = np.abs(windows - picture).mean((-1, -2, -3))
        assert distance.min() < 8 < np.sort(distance.ravel())[20]  # JPEG changes little
    flat = splits_of(config(folder, [dict(type="Pad", size=(64, 96))]))[0]
    flat.dataset.pipeline.transforms.pop()
    with pytest.raises(UserError, match=r"let it end with .*PackSegInputs"):
        list(augmented(flat, 0))


@TRANSFORMS.register_module()
class LoadShuffledBands(BaseTransform):
    """Five bands: noise, and the picture's red, green and blue as the bands 5, 4 and 2."""

    def __init__(self, display_bands: tuple[int, ...]) -> None:
        self.display_bands = display_bands

    def transform(self, results: dict) -> dict:
        rgb = np.asarray(Image.open(results["img_path"])).astype(np.uint16) * 257
        bands = np.random.default_rng(0).integers(0, 9999, (*rgb.shape[:2], 5), np.uint16)
        bands[..., [4, 3, 1]] = rgb
        size = rgb.shape[:2]
        return dict(
            results, img=bands, img_shape=size, ori_shape=size, display_bands=self.display_bands
        )


@TRANSFORMS.register_module()
class LoadForeignLabel(BaseTransform):
    """No subclass of mmcv's loader."""

    def transform(self, results: dict) -> dict:
        label = np.asarray(Image.open(results["seg_map_path"]))
        return dict(results, gt_seg_map=label, seg_fields=["gt_seg_map"])


def test_a_users_own_loaders_of_bands_and_labels(folder):
    (plain, _), cfg = splits_of(config(folder)), config(folder)
    load = dict(type="LoadShuffledBands", display_bands=(5, 4, 6))
    cfg.train_dataloader.dataset.pipeline = [load, dict(type="LoadForeignLabel")]
    with pytest.raises(UserError, match=r"display_bands=\(5, 4, 6\): not all in an image of 5"):
        splits_of(cfg)
    load["display_bands"] = (5, 4, 2)
    cfg.train_dataloader.dataset.pipeline = [load, dict(type="LoadForeignLabel")]
    cfg.val_dataloader = cfg.test_dataloader = None
    (split,) = splits_of(cfg)
    assert np.array_equal(split.counts, plain.counts)
    (one, *_), (other, *_) = (thumbnails(gallery([part])) for part in (split, plain))
    difference = np.abs(decoded(one["picture"]).astype(int) - decoded(other["picture"]))
    assert difference.mean() < 10  # stretched to 8 bits


def test_wrapped_data_sets_and_a_test_set_without_labels(folder):
    cfg = config(folder)
    train, val = (cfg[f"{name}_dataloader"].dataset for name in ("train", "val"))
    both = dict(type="ConcatDataset", datasets=[train, val])
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=3, dataset=both)
    cfg.splits = dict(test=dict(data_prefix=dict(img_path="images/train")))
    splits = splits_of(cfg)
    assert [(s.name, len(s.pictures), len(s.labelled)) for s in splits] == [
        ("train", 11 + 4, 11 + 4),
        ("val", 4, 4),
        ("test", 11, 0),
    ]
    texts = [finding.text for finding in findings(splits, pairs_of(splits))]
    assert sum("Trained on and in" in text for text in texts) == 2
    assert len(list(thumbnails(gallery(splits)))) == 12
    cfg.splits.test.data_prefix.img_path = "images/not there"
    assert [split.name for split in splits_of(cfg)] == ["train", "val"]


# --- what is warned of ---------------------------------------------------------------------------


def made_up(name: str, counts, sizes=((100, 100),), faults=(), first=0) -> Split:
    """Pictures with these pixels of a, b, c and void; hashes are random, after their numbers."""
    pictures = [
        Picture(
            f"{name}/{i}.png",
            (0, i),
            sizes[i % len(sizes)],
            np.array(row, np.int64),
            np.random.default_rng(first + i).integers(0, 256, 32, np.uint8),
        )
        for i, row in enumerate(counts)
    ]
    dataset = SimpleNamespace(metainfo=dict(classes=("a", "b", "c")))
    return Split(name, name, dataset, pictures, faults)


GOOD = [[50, 30, 20, 5]] * 25
VAL = made_up("val", GOOD[:5], first=1000)
CASES = {
    "a|good": ([], [made_up("train", GOOD), VAL]),
    "few": (["Only 3 pictures to train on"], [made_up("train", GOOD[:3]), VAL]),
    "missing": (
        ["No training pixel is of c, though val has pixels of it"],
        [made_up("train", [[50, 30, 0, 5]] * 25), VAL],
    ),
    "missing in val": (
        ["val has no pixel of b"],
        [made_up("train", GOOD), made_up("val", [[50, 0, 20, 0]], first=1000)],
    ),
    "one value": (
        ["one value only: void", "is of a, b, c", "100 % of the pixels of train are void"],
        [made_up("train", [[0, 0, 0, 9]] * 25), VAL],
    ),
    "masks of 0 and 255": (
        ["one value only besides void: a", "is of b, c, though val has"],
        [made_up("train", [[80, 0, 0, 20]] * 25), VAL],
    ),
    "void": (["60 % of the pixels of train are void"], [made_up("train", [[20, 10, 10, 60]] * 25)]),
    "rare": (
        ["Under 0.1 % of the training pixels are of c"],
        [made_up("train", [[5000, 5000, 9, 0]] * 25)],
    ),
    "sizes": (
        ["from 50x100 to 400x300"],
        [made_up("train", GOOD, sizes=[(100, 50), (300, 400)])],
    ),
    "unreadable": (
        ["Cannot be used: 2 pictures of train; one: bad; two: bad"],
        [made_up("train", GOOD, faults=["one: bad", "two: bad"])],
    ),
    "copies": (
        ["1 picture of val, 0.png"],
        [made_up("train", GOOD), made_up("val", GOOD[:1], first=4)],
    ),
    "same files": (
        ["Trained on and in test as well, which makes scores too good: 2 pictures, 0.png, 1.png"],
        [made_up("train", GOOD), made_up("train", GOOD[:2])],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_findings(case):
    expected, splits = CASES[case]
    if case == "same files":
        splits[1].name = "test"
    found = findings(splits, pairs_of(splits))
    assert len(found) == len(expected), found
    for finding, text in zip(found, expected, strict=True):
        assert text in finding.text and finding.remedy


def test_rarest_classes_come_first_and_are_not_repeated():
    counts = [[90, 10, 0, 0], [60, 40, 0, 0], [95, 3, 2, 0], [99, 0, 1, 0]]
    chosen = gallery([made_up("train", counts), made_up("val", [[0, 0, 9, 0]], first=9)])
    assert [(one.picture.place[1], one.classes) for one in chosen[:1]] == [(2, (2,))]
    assert len({one.picture.path for one in chosen}) == len(chosen) == 4
