"""NYUDv2 from the authors' archive, or from a folder in their layout."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS
from PIL import Image
from prepare.archives_of_sets import NYUD, nyud, tgz
from prepare.test_prepare import get
from scipy.io import loadmat

from fcn_plugin.data.lists import list_text, read_ids
from fcn_plugin.data.nyud import published_lists
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.tree_check import check

CONFIG = Path(__file__).parents[2] / "configs/fcn32s_vgg16_nyud-color-d-heavy.py"
LISTS = "ImageSets/Segmentation"
COUNTS = {"images": 5, "depth": 5, "hha": 5, "train": 1, "val": 2, "trainval": 3, "test": 2}
# Of the authors' data/nyud/*.txt, sorted, with img_ before each number.
MD5 = {
    "train": "f7641fc2dd934111b1487a39ef903cf0",
    "val": "2c5a35e03cb5afdb923b2888ca776a39",
    "test": "0d0a0b59f5ffd49791a6b6f65c35ec4b",
}


def test_the_published_lists():
    lists = published_lists()
    for name, digest in MD5.items():
        assert hashlib.md5(list_text(lists[name]).encode()).hexdigest() == digest
    assert sorted(lists["train"] + lists["val"]) == lists["trainval"]
    everything = [f"img_{number}" for number in range(5001, 6450)]
    assert sorted(lists["trainval"] + lists["test"]) == everything


def test_lists_and_labels(make, tmp_path, monkeypatch):
    counts = ", ".join(f"{name} {count}" for name, count in COUNTS.items())
    assert make(tmp_path / "data", "nyud")[0] == f"{tmp_path}/data/nyud: {counts} images"
    folder = tmp_path / "data/nyud"
    for name in ("train", "val", "test"):
        assert read_ids(folder / LISTS / f"{name}.txt") == NYUD[name]
    for name in NYUD["test"]:
        stored = np.asarray(Image.open(folder / f"SegmentationClass/{name}.png"))
        label = loadmat(folder / f"segmentation/{name}.mat")["segmentation"]
        assert np.array_equal(stored, label) and stored.max() == 40
    assert check(tmp_path / "data", "nyud", subset=True) == (COUNTS, [])
    # The config's data set, and what a class means.
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(CONFIG)
    sample = DATASETS.build(cfg.test_dataloader.dataset)[0]
    found = sample["data_samples"].gt_sem_seg.data[0].numpy()
    label = loadmat(folder / "segmentation/img_5001.mat")["segmentation"]
    assert np.array_equal(found, label.astype(np.uint8) - np.uint8(1))  # void is 255
    assert sample["inputs"].shape == (4, *label.shape)
    assert DATASETS.get("NYUDv2Dataset").METAINFO["classes"][0] == "wall"


def test_a_folder_in_the_authors_layout_is_taken_as_it_is(make, tmp_path):
    """Whose author has no depth; nothing is downloaded."""
    for path, content in nyud().items():
        if "depth" not in path:
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    assert get(tmp_path, "nyud") == []
    make(tmp_path, "nyud", [])
    assert read_ids(tmp_path / "nyud" / LISTS / "trainval.txt") == NYUD["train"] + NYUD["val"]
    # The published labels may be deleted then.
    shutil.rmtree(tmp_path / "nyud/segmentation")
    assert make(tmp_path, "nyud", []) and check(tmp_path, "nyud", subset=True)[1] == []


def test_what_is_refused(make, tmp_path):
    lacking = {name: file for name, file in nyud().items() if "img_5010.mat" not in name}
    with pytest.raises(UserError, match=r"img_5010\.png: no such label"):
        make(tmp_path / "lacking", "nyud", [tgz(tmp_path / "a.tgz", lacking)])
    with pytest.raises(UserError, match="5 images, published are 1,449"):
        make(tmp_path / "few", "nyud", subset=False)
