"""Every split of every config loads: the right files, whole, by the test pipeline and by --tta's.

On small trees in the layouts of the data sets, as tools/prepare_data.py makes them.
"""

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.datasets import PascalContextDataset, PascalContextDataset59
from mmseg.registry import DATASETS
from PIL import Image

from fcn_plugin.data.catalogue import DATA_SETS, Split
from fcn_plugin.data.pascal_context import PUBLISHED_CLASSES

FOLDER = Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
VOID = 255
CATALOGUE = DATA_SETS.values()
SIZE = (36, 48)
VOC2012, VOC2011, VOC2010 = (f"data/VOCdevkit/VOC{year}" for year in (2012, 2011, 2010))
CAMVID = "data/camvid"
ADE, NYUD, SIFTFLOW = "data/ade/ADEChallengeData2016", "data/nyud", "data/siftflow"


def voc(name: str, labels: str = "SegmentationClass") -> Split:
    return Split(name, 0, "JPEGImages", labels, f"ImageSets/Segmentation/{name}.txt")


# folder -> its splits by name; of the shapes nothing is published.
LAYOUTS = {
    f"data/{d.folder}": {split.name: split for split in d.splits() if not split.is_raw}
    for d in CATALOGUE
}
# The semantic labels; the geometric ones are in prepare/test_siftflow.py.
LAYOUTS[SIFTFLOW] = {split.name: split for split in DATA_SETS["siftflow"].derived[::2]}
LAYOUTS[VOC2012]["trainaug"] = voc("trainaug", "SegmentationClassAug")
LAYOUTS["data/shapes"] = {name: voc(name) for name in ("train", "val")}
# The class that each value of the label files means; the files hold all these values.
CONTEXT = PascalContextDataset.METAINFO["classes"]
PUBLISHED = [PUBLISHED_CLASSES.index(name) for name in CONTEXT]
VOC = {stored: stored for stored in (*range(21), VOID)}
MEANINGS = {
    VOC2010: dict(enumerate(PUBLISHED)),
    ADE: {0: VOID} | {stored: stored - 1 for stored in range(1, 151)},
    CAMVID: {stored: stored for stored in range(11)} | {11: VOID},
    NYUD: {0: VOID} | {stored: stored - 1 for stored in range(1, 41)},
    SIFTFLOW: {0: VOID} | {stored: stored - 1 for stored in range(1, 34)},
    "data/shapes": {stored: stored for stored in (*range(5), VOID)},
}


def stored_label(root: str) -> np.ndarray:
    """What every label file of a data set holds: all its values, again and again."""
    return np.resize(np.array([*MEANINGS.get(root, VOC)], np.uint8), SIZE)


def meaning_of(dataset: dict) -> dict[int, int]:
    """The class that each value of a data set's label files means."""
    meaning = MEANINGS.get(dataset["data_root"], VOC)
    if dataset["type"] == "PascalContextDataset59":
        return {stored: index - 1 if stored else VOID for stored, index in meaning.items()}
    return meaning


def expected_label(dataset: dict) -> np.ndarray:
    return np.vectorize(meaning_of(dataset).get)(stored_label(dataset["data_root"]))


@cache
def _config(name: str) -> Config:
    return Config.fromfile(FOLDER / f"{name}.py")


def config(name: str) -> Config:
    """One's own: mmseg puts what it builds of tta_pipeline into the config."""
    return deepcopy(_config(name))


def files(root: str, split: str, images: str | None = None) -> list[tuple[str, str | None]]:
    """Image and label of each sample of a split; ``images``: in another folder than usual."""
    layout, suffix = LAYOUTS[root][split], ".png" if root in (CAMVID, NYUD) else ".jpg"
    return [
        (
            f"{root}/{images or layout.images}/{split}_{number}{suffix}",
            f"{root}/{layout.labels}/{split}_{number}.png" if layout.labels else None,
        )
        for number in range(2)
    ]


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Path:
    """The folder in which the data sets lie in data/."""
    folder = tmp_path_factory.mktemp("trees")
    random = np.random.default_rng(0)

    def save(pixels: np.ndarray, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    for root, layout in LAYOUTS.items():
        for name, split in layout.items():
            for image, label in files(root, name):
                save(random.integers(0, 256, (*SIZE, 3), np.uint8), folder / image)
                if root == NYUD:
                    beside = folder / image.replace("images", "hha")
                    save(random.integers(0, 256, (*SIZE, 3), np.uint8), beside)
                    beside = folder / image.replace("images", "depth")
                    save(random.integers(1, 9999, SIZE, np.uint16), beside)
                if label:
                    save(stored_label(root), folder / label)
                    if root == SIFTFLOW:
                        geometric = label.replace("semantic", "geometric")
                        save(stored_label(root) % 4, folder / geometric)
            if split.ids:
                path = folder / root / split.ids
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{name}_0\n{name}_1\n")
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder_of_data(trees, monkeypatch):
    monkeypatch.chdir(trees)


def found_files(dataset) -> list[tuple[str, str | None]]:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(info["img_path"], info.get("seg_map_path")) for info in infos]


def build(settings: dict, **changed):
    """The data set, not packed for several processes, which takes a third of a second."""
    return DATASETS.build({**settings, **changed, "serialize_data": False})


def build_split(cfg: Config, split: str, **changed):
    """As tools/test.py --split does it."""
    return build({**cfg.test_dataloader.dataset, **cfg.splits[split]}, **changed)


# Of configs with the same data one is enough.
SPLITS = {
    str((cfg["test_dataloader"]["dataset"], cfg["tta_pipeline"], split, entry)): (name, split)
    for name in NAMES
    for cfg in [_config(name).to_dict()]
    for split, entry in cfg["splits"].items()
}


@pytest.mark.parametrize(("name", "split"), SPLITS.values())
def test_loads(name, split):
    cfg = config(name)
    settings = cfg.test_dataloader.dataset
    label = expected_label(settings)
    dataset = build_split(cfg, split)
    images = settings.data_prefix.img_path if settings.data_root == NYUD else None
    assert found_files(dataset) == files(settings.data_root, split, images)
    if name == "fcn8s_vgg16-bn_camvid-scratch-half":
        assert dataset[0]["inputs"].shape == (3, 180, 240)
    views = build_split(cfg, split, pipeline=cfg.tta_pipeline)
    for alone, several, (_, label_file) in zip(dataset, views, found_files(dataset), strict=True):
        # One of the views is what is seen without --tta, another its mirror image.
        seen = alone["inputs"]
        pairs = zip(several["inputs"], several["data_samples"], strict=True)
        one, other = ((view, meta.flip) for view, meta in pairs if view.shape == seen.shape)
        assert one[0].equal(seen) and other[0].equal(seen.flip(2)) and not other[0].equal(seen)
        assert (one[1], other[1]) == (False, True)
        for sample in (alone["data_samples"], *several["data_samples"]):
            assert sample.ori_shape == SIZE
            # Predictions that are written without labels go by it as well.
            assert sample.reduce_zero_label == (meaning_of(settings)[0] == VOID)
            assert ("gt_sem_seg" in sample) == (label_file is not None)
            if label_file is not None:
                assert np.array_equal(sample.gt_sem_seg.data[0], label)
            if settings.data_root == SIFTFLOW:
                geometric = stored_label(SIFTFLOW) % 4 - np.uint8(1)
                assert np.array_equal(sample.gt_geo_seg.data[0], geometric)


def test_what_is_scored_unless_told_otherwise_is_one_of_them():
    assert len(NAMES) > 30
    for name in NAMES:
        cfg = config(name)
        dataset = cfg.test_dataloader.dataset
        same = [split for split, entry in cfg.splits.items() if {**dataset, **entry} == dataset]
        special = {VOC2011: "seg11valid", NYUD: "test", SIFTFLOW: "test"}
        assert same == [special.get(dataset.data_root, "val")], name
        assert cfg.val_dataloader.dataset == dataset


# config -> the folders and splits it is trained on
TRAINED_ON = {
    "fcn8s_vgg16_voc": [(VOC2012, "train"), (VOC2012, "aug")],
    "fcn8s_vgg16_voc-train": [(VOC2012, "train")],
    "fcn8s_vgg16_voc2011": [("data/sbd", "train")],
    "fcn8s_vgg16_voc2011-heavy": [("data/sbd", "train")],
    "fcn8s_vgg16_pascal-context-heavy": [(VOC2010, "train")],
    "fcn8s_vgg16_pascal-context59": [(VOC2010, "train")],
    "fcn8s_vgg16_ade20k": [(ADE, "train")],
    "fcn8s_vgg16_camvid": [(CAMVID, "train")],
    "fcn32s_vgg16_nyud-color-d-heavy": [(NYUD, "trainval")],
    "fcn8s_vgg16_shapes": [("data/shapes", "train")],
    "fcn8s_vgg16_siftflow-heavy": [(SIFTFLOW, "trainval")],
}


@pytest.mark.parametrize("name", TRAINED_ON)
def test_trains_on(name):
    cfg = config(name)
    dataset = cfg.train_dataloader.dataset
    parts = dataset.get("datasets", [dataset])
    expected = [files(root, split) for root, split in TRAINED_ON[name]]
    assert [found_files(build(part)) for part in parts] == expected
    for part in parts:
        sample, label = build(part)[0], expected_label(part)
        crop = sample["data_samples"].gt_sem_seg
        assert sample["inputs"].shape[1:] == crop.shape and len(crop.data.unique()) > 1
        assert np.isin(crop.data, [*label.flat, VOID]).all()
        whole = build(part, pipeline=cfg.test_dataloader.dataset.pipeline)[0]["data_samples"]
        assert np.array_equal(whole.gt_sem_seg.data[0], label)


def test_the_published_classes_of_pascal_context():
    """Are mmseg's, with their colours, in the order of VOC's; of the 59 background is none."""
    whole, some = (build_split(config(f"fcn8s_vgg16_pascal-context{n}"), "val") for n in ("", "59"))
    assert whole.metainfo["classes"] == PUBLISHED_CLASSES
    mmsegs = zip(CONTEXT, PascalContextDataset.METAINFO["palette"], strict=True)
    palette = map(list, whole.metainfo["palette"])
    assert dict(zip(PUBLISHED_CLASSES, palette, strict=True)) == dict(mmsegs)
    voc = DATASETS.get("PascalVOCDataset").METAINFO["classes"]
    renamed = {"diningtable": "table"}
    assert PUBLISHED_CLASSES[:21] == tuple(renamed.get(name, name) for name in voc)
    assert some.metainfo["classes"] == PUBLISHED_CLASSES[1:]
    assert some.metainfo["palette"] == whole.metainfo["palette"][1:]
    assert PascalContextDataset59.METAINFO["classes"] == CONTEXT[1:]
